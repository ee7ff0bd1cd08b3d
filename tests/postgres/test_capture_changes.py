"""Every way to change a row leaves in the changelog what the next checkpoint needs, and nothing else. P1, P20."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.postgres.capturing import Clinic, clinic_on
from tests.postgres.conftest import HostDatabase

from syncline.model.scopes import PlanConfig, ScopeConfig, TableConfig
from syncline.source.postgres.trigger_sql import seal_sql


@pytest.fixture
def clinic(postgres: HostDatabase) -> Iterator[Clinic]:
    with clinic_on(postgres) as clinic:
        clinic.provision()
        yield clinic


VISIT_WAYS = {
    "an update": ("UPDATE visits SET status = 'x' WHERE id = 10", [("U", 10, 1)]),
    "an update of nothing": ("UPDATE visits SET status = 'x' WHERE id = 99", []),
    "an update to the same": ("UPDATE visits SET status = status", []),
    "a number with another scale": ("UPDATE visits SET price = 1.50 WHERE id = 10", [("U", 10, 1)]),
    "json that means the same": ("UPDATE visits SET extra = '{ }' WHERE id = 10", [("U", 10, 1)]),
    "json that stays": ("UPDATE visits SET extra = extra", []),
    "a delete": ("DELETE FROM visits WHERE id = 10", [("D", 10, 1)]),
    "an insert": ("INSERT INTO visits VALUES (30, 1, 'new')", [("I", 30, None)]),
    "another key": ("UPDATE visits SET id = 11 WHERE id = 10", [("D", 10, 1), ("I", 11, None)]),
    "keys that change places": ("UPDATE visits SET id = 30 - id", [("U", 10, 1), ("U", 20, 2)]),
    "an upsert": (
        "INSERT INTO visits VALUES (10, 2, 'up'), (30, 2, 'new') ON CONFLICT (status, patient_id) DO NOTHING",
        None,
    ),
    "a cascade": ("UPDATE patients SET id = 5 WHERE id = 1", [("U", 10, 1)]),
    "set null": ("DELETE FROM patients WHERE id = 2", [("U", 20, 2)]),
    "copy": ("COPY visits(id, patient_id) FROM PROGRAM 'echo 40,1' (FORMAT csv)", [("I", 40, None)]),
    "two in one statement": (
        "WITH gone AS (DELETE FROM visits WHERE id = 10 RETURNING *) INSERT INTO visits SELECT id + 40 FROM gone",
        [("D", 10, 1), ("I", 50, None)],
    ),
}


@pytest.mark.parametrize("way", [way for way, (_, wanted) in VISIT_WAYS.items() if wanted is not None])
def test_what_is_changed_is_captured_with_what_was_before(clinic: Clinic, way: str) -> None:
    statement, wanted = VISIT_WAYS[way]
    clinic.execute(statement)
    assert clinic.changes("visits", "o_1") == wanted
    assert clinic.gaps() == []


def test_an_upsert_is_an_insert_and_an_update(clinic: Clinic) -> None:
    clinic.execute(
        "INSERT INTO drugs VALUES ('a', 'A', 1), ('c', 'C', 1) ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    )
    assert clinic.changes("drugs") == [("U", "a"), ("I", "c")]


def test_minus_zero_and_not_a_number_are_changes(clinic: Clinic) -> None:
    clinic.execute("UPDATE drugs SET dose = 0", "DELETE FROM syncline.changelog_drugs")
    clinic.execute("UPDATE drugs SET dose = '-0' WHERE id = 'a'", "UPDATE drugs SET dose = 'NaN' WHERE id = 'b'")
    clinic.execute("UPDATE drugs SET dose = dose")
    assert clinic.changes("drugs") == [("U", "a"), ("U", "b")]


def test_masks_name_the_columns_that_changed(clinic: Clinic) -> None:
    clinic.execute("UPDATE visits SET price = 9, status = 'x' WHERE id = 10")
    (mask,) = (row[2] for row in clinic.changes("visits", "m_0"))
    from syncline.source.postgres.capture import captures

    assert captures(clinic.plan)["visits"].changed_columns((mask,)) == ["status", "price"]


def test_a_hidden_column_is_nobodys_news(clinic: Clinic) -> None:
    clinic.execute("UPDATE patients SET ssn = '9'")
    assert clinic.changes("patients") == []


def test_a_table_that_only_grants_read_says_no_more_than_that_it_changed(clinic: Clinic) -> None:
    clinic.execute("UPDATE assignments SET remark = 'x'", "DELETE FROM assignments WHERE false")
    assert clinic.database.execute("SELECT op::text FROM syncline.changelog_assignments") == [("U",)]


def test_replication_roles_do_not_switch_capture_off(clinic: Clinic) -> None:
    clinic.execute("SET session_replication_role = replica", "DELETE FROM visits WHERE id = 10")
    clinic.execute("RESET session_replication_role")
    assert clinic.changes("visits") == [("D", 10)]


def test_a_trigger_that_rewrites_the_row_is_seen_with_what_it_wrote(clinic: Clinic) -> None:
    clinic.execute(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN new.id := new.id + 1000; new.status := upper(new.status); RETURN new; END'",
        "CREATE TRIGGER shout BEFORE UPDATE ON visits FOR EACH ROW EXECUTE FUNCTION shout()",
        "UPDATE visits SET status = 'x' WHERE id = 10",
    )
    assert clinic.changes("visits") == [("D", 10), ("I", 1010)]


def test_a_rule_that_redirects_is_captured_where_it_leads(clinic: Clinic) -> None:
    clinic.execute(
        "CREATE RULE elsewhere AS ON DELETE TO drugs DO INSTEAD UPDATE drugs SET name = 'gone' WHERE id = old.id"
    )
    clinic.execute("DELETE FROM drugs WHERE id = 'a'")
    assert clinic.changes("drugs") == [("U", "a")]


@pytest.mark.parametrize("statement", ["TRUNCATE drugs", "TRUNCATE patients CASCADE"])
def test_truncate_leaves_a_gap_in_every_table_that_it_empties(clinic: Clinic, statement: str) -> None:
    clinic.execute(statement)
    assert clinic.gaps() == (["drugs"] if "drugs" in statement else ["patients", "visits"])


def test_an_upload_says_who_writes_and_when(clinic: Clinic) -> None:
    clinic.execute(
        f"BEGIN; SELECT set_config('syncline.stamp', '77:5:' || {seal_sql('secret', '77', '5')}, true) "
        "FROM syncline.pulse; DELETE FROM visits WHERE id = 10; COMMIT",
        "DELETE FROM visits WHERE id = 20",
    )
    (first, second) = clinic.changes("visits", "stamp", "writer")
    assert first[2:] == (77, 5)
    assert second[2] > 1_700_000_000_000_000
    assert second[3] == 0


@pytest.mark.parametrize("told", ["77", "77:5", "77:5:", "77:5:guess", "9223372036854775807:5:", "soon", ":::"])
def test_who_does_not_know_the_secret_says_nothing_of_stamps_and_writers(clinic: Clinic, told: str) -> None:
    clinic.execute(f"SET syncline.stamp = '{told}'", "SET syncline.writer = '5'", "DELETE FROM visits WHERE id = 10")
    ((_, _, stamp, writer),) = clinic.changes("visits", "stamp", "writer")
    assert 1_700_000_000_000_000 < stamp < 9_000_000_000_000_000
    assert writer == 0
    assert clinic.gaps() == []


def test_a_seal_that_was_seen_is_good_in_no_other_transaction_and_for_no_other_stamp(clinic: Clinic) -> None:
    seal = f"SELECT set_config('syncline.stamp', '77:5:' || {seal_sql('secret', '77', '5')}, false) FROM syncline.pulse"
    clinic.execute(
        f"BEGIN; {seal}; DELETE FROM visits WHERE id = 10; "
        "SELECT set_config('syncline.stamp', replace(current_setting('syncline.stamp'), '77:5', '78:5'), false); "
        "UPDATE visits SET price = 7; COMMIT",
        "DELETE FROM visits WHERE id = 20",
    )
    assert [row[2] for row in clinic.changes("visits", "writer")] == [5, 0, 0]


def test_stamps_never_fall_behind_the_newest_that_was_accepted(clinic: Clinic) -> None:
    clinic.execute("UPDATE syncline.pulse SET floor_us = 9000000000000000", "DELETE FROM visits")
    assert {row[2] for row in clinic.changes("visits", "stamp")} == {9000000000000001}


def test_the_doorbell_rings_only_for_a_change_while_the_sequencer_sleeps(clinic: Clinic) -> None:
    listener = clinic.database.connect()
    listener.execute("LISTEN syncline")

    def rung() -> int:
        listener.execute("SELECT 1")
        return len(list(listener.notifies(timeout=0)))

    clinic.execute("UPDATE drugs SET name = 'x'")
    assert rung() == 0
    clinic.execute("UPDATE syncline.pulse SET asleep_until = now() + interval '1 hour'", "UPDATE drugs SET name = 'x'")
    assert rung() == 0
    clinic.execute("UPDATE drugs SET name = 'y'")
    assert rung() == 1
    clinic.execute(
        "UPDATE syncline.pulse SET asleep_until = now() - interval '1 second'", "UPDATE drugs SET name = 'z'"
    )
    assert rung() == 0  # it has died in its sleep


def test_a_bulk_update_is_captured_row_by_row(clinic: Clinic) -> None:
    clinic.execute(
        "INSERT INTO drugs SELECT 'n' || n, 'x', n FROM generate_series(1, 20000) n",
        "DELETE FROM syncline.changelog_drugs",
        "UPDATE drugs SET name = 'one' WHERE id = 'n1'",
        "UPDATE drugs SET name = 'all' WHERE id LIKE 'n%'",
    )
    count = "SELECT count(*), count(DISTINCT k_1), max(op::text) FROM syncline.changelog_drugs"
    assert clinic.database.execute(count) == [(20001, 20000, "U")]


NASTY = (
    'CREATE SCHEMA "a.b"',
    'CREATE TABLE "a.b"."sel""ect%s $syncline$ ü"("we""ird %I" integer PRIMARY KEY, "stamp_us" text, "SELECT" text)',
)


def test_no_name_of_the_companys_breaks_capture(postgres: HostDatabase) -> None:
    name = 'a.b.sel"ect%s $syncline$ ü'
    with clinic_on(postgres, NASTY, PlanConfig((ScopeConfig("all", {name: TableConfig()}),))) as clinic:
        clinic.provision()
        table = '"a.b"."sel""ect%s $syncline$ ü"'
        clinic.execute(f"INSERT INTO {table} VALUES (1, 'a', 'b')", f"UPDATE {table} SET stamp_us = 'c'")
        changes = clinic.database.execute(
            'SELECT op::text, k_1 FROM syncline."changelog_' + name.replace('"', '""') + '"'
        )
        assert changes == [("I", 1), ("U", 1)]
        assert clinic.gaps() == []


PARTS = (
    "CREATE TABLE readings(id integer, day integer, value text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE readings_1 PARTITION OF readings FOR VALUES FROM (0) TO (10) PARTITION BY LIST (day)",
    "CREATE TABLE readings_1_rest PARTITION OF readings_1 DEFAULT",
    "CREATE TABLE readings_2(value text, day integer NOT NULL, id integer NOT NULL)",
    "ALTER TABLE readings ATTACH PARTITION readings_2 FOR VALUES FROM (10) TO (20)",
    "INSERT INTO readings VALUES (1, 5, 'a'), (2, 15, 'b')",
)
EVERYBODY = PlanConfig((ScopeConfig("all", {"readings": TableConfig()}),))


def test_partitions_of_every_level_write_to_the_roots_changelog(postgres: HostDatabase) -> None:
    with clinic_on(postgres, PARTS, EVERYBODY) as clinic:
        clinic.provision()
        clinic.execute(
            "UPDATE readings_1_rest SET value = 'x'",
            "UPDATE readings SET day = 16 WHERE id = 1",
            "DELETE FROM readings_2 WHERE id = 2",
            "TRUNCATE readings_1",
        )
        assert clinic.changes("readings", "k_2") == [("U", 1, 5), ("D", 1, 5), ("I", 1, 16), ("D", 2, 15)]
        assert clinic.gaps() == ["readings"]
