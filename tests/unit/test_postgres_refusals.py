"""P2, P8, P18: whose fault a PostgreSQL error is, and what is told of it."""

from __future__ import annotations

import asyncpg
import pytest

from syncline.source.postgres.refusals import RULE_FAILS, RULE_REFUSES, Treatment, refusal_of, treatment

SECRET = "Key (room)=(of another patient) already exists."


def error(state: str, message: str = "as the server says it", **fields: str) -> asyncpg.PostgresError:
    found = asyncpg.PostgresError(message)
    found.sqlstate = state
    for name, value in {"detail": SECRET, **fields}.items():
        setattr(found, name, value)
    return found


def nothing(text: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("23505", Treatment.REJECT),
        ("23514", Treatment.REJECT),
        ("22001", Treatment.REJECT),
        ("22P05", Treatment.REJECT),
        ("22012", Treatment.REJECT),
        ("44000", Treatment.REJECT),
        ("54000", Treatment.REJECT),
        ("P0001", Treatment.REJECT),
        ("QX123", Treatment.REJECT),
        ("40001", Treatment.RESTART),
        ("40P01", Treatment.RESTART),
        ("55P03", Treatment.RESTART),
        ("57014", Treatment.RESTART),
        ("57P01", Treatment.RESTART),
        ("53100", Treatment.RESTART),
        ("08006", Treatment.RESTART),
        ("25006", Treatment.RESTART),
        ("0A000", Treatment.RESTART),
        ("42501", Treatment.STOP),
        ("42P01", Treatment.STOP),
        ("XX000", Treatment.STOP),
        ("XX001", Treatment.STOP),
        ("28P01", Treatment.STOP),
    ],
)
def test_only_the_datas_fault_is_a_rejection(state: str, expected: Treatment) -> None:
    assert treatment(error(state)) is expected


@pytest.mark.parametrize("state", ["42703", "42883", "42501", "XX000", "0A000"])
def test_what_a_rule_of_the_companys_stumbles_over_holds_up_nobody_else(state: str) -> None:
    inside = error(state, context="PL/pgSQL function visits_rule() line 3 at assignment")
    assert treatment(inside) is Treatment.REJECT
    assert refusal_of(inside, nothing).code == "refused"


def test_damage_is_told_to_the_operator_wherever_it_is_met() -> None:
    assert treatment(error("XX001", context="PL/pgSQL function visits_rule() line 3")) is Treatment.STOP


@pytest.mark.parametrize("state", ["40001", "55P03"])
def test_a_raise_that_calls_itself_a_deadlock_is_believed_until_the_last_try(state: str) -> None:
    raised = error(state, "Closed at night.", server_source_function="exec_stmt_raise")
    assert treatment(raised) is Treatment.RESTART
    assert treatment(raised, is_last_try=True) is Treatment.REJECT
    assert refusal_of(raised, nothing).reason == "Closed at night."


def test_a_rule_that_never_ends_is_refused_at_the_last_try_and_a_deadlock_never() -> None:
    assert treatment(error("57014")) is Treatment.RESTART
    assert treatment(error("57014"), is_last_try=True) is Treatment.REJECT
    assert treatment(error("40P01"), is_last_try=True) is Treatment.RESTART


@pytest.mark.parametrize(
    ("state", "fields", "code", "word"),
    [
        ("23505", {"constraint_name": "visits_room_key"}, "unique", "visits_room_key"),
        ("23P01", {"constraint_name": "no_overlap"}, "unique", "no_overlap"),
        ("23502", {"column_name": "status"}, "not_null", "status"),
        ("23514", {"constraint_name": "visits_n_check"}, "check", "visits_n_check"),
        ("23503", {"constraint_name": "visits_patient_id_fkey"}, "foreign_key", "refers"),
        ("23001", {}, "foreign_key", "refer"),
        ("428C9", {}, "column", "computed"),
        ("22001", {}, "type", "longer"),
        ("22003", {}, "type", "large"),
        ("22P02", {}, "type", "type"),
        ("22P05", {}, "type", "character"),
        ("22021", {}, "type", "character"),
        ("22008", {}, "type", "date"),
        ("54000", {}, "refused", "large"),
        ("42501", {"server_source_function": "ExecWithCheckOptions"}, "rls", "row security"),
        ("42501", {"server_source_function": "aclcheck_error"}, "refused", "allow"),
    ],
)
def test_each_refusal_has_its_code_and_names_no_value(state: str, fields: dict[str, str], code: str, word: str) -> None:
    refusal = refusal_of(error(state, 'invalid input: "of another patient"', **fields), nothing)
    assert refusal.code == code
    assert word in refusal.reason
    assert "another patient" not in refusal.reason


def test_the_companys_own_words_are_passed_on_but_not_where_they_name_what_is_hidden() -> None:
    raised = error("P0001", "A finished visit cannot be planned again.", server_source_function="exec_stmt_raise")
    assert refusal_of(raised, nothing).reason == "A finished visit cannot be planned again."
    assert refusal_of(raised, lambda text: "visit" in text).reason == RULE_REFUSES


def test_the_words_of_a_value_that_fails_inside_a_rule_are_not_passed_on() -> None:
    """They may hold another row's value."""
    inside = error("22P02", 'invalid input syntax for type integer: "SSN-ADA"', context="PL/pgSQL function f() line 1")
    assert (refusal_of(inside, nothing).code, refusal_of(inside, nothing).reason) == ("refused", RULE_FAILS)


def test_what_a_later_change_of_the_group_may_mend_says_so() -> None:
    assert refusal_of(error("23503"), nothing).may_pass_later
    assert refusal_of(error("23505"), nothing).may_pass_later
    assert not refusal_of(error("23502"), nothing).may_pass_later
