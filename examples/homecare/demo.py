"""The demonstration itself: company, server, office and nurses, put together and taken down again."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import TracebackType

from examples.homecare.board import Board, Row
from examples.homecare.company import Size, nurse_id
from examples.homecare.configuration import CONFIG, SOURCE, FolderError, is_complete, make_folder
from examples.homecare.device import Owner
from examples.homecare.nurse import Nurse
from examples.homecare.office import Office
from examples.homecare.server import Server, make_token, run_command
from examples.homecare.texts import counted
from syncline.system.lock import FileLock

LOOK_SECONDS = 0.2
COMMANDS_AT_ONCE = 4


class DemoError(Exception):
    """The day cannot go on; the message says why."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for. `pace` 2 is twice as fast."""

    folder: Path = Path("demo-data")
    size: Size = field(default_factory=Size)
    devices: int = 5
    pace: float = 1.0
    port: int = 0
    once: bool = False
    keep: bool = False


class Demo:
    """Everything that runs, from entering to leaving the block; the nurses stop before the server does."""

    def __init__(self, options: Options, board: Board) -> None:
        self.options, self.board = options, board
        self.random = Random(f"{options.size.seed}:day")
        self.source = options.folder / SOURCE
        self.nurses: list[Nurse] = []
        self._stack = ExitStack()

    def __enter__(self) -> Demo:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        folder, size = self.options.folder, self.options.size
        self._lock_folder(folder)
        if self.options.keep and is_complete(folder):
            self.board.tell("demo", "goes on with the company of the last run")
        else:
            parts = (counted(size.nurses, "nurse"), counted(size.patients, "patient"), counted(size.visits, "visit"))
            self.board.tell("demo", f"makes a company: {', '.join(parts)}")
            make_folder(folder, size)
        self._stack.callback(keep_log(folder))
        people = self._read_people()
        with ThreadPoolExecutor(COMMANDS_AT_ONCE) as pool:
            tokens = pool.map(lambda owner: make_token(folder, owner.key), people)
            self._serve(folder)
            for owner, token in zip(people, tokens, strict=True):
                self.nurses.append(self._employ(owner, token))
        self.office = Office(self.source, Random(f"{size.seed}:office"))
        self._stack.callback(self.office.close)

    def _lock_folder(self, folder: Path) -> None:
        """A second demonstration would make the files anew under the first."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        if not lock.acquire():
            raise FolderError(
                f"A demonstration is running in {folder} ({lock.owner()}). End it with ^C, or use --folder OTHER."
            )
        self._stack.callback(lock.remove)

    def _read_people(self) -> list[Owner]:
        with closing(sqlite3.connect(self.source)) as db:
            found = db.execute(
                "SELECT id, name, language FROM nurses ORDER BY id LIMIT ?", (self.options.devices,)
            ).fetchall()
        return [Owner(*row) for row in found]

    def _serve(self, folder: Path) -> None:
        self.board.tell("demo", "provisions it: `syncline provision`")
        run_command(folder, "provision", "--config", CONFIG)
        self.server = self._stack.enter_context(Server(folder, ("--port", str(self.options.port))))
        self.board.tell("server", f"listening on {self.server.url}", "bold")

    def _employ(self, owner: Owner, token: str) -> Nurse:
        folder, random = self.options.folder, Random(f"{self.options.size.seed}:{owner.key}")
        nurse = Nurse(owner, folder / f"{owner.key}.db", self.server.url, token, self.board.tell, random)
        self._stack.callback(nurse.switch_off)
        return nurse

    # ------------------------------------------------------------ time
    def look(self) -> None:
        """Notice what happened everywhere and show it."""
        if self.server.exit_status is not None:
            raise DemoError(
                f"The server ended by itself ({self.server.exit_status}): see {self.options.folder}/server.log."
            )
        for nurse in self.nurses:
            nurse.look()
        self.board.show([row_of(nurse) for nurse in self.nurses])

    def pause(self, seconds: float) -> None:
        """Let the day go on for a while, `pace` times as fast."""
        end = time.monotonic() + seconds / self.options.pace
        while True:
            self.look()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(LOOK_SECONDS, left))

    def wait_until(self, reached: Callable[[], bool], seconds: float, what: str) -> bool:
        """Watch until it is so; False, and a line that says so, when it is not after `seconds`."""
        end = time.monotonic() + seconds
        self.look()
        while not reached():
            if time.monotonic() > end:
                self.board.tell("demo", f"gave up waiting after {seconds:.0f} s: {what}", "bold red")
                return False
            time.sleep(LOOK_SECONDS / 3)
            self.look()
        return True

    def colleague_of(self, nurse: Nurse) -> str:
        """Who takes over a patient: another of the simulated ones, else somebody of the company, else herself."""
        simulated = [other.key for other in self.nurses if other is not nurse]
        employed = [nurse_id(number) for number in range(1, min(self.options.size.nurses, 3) + 1)]
        others = simulated or [key for key in employed if key != nurse.key] or [nurse.key]
        return self.random.choice(others)


def keep_log(folder: Path) -> Callable[[], None]:
    """What the replicas log goes to devices.log: on the terminal it would tear the picture. Answers how to undo it."""
    handler = logging.FileHandler(folder / "devices.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("syncline")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

    def undo() -> None:
        logger.removeHandler(handler)
        handler.close()

    return undo


def row_of(nurse: Nurse) -> Row:
    status = nurse.status
    return Row(
        key=nurse.key,
        name=nurse.name,
        has_signal=nurse.has_signal,
        state=nurse.state,
        patients=nurse.patient_count,
        pending=status.pending if status else 0,
        refused=status.rejected if status else 0,
        last_sync=local_time(status.last_synced_at if status else None),
        latest=nurse.latest,
    )


def local_time(utc: str | None) -> str:
    """The time of day where we are."""
    if utc is None:
        return "never"
    return datetime.fromisoformat(utc).replace(tzinfo=UTC).astimezone().strftime("%H:%M:%S")
