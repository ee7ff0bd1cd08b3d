"""What counts as a broken promise of the side that is attacked: data in a log or an error, an error without a code."""

from __future__ import annotations

import logging
from types import TracebackType

from tests.hostile.mutations import CANARY

from syncline.error_catalogue import CATALOGUE
from syncline.errors import SynclineError


class BrokenPromiseError(AssertionError):
    """Found by a case."""


def require(holds: bool, promise: str) -> None:
    if not holds:
        raise BrokenPromiseError(promise)


def require_told(error: SynclineError, *, is_server_text: bool = False) -> str:
    """The error's code: one of the catalogue, in a text that repeats no value. `is_server_text`: the other side chose
    the words."""
    if not is_server_text:
        require(error.error_code in CATALOGUE, f"the code {error.error_code} is in no catalogue")
        require(CANARY not in str(error), f"the error {error.error_code} repeats a value")
    return error.error_code


class Logs(logging.Handler):
    """Every line that Syncline logs, at every level; in each is looked for values at once."""

    def __init__(self, *canaries: str) -> None:
        super().__init__(logging.DEBUG)
        self._canaries = canaries or (CANARY,)
        self._logger = logging.getLogger("syncline")
        self._formatter = logging.Formatter()
        self.count = 0
        self.leaked: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        text = self._formatter.format(record)
        if any(canary in text for canary in self._canaries):
            self.leaked.append(text)

    def __enter__(self) -> Logs:
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.addHandler(self)
        self._logger.setLevel(logging.DEBUG)
        self._logger.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]
