"""What stops single tables while all else goes on, and how it is told: in the log, by /readyz and by `doctor` alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from asyncpg.exceptions import PostgresError

from syncline.model.scopes import Plan
from syncline.source.generations import raised_by
from syncline.source.port import Finding
from syncline.source.postgres.names import SCHEMA, table_sql
from syncline.source.postgres.trouble import is_connection_lost

_STOPPED = "stopped "
"""So begins the mark of a gap that waits until its table can be followed again."""
_OF_ALL = ("08", "25", "26", "28", "3B", "3D", "40", "53", "55006", "55P03", "57", "58", "72", "F0")
"""SQLSTATEs, and classes of them, of the session, the transaction or the whole server: connections, conflicts, locks,
memory, disk, an operator. Whatever else is said while one table is worked on, also by rules of the company's with
numbers of its own, is said of that table."""
AGAIN = "Run: syncline provision, with --owner-url where the service may not; what was missed is sent anew."

_WORKS_AGAIN = (
    "Change the database back, or the configuration and restart. A running server tries again by itself; one that "
    "starts refuses the configuration."
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Of one captured table: what kind, and what the database says of it, if anything."""

    code: str
    why: str = ""

    @property
    def mark(self) -> str:
        """For the queue `gap`: readers pass it over, and other processes learn from it what is the matter."""
        return f"{_STOPPED}{self.code} {self.why}"

    @classmethod
    def parse(cls, mark: str) -> Trouble | None:
        """None where the next checkpoint takes the gap."""
        if not mark.startswith(_STOPPED):
            return None
        code, _, why = mark.removeprefix(_STOPPED).partition(" ")
        return cls(code, why)


class TableFailsError(Exception):
    """A cut failed at what it computed of this table; it may be taken without it."""

    def __init__(self, table: str, error: PostgresError) -> None:
        super().__init__(table)
        self.table = table
        self.error = error

    @property
    def trouble(self) -> Trouble:
        return Trouble("table_fails", words_of(self.error))


@contextmanager
def blaming(table: str) -> Iterator[None]:
    """TableFailsError where a statement can only fail for what this table is."""
    try:
        yield
    except PostgresError as error:
        if not is_of_a_table(error):
            raise
        raise TableFailsError(table, error) from error


def words_of(error: BaseException) -> str:
    """What the database says, as one line without a stop at its end."""
    return str(error.args[0] if error.args else error).splitlines()[0].rstrip(".")


def is_of_a_table(error: BaseException) -> bool:
    state = str(getattr(error, "sqlstate", None) or "")
    if not isinstance(error, PostgresError) or not state or is_connection_lost(error):
        return False
    is_of_ours = state.startswith("23") and getattr(error, "schema_name", None) == SCHEMA  # a constraint on our tables
    return not (state.startswith(_OF_ALL) or is_of_ours)


def stopped_by(plan: Plan, tables: Iterable[str]) -> frozenset[str]:
    """These tables, and every synced table whose paths run through one."""
    found = frozenset(tables)
    return found | raised_by(plan, found)


# ---------------------------------------------------------------- in words
def consequence(plan: Plan, tables: Iterable[str], code: str) -> str:
    """What follows for devices from a trouble of this kind."""
    tables = frozenset(tables)
    asking = sorted(scope for scope, read in plan.grant_reads.items() if tables & read)
    if asking and code in _UNREADABLE:
        return f"The grant of scope {', '.join(asking)} reads it: checkpoints are taken, and devices wait."
    stopped = ", ".join(sorted(stopped_by(plan, tables)))
    return f"Devices get nothing new of {stopped} until it is mended; all else goes on."


_UNREADABLE = ("service_rights", "row_security")


def told(plan: Plan, troubles: Mapping[str, Trouble]) -> list[Finding]:
    """One finding of each kind and cause, with the tables that it stops; then of each grant that cannot be asked."""
    kinds: dict[Trouble, list[str]] = {}
    for name in sorted(troubles):
        kinds.setdefault(troubles[name], []).append(name)
    found = []
    for trouble, names in sorted(kinds.items(), key=lambda pair: (pair[0].code, pair[1])):
        what, remedy = _said(plan, trouble, names)
        found.append(Finding(f"{what} {consequence(plan, names, trouble.code)}", remedy, trouble.code))
    return [*found, *_of_grants(plan)]


_KINDS = {
    "capture_lost": ("capture_lost", "partition_uncaptured", "capture_disabled"),
    "service_rights": ("service_rights",),
    "row_security": ("row_security",),
}
"""By trouble: the findings that say the same more closely."""


def with_consequences(plan: Plan, findings: list[Finding], troubles: Mapping[str, Trouble]) -> list[Finding]:
    """`findings`, each with what it stops, and the troubles that none of them speaks of."""
    found, left = list(findings), dict(troubles)
    for code, kinds in _KINDS.items():
        names = [name for name, trouble in troubles.items() if trouble.code == code]
        at = next((number for number, each in enumerate(found) if each.code in kinds), None)
        if names and at is not None:
            found[at] = replace(found[at], what=f"{found[at].what} {consequence(plan, names, code)}")
            left = {name: trouble for name, trouble in left.items() if name not in names}
    return found + told(plan, left)


def _said(plan: Plan, trouble: Trouble, names: list[str]) -> tuple[str, str]:
    listed = ", ".join(names)
    if trouble.code == "capture_lost":
        return f"Nothing notices changes of {listed}: capture is lost, or does not fit the table any more.", AGAIN
    if trouble.code == "row_security":
        return (
            f"Row security would hide rows of {listed} from the service, so that it cannot read them at all.",
            "Give the role of [source] url BYPASSRLS, or make it a member of the owner's role.",
        )
    if trouble.code == "service_rights":
        tables = ", ".join(table_sql(plan.schema.table(name)) for name in names)
        return (
            f"The role of [source] url may not read {listed}.",
            f"GRANT SELECT ON {tables}, and USAGE on the schema, to it: syncline doctor says what to type.",
        )
    if trouble.code == "query_fails":
        return (
            f"The filter of {listed} does not work on the database as it is now: {trouble.why}.",
            _WORKS_AGAIN,
        )
    return (
        f"No checkpoint can be computed of {listed}: {trouble.why}.",
        "Mend what the database says: it is tried again by itself.",
    )


def _of_grants(plan: Plan) -> Iterator[Finding]:
    for scope, why in sorted(plan.unfit_grants.items()):
        yield Finding(
            f'The grant of scope "{scope}" cannot be asked: {why}. Checkpoints are taken, and devices wait.',
            _WORKS_AGAIN,
            "grant_fails",
        )
