"""What the company does to its schema while everything runs: at once, or in steps between which others work."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from syncline.source.port import Source
from syncline.testing.plans import plan_for
from syncline.testing.simulation.company import TABLES, Company
from syncline.testing.simulation.server import SimulatedServer

Step = Callable[[], None]
KINDS = (
    "add",
    "add",
    "rename",
    "drop",
    "drop",
    "rebuild",
    "rebuild",
    "trigger",
    "trigger",
    "away",
    "nothing",
    "killed",
)


UNSEEN = ("rebuild", "trigger")
"""Those by which changes are missed."""


class Migrations:
    """`begin` draws one if none is under way, and takes its first step; `go_on` takes the next one."""

    def __init__(self, company: Company, server: SimulatedServer, rng: random.Random) -> None:
        self._company = company
        self._server = server
        self._rng = rng
        self._names = 0
        self._steps: list[Step] = []
        self._command: Source | None = None

    @property
    def is_under_way(self) -> bool:
        return bool(self._steps)

    def begin(self, kinds: Sequence[str] = KINDS) -> str:
        """The kind of it."""
        kind = self._rng.choice(kinds)
        self._steps = getattr(self, f"_{kind}")()
        self.go_on()
        return kind

    def go_on(self) -> None:
        if self._steps:
            self._steps.pop(0)()

    def finish(self) -> None:
        while self._steps:
            self.go_on()

    def close(self) -> None:
        """The command's connection; what it has done is done."""
        command, self._command = self._command, None
        if command is not None:
            self._server.aside(command.close())

    # ------------------------------------------------------------ kinds
    def _run(self, *statements: str) -> Step:
        return lambda: self._company.run(*statements)

    def _run_and_work(self, *statements: str) -> Step:
        """What the company writes before anybody has noticed is seen by no trigger."""

        def run() -> None:
            self._company.run(*statements)
            for _ in range(self._rng.randint(0, 2)):
                self._company.work()
            if self._rng.random() < 0.5:
                self._company.hand_over()

        return run

    def _name(self) -> str:
        """A column's name that was never used: whatever has it, has its values."""
        self._names += 1
        return f"x{self._names}"

    def _with_others(self) -> tuple[str, str] | None:
        """A table and a column that an earlier migration brought."""
        found = [(table, column) for table in TABLES for column in self._company.others(table)]
        return self._rng.choice(found) if found else None

    def _add(self) -> list[Step]:
        table = self._rng.choice((*TABLES, "assignments"))
        default = self._rng.choice(("", " DEFAULT 'd'", " TEXT NOT NULL DEFAULT ''"))
        if not self._company.dialect.has_typeless_columns:
            default = f" TEXT{default.removeprefix(' TEXT')}"
        return [self._run(f"ALTER TABLE {table} ADD COLUMN {self._name()}{default}")]

    def _rename(self) -> list[Step]:
        found = self._with_others()
        if found is None:
            return self._add()
        table, column = found
        return [self._run(f"ALTER TABLE {table} RENAME COLUMN {column} TO {self._name()}")]

    def _drop(self) -> list[Step]:
        """By `syncline migrate`: with capture installed SQLite would refuse it."""
        found = self._with_others()
        if found is None:
            return self._add()
        table, column = found
        return [self._suspend, self._run(f"ALTER TABLE {table} DROP COLUMN {column}"), self._resume]

    def _nothing(self) -> list[Step]:
        """`syncline migrate` with a command that changes nothing."""
        return [self._suspend, self._resume]

    def _killed(self) -> list[Step]:
        """`syncline migrate` dies before it has put capture back: the server does."""
        return [self._suspend, self.close]

    def _rebuild(self) -> list[Step]:
        """As Alembic and Django do it, in one transaction: all triggers are gone."""
        table = self._rng.choice(tuple(self._company.defined))
        others = self._company.others(table)
        kind = "" if self._company.dialect.has_typeless_columns else " TEXT"
        defined = ", ".join((self._company.defined[table], *(f"{other}{kind}" for other in others)))
        columns = ", ".join(part.split()[0] for part in defined.split(", "))
        return [
            self._run_and_work(
                f"CREATE TABLE new_{table}({defined})",
                f"INSERT INTO new_{table}({columns}) SELECT {columns} FROM {table}",
                f"DROP TABLE {table}",
                f"ALTER TABLE new_{table} RENAME TO {table}",
                *self._company.derived[table],
            )
        ]

    def _trigger(self) -> list[Step]:
        """Somebody drops a trigger of ours, and goes on writing."""
        found = [statement for (statement,) in self._company.execute(self._company.dialect.own_triggers())]
        if not found:
            return self._add()
        return [self._run_and_work(self._rng.choice(found))]

    def _away(self) -> list[Step]:
        """A table has another name for a while."""
        table = self._rng.choice(tuple(self._company.defined))
        return [
            self._run(f"ALTER TABLE {table} RENAME TO {table}_away"),
            self._run(f"ALTER TABLE {table}_away RENAME TO {table}"),
        ]

    # ------------------------------------------------------------ the command
    def _suspend(self) -> None:
        """As another process would."""
        self.close()
        self._command = self._server.open_source()
        self._server.aside(self._command.suspend())

    def _resume(self) -> None:
        command = self._command = self._command or self._server.open_source()
        plan = self._server.aside(plan_for(command, self._server.config))
        self._server.aside(command.provision(plan))
        self.close()
