"""What PostgreSQL's errors mean for an upload: whose fault it is, and what the nurse is told.

    treatment  what happens                                   which errors
    reject     back to the savepoint; that mutation is        a constraint, a cast, a policy, a RAISE, or whatever a
               refused                                        rule of the company's fails with
    restart    the whole transaction again, from its first    deadlocks, serialization, locks, time-outs, a lost
               group; SourceBusyError if that does not help   connection, fail-over, a full disk
    stop       SourceError: somebody has to mend it; nothing  a missing right of ours, a moved schema, damage
               is refused and nothing is lost

PostgreSQL gives up more than the statement that failed: what other databases answer by trying the statement again is a
restart here. A reason names constraints and columns, never values: DETAIL has those of other rows, and stays here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from asyncpg.exceptions import PostgresError

from syncline.source.port import SourceRefusedError

Hidden = Callable[[str], bool]
"""Whether a text names what the device may not know."""


class Treatment(enum.Enum):
    REJECT = "reject"
    RESTART = "restart"
    STOP = "stop"


TREATMENTS: dict[str, Treatment] = {
    "08": Treatment.RESTART,  # connection
    "0A": Treatment.RESTART,  # a plan that a pooler or a migration has made stale
    "25": Treatment.RESTART,  # read-only for the moment: a standby answers
    "26": Treatment.STOP,  # a pooler that loses prepared statements
    "28": Treatment.STOP,  # login
    "3D": Treatment.STOP,  # no such database
    "3F": Treatment.STOP,  # no such schema
    "40": Treatment.RESTART,  # deadlock, serialization
    "42": Treatment.STOP,  # names and rights: capture or the plan does not fit
    "53": Treatment.RESTART,  # disk, memory, connections
    "55": Treatment.RESTART,  # locks
    "57": Treatment.RESTART,  # cancelled, shutting down
    "58": Treatment.RESTART,  # the machine below it
    "F0": Treatment.STOP,
    "XX": Treatment.STOP,
}
"""By SQLSTATE class. All others are the data's fault, also those that a company has made up."""

RULE_FAILS = "A rule of the database fails: tell the office."
RULE_REFUSES = "A rule of the database refuses this change."
TAKES_TOO_LONG = "The database did not finish this change in the time that a change may take: tell the office."
POLICY_REFUSES = "The database's row security refuses this change."

_TEXT_STATES = {"21000", "22003", "22007", "22008", "22021", "22023", "22P02", "22P03", "22P05", "2200G", "22009"}
_IN_A_GROUP = ("23503", "23505", "23P01", "P0")
_DATE_STATES = {"22007", "22008", "22009"}


def treatment(error: PostgresError, *, is_last_try: bool = False) -> Treatment:
    """What a rule of the company's raises or stumbles over is the data's fault; where it says otherwise (a RAISE with
    the number of a deadlock, a trigger that never ends), it is believed until the last try."""
    state = state_of(error)
    found = TREATMENTS.get(state[:2], Treatment.REJECT)
    if found is Treatment.RESTART and is_last_try and (is_raised(error) or is_timeout(error)):
        return Treatment.REJECT
    if state.startswith("XX0") and state != "XX000":
        return Treatment.STOP
    if found is Treatment.STOP and is_of_a_rule(error):
        return Treatment.REJECT
    if state[:2] == "0A" and is_of_a_rule(error):
        return Treatment.REJECT
    return found


def state_of(error: PostgresError) -> str:
    """Its SQLSTATE."""
    return str(getattr(error, "sqlstate", None) or "")


def is_timeout(error: BaseException | None) -> bool:
    """Whether the database gave a statement up, for its time or because somebody cancelled it."""
    return isinstance(error, PostgresError) and state_of(error) == "57014"


def is_raised(error: PostgresError) -> bool:
    """Whether PL/pgSQL's RAISE made it."""
    return getattr(error, "server_source_function", None) == "exec_stmt_raise"


def is_of_a_rule(error: PostgresError) -> bool:
    """Whether it happened inside a function: of our own statements none calls one of the company's but by a trigger."""
    return bool(getattr(error, "context", None))


def is_policy(error: PostgresError) -> bool:
    return state_of(error) == "42501" and getattr(error, "server_source_function", None) == "ExecWithCheckOptions"


def refusal_of(error: PostgresError, hidden: Hidden) -> SourceRefusedError:
    """Of an error that is to be rejected."""
    state = state_of(error)
    code, said = _told(state, error)
    if hidden(said):
        said = RULE_REFUSES
    return SourceRefusedError(code, said, may_pass_later=state.startswith(_IN_A_GROUP))


def _told(state: str, error: PostgresError) -> tuple[str, str]:
    name = getattr(error, "constraint_name", None) or ""
    column = getattr(error, "column_name", None) or ""
    if is_raised(error):
        return "refused", str(error.args[0]) if error.args else RULE_REFUSES
    if state in ("23505", "23P01"):
        return "unique", f"Another row already has this value, or stands in its way ({name})."
    if state == "23502":
        return "not_null", f"A value is missing ({column or name})."
    if state in ("23514", "44000"):
        return "check", f"A rule of the database refuses this value ({name})." if name else RULE_REFUSES
    if state in ("23503", "23001"):
        return "foreign_key", "A row that this one refers to does not exist, or others still refer to this one."
    if state == "428C9":
        return "column", "A column is computed by the database and cannot be written."
    if state == "42501":
        return ("rls", POLICY_REFUSES) if is_policy(error) else ("refused", "The database does not allow this change.")
    if state == "57014":
        return "refused", TAKES_TOO_LONG
    if is_of_a_rule(error):
        return "refused", RULE_FAILS
    return _told_of_a_value(state)


def _told_of_a_value(state: str) -> tuple[str, str]:
    if state == "22001":
        return "type", "A text is longer than its column."
    if state == "22003":
        return "type", "A number is too large for its column."
    if state in ("22P05", "22021"):
        return "type", "A text has a character that the database cannot hold."
    if state in _DATE_STATES:
        return "type", "A date or time is not one."
    if state in _TEXT_STATES:
        return "type", "A value is not of the column's type."
    if state.startswith("54"):
        return "refused", "A value is too large for the database."
    return "refused", RULE_FAILS
