"""The company's database: made and provisioned once, then copied for each test."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from syncline.server.config_plan import load_plan
from syncline.server.sources import open_source
from syncline.testing.pair.loop import LoopThread
from syncline.testing.pair.settings import PairSettings

BUSY_SECONDS = 30.0


class Source:
    """The company's database, as its other programs reach it: plain SQL, on a connection for each call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One statement, committed at once; foreign keys are on."""
        with closing(self.connect()) as connection:
            return connection.execute(sql, parameters).fetchall()

    def connect(self) -> sqlite3.Connection:
        """For the caller to close; in autocommit unless it says BEGIN."""
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection


class Templates:
    """Provisioned databases by what they were made of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[object, Path] = {}

    def copy(self, settings: PairSettings, to: Path) -> None:
        if settings.identity not in self._made:
            path = self._folder / f"template-{len(self._made) + 1}.db"
            make_database(settings, path)
            self._made[settings.identity] = path
        shutil.copyfile(self._made[settings.identity], to)


def make_database(settings: PairSettings, path: Path) -> None:
    """The schema, and Syncline's capture in it. ConfigError where the configuration does not fit."""
    path.unlink(missing_ok=True)
    if settings.script is not None:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(settings.script)
    elif isinstance(settings.schema, Path):
        with closing(sqlite3.connect(settings.schema)) as given, closing(sqlite3.connect(path)) as made:
            given.backup(made)
    elif callable(settings.schema):
        settings.schema(path)
    thread = LoopThread("syncline-provision")
    try:
        thread.ask(_provision(settings, path))
    finally:
        thread.close()


async def _provision(settings: PairSettings, path: Path) -> None:
    serving = settings.serving(path)
    source = open_source(serving)
    try:
        await source.provision(await load_plan(serving, source))
    finally:
        await source.close()
