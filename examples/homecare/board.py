"""What the terminal shows: a live table of the nurses and the last things that happened, or plain lines in a pipe."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

LOG_LINES_MIN = 4
LOG_LINES_MAX = 16
NARROW_COLUMNS = 100


@dataclass(frozen=True)
class Row:
    """One nurse, as the table shows her."""

    key: str
    name: str
    has_signal: bool
    state: str
    patients: int
    pending: int
    refused: int
    last_sync: str
    latest: str


class Board(Protocol):
    """A place to show things. `show` may be called as often as one likes."""

    def __enter__(self) -> Board: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tell(self, who: str, what: str, style: str = "") -> None: ...

    def heading(self, text: str) -> None: ...

    def show(self, rows: Sequence[Row]) -> None: ...


def open_board(console: Console, title: str, hint: str) -> Board:
    """A live board on a terminal; lines of text where there is none. `hint` is always in sight."""
    return LiveBoard(console, title, hint) if console.is_terminal else PlainBoard(console, hint)


def clock_text() -> str:
    return datetime.now().strftime("%H:%M:%S")


class PlainBoard:
    """For a pipe or a log file: every event is a line, and the table is left out."""

    def __init__(self, console: Console, hint: str) -> None:
        self._console, self._hint = console, hint

    def __enter__(self) -> PlainBoard:
        self._print(self._hint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def tell(self, who: str, what: str, style: str = "") -> None:
        self._print(f"{clock_text()}  {who:<9}  {what}")

    def heading(self, text: str) -> None:
        self._print(f"\n== {text}")

    def show(self, rows: Sequence[Row]) -> None:
        return

    def _print(self, line: str) -> None:
        """At once: whoever reads the pipe wants to see it live too."""
        print(line, file=self._console.file, flush=True)


class LiveBoard:
    """For a terminal: redrawn in place, and the last picture stays when it ends."""

    def __init__(self, console: Console, title: str, hint: str) -> None:
        self._console, self._title, self._hint = console, title, hint
        self._phase = ""
        self._log: deque[Text] = deque(maxlen=LOG_LINES_MAX)
        self._rows: Sequence[Row] = ()
        # The alternate screen: some terminals count the cells of combining scripts otherwise than we do, and a line
        # that wraps would then leave a copy of the title behind at every refresh.
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop", screen=True)

    def __enter__(self) -> LiveBoard:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._rows:
            self._console.print(Group(self._table(self._rows), self._events(len(self._rows))))

    def tell(self, who: str, what: str, style: str = "") -> None:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{clock_text()}  ", "dim").append(f"{who:<9}  ", "bold").append(what, style)
        self._log.append(line)
        self.show(self._rows)

    def heading(self, text: str) -> None:
        self._phase = text
        line = Text(no_wrap=True, overflow="ellipsis")
        self._log.append(line.append(f"── {text} ", "bold blue"))

    def show(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._live.update(Group(self._table(rows), self._events(len(rows))), refresh=True)

    def _table(self, rows: Sequence[Row]) -> RenderableType:
        caption = Text(f"{self._phase}\n", "bold blue").append(self._hint, "not bold default")
        table = Table(title=self._title, caption=caption, expand=True, title_style="bold", caption_justify="left")
        wide = self._console.width >= NARROW_COLUMNS
        table.add_column("nurse", no_wrap=True)
        table.add_column("device", no_wrap=True)
        if wide:
            table.add_column("patients", justify="right")
        table.add_column("pending", justify="right")
        table.add_column("refused", justify="right")
        if wide:
            table.add_column("last sync", no_wrap=True)
        table.add_column("what just happened", no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows:
            cells: list[RenderableType] = [self._person(row, wide), self._device(row)]
            cells += [str(row.patients)] if wide else []
            cells += [_figure(row.pending, "yellow"), _figure(row.refused, "red")]
            cells += [row.last_sync] if wide else []
            table.add_row(*cells, row.latest)
        return table

    def _person(self, row: Row, wide: bool) -> Text:
        text = Text(row.key, "bold")
        return text.append(f" {row.name}", "not bold") if wide else text

    def _device(self, row: Row) -> Text:
        style = "green" if row.state.startswith("in step") else "yellow" if not row.has_signal else "cyan"
        return Text(f"● {row.state}", style)

    def _events(self, nurses: int) -> RenderableType:
        """As many lines as the terminal has room for: a picture that is too high would flicker."""
        room = max(LOG_LINES_MIN, min(LOG_LINES_MAX, self._console.height - nurses - 11))
        return Panel(Group(*list(self._log)[-room:]), title="what happened", title_align="left", height=room + 2)


def _figure(number: int, style: str) -> Text:
    return Text(str(number), f"bold {style}" if number else "dim")
