"""What PostgreSQL's errors mean for whoever waits: told by their number."""

from __future__ import annotations

import asyncpg
import pytest
from asyncpg.exceptions import PostgresError

from syncline.errors import SourceBusyError, SourceError
from syncline.source.postgres.trouble import is_connection_lost, is_data_fault, is_trouble, source_error

AGAIN = {
    "08006": "source_unreachable",
    "57P01": "source_unreachable",
    "57P03": "source_starting",
    "57P05": "source_unreachable",
    "40001": "source_busy",
    "40P01": "source_busy",
    "55P03": "source_busy",
    "57014": "source_busy",
    "53300": "source_connections",
    "53100": "source_disk_full",
    "25006": "source_read_only",
}
BY_A_PERSON = {
    "42501": "source_rights",
    "28P01": "source_login",
    "3D000": "source_missing",
    "XX001": "source_corrupt",
    "26000": "source_pooler",
    "42P01": "source",
}


def error(state: str, words: str = "words") -> PostgresError:
    made: PostgresError = PostgresError.new({"C": state, "M": words, "S": "ERROR"})
    return made


@pytest.mark.parametrize(("state", "code"), AGAIN.items())
def test_what_may_pass_is_tried_again(state: str, code: str) -> None:
    told = source_error(error(state))
    assert isinstance(told, SourceBusyError) and told.error_code == code and told.retry
    assert is_trouble(error(state)) and not is_data_fault(error(state))


@pytest.mark.parametrize(("state", "code"), BY_A_PERSON.items())
def test_what_a_person_has_to_mend_is_told_as_it_is(state: str, code: str) -> None:
    told = source_error(error(state))
    assert type(told) is SourceError and told.error_code == code
    assert not is_connection_lost(error(state))


@pytest.mark.parametrize("state", ["23505", "23503", "22P02", "44000", "P0001", "27000", "21000"])
def test_what_is_the_datas_fault_is_no_trouble(state: str) -> None:
    assert is_data_fault(error(state)) and not is_trouble(error(state))


@pytest.mark.parametrize(
    "lost",
    [
        ConnectionRefusedError("refused"),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("gone"),
    ],
)
def test_a_database_that_is_not_there_is_tried_again(lost: Exception) -> None:
    assert is_connection_lost(lost)
    assert source_error(lost).error_code == "source_unreachable" and source_error(lost).retry


def test_a_missing_right_names_the_grant() -> None:
    told = source_error(error("42501", "permission denied for table visits"))
    assert "GRANT SELECT ON TABLE visits" in told.hint
    told = source_error(error("42501", 'query would be affected by row-level security policy for table "visits"'))
    assert "BYPASSRLS" in told.hint


def test_a_pooler_that_knows_no_sessions_is_named() -> None:
    told = source_error(error("08P01", "unsupported startup parameter: jit"))
    assert told.error_code == "source_pooler" and "direct_url" in told.hint
