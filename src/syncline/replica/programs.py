"""Programs on the app's side: the one in the file, for whoever has no agent, and one shipped with the app."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from syncline.errors import ProtocolError, ReplicaError
from syncline.model.program import Program, ProgramTable

Bundled: TypeAlias = "str | Path | Mapping[str, Any]"
"""A file that `syncline program` wrote, or its content."""


def load_bundled(program: Bundled) -> Program:
    """ReplicaError (`bundled_program`) for what is no program, or not one for this Syncline."""
    if isinstance(program, Mapping):
        document, name = dict(program), "The program"
    else:
        name = f'"{program}"'
        try:
            document = json.loads(Path(program).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise ReplicaError(
                f"The program that the app brings along, {name}, cannot be read: {error}.",
                hint="Write it with: syncline program > program.json",
                code="bundled_program",
            ) from error
    try:
        return Program.load(document)
    except ProtocolError as error:
        raise ReplicaError(
            f"{name} is not a program for this Syncline: {error.message}",
            hint="Write it anew with the server's version of: syncline program > program.json",
            code="bundled_program",
        ) from error


class ProgramReader:
    """The tables of the program in a file, read again only where there is another one."""

    def __init__(self) -> None:
        self._known: tuple[str, dict[str, ProgramTable]] = ("", {})

    def tables(self, connection: sqlite3.Connection) -> dict[str, ProgramTable]:
        """By name; none where the file has no program yet."""
        row = connection.execute("SELECT hash FROM syncline_program WHERE kind = 'current'").fetchone()
        if row is None:
            return {}
        if row[0] != self._known[0]:
            (found, document) = connection.execute(
                "SELECT hash, document FROM syncline_program WHERE kind = 'current'"
            ).fetchone()
            self._known = (found, Program(json.loads(document)).tables)
        return self._known[1]
