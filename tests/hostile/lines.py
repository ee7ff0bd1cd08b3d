"""Which lines of the code under attack have ever run: what a case reached first is worth keeping."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import syncline

PACKAGE = Path(syncline.__file__).parent
WATCHED = ("protocol", "values.py", "server", "replica", "model/program.py", "source/sqlite/upload.py")


class Lines:
    """`count` grows whenever a line runs for the first time."""

    def __init__(self) -> None:
        self.count = 0
        self._folders = tuple(str(PACKAGE / name) for name in WATCHED)
        self._left: dict[CodeType, set[int]] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        with _monitored(self) if sys.version_info >= (3, 12) else self._traced():
            yield

    def note(self, code: CodeType, line: int) -> None:
        left = self._left_of(code)
        if line in left:
            left.discard(line)
            self.count += 1

    def is_ours(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self._folders)

    def _left_of(self, code: CodeType) -> set[int]:
        """Lines of it that have not run. None of code that is not watched."""
        if code not in self._left:
            lines = {line for _, _, line in code.co_lines() if line} if self.is_ours(code) else set()
            self._left[code] = lines
        return self._left[code]

    # ------------------------------------------------------------ before Python 3.12
    @contextmanager
    def _traced(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._call)
        threading.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(before)  # type: ignore[arg-type]

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Code of which every line has run is not looked at again."""
        return self._line if self._left_of(frame.f_code) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.note(frame.f_code, frame.f_lineno)
        return self._line


@contextmanager
def _monitored(lines: Lines) -> Iterator[None]:
    """Each line tells of itself once."""
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    tool = monitoring.OPTIMIZER_ID

    def note(code: CodeType, line: int) -> Any:
        lines.note(code, line)
        return monitoring.DISABLE

    monitoring.use_tool_id(tool, "syncline-fuzz")
    monitoring.register_callback(tool, monitoring.events.LINE, note)
    monitoring.set_events(tool, monitoring.events.LINE)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
