"""Whether what PostgreSQL says while one table is worked on stops that table, or all. P2, P18."""

from __future__ import annotations

import pytest
from asyncpg.exceptions import PostgresError

from syncline.source.postgres.troubles import TableFailsError, blaming

OF_THE_TABLE = [
    "0A000",
    "22012",
    "38000",
    "42501",
    "54000",
    "55000",
    "55P04",
    "P0001",
    "XX000",
    "XX001",
    "MY001",
    "ZZ999",
]
OF_ALL = ["08006", "25006", "40001", "40P01", "53200", "53300", "55006", "55P03", "57014", "57P01", "58030"]


def failing(state: str, schema: str = "public") -> PostgresError:
    made: PostgresError = PostgresError.new({"C": state, "M": "words", "S": "ERROR", "s": schema})
    return made


@pytest.mark.parametrize("state", OF_THE_TABLE)
def test_what_only_this_table_meets_also_by_a_number_of_the_companys_own(state: str) -> None:
    with pytest.raises(TableFailsError) as stopped, blaming("visits"):
        raise failing(state)
    assert stopped.value.table == "visits"
    assert stopped.value.trouble.why == "words"


@pytest.mark.parametrize("state", OF_ALL)
def test_what_is_of_the_session_or_of_the_server(state: str) -> None:
    with pytest.raises(PostgresError), blaming("visits"):
        raise failing(state)


def test_a_constraint_on_what_is_ours() -> None:
    with pytest.raises(PostgresError), blaming("visits"):
        raise failing("23514", schema="syncline")
