"""Partitioned tables on PostgreSQL: whatever is written wherever, devices see the one table that people query (P1).

Rows move between partitions, partitions come and go beside a running sequencer, and some programs write straight to a
partition.
"""

from __future__ import annotations

import pytest
from tests.postgres.ways import ONE_VERSION, Deed, OpenTown, Town, Ways, beside, for_everybody

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig

WHOLE = {"visits": "true"}
COLUMNS = "id integer NOT NULL, day integer NOT NULL, region text NOT NULL DEFAULT 'n', body text"
FIRST = "INSERT INTO visits SELECT n, n % 30, CASE WHEN n % 2 = 0 THEN 'n' ELSE 's' END, 'v' || n FROM generate_series(1, 60) n"

KINDS: dict[str, tuple[str, ...]] = {
    "range": (
        f"CREATE TABLE visits({COLUMNS}, PRIMARY KEY(id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE visits_a PARTITION OF visits FOR VALUES FROM (0) TO (15)",
        "CREATE TABLE visits_b PARTITION OF visits FOR VALUES FROM (15) TO (100)",
    ),
    "list": (
        f"CREATE TABLE visits({COLUMNS}, PRIMARY KEY(id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE visits_a PARTITION OF visits FOR VALUES IN ('n')",
        "CREATE TABLE visits_b PARTITION OF visits FOR VALUES IN ('s', 'e')",
    ),
    "hash": (
        f"CREATE TABLE visits({COLUMNS}, PRIMARY KEY(id)) PARTITION BY HASH (id)",
        "CREATE TABLE visits_a PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE visits_b PARTITION OF visits FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    ),
    "two levels": (
        f"CREATE TABLE visits({COLUMNS}, PRIMARY KEY(id, day, region)) PARTITION BY RANGE (day)",
        "CREATE TABLE visits_a PARTITION OF visits FOR VALUES FROM (0) TO (15) PARTITION BY LIST (region)",
        "CREATE TABLE visits_a_n PARTITION OF visits_a FOR VALUES IN ('n')",
        "CREATE TABLE visits_a_rest PARTITION OF visits_a DEFAULT",
        "CREATE TABLE visits_b PARTITION OF visits FOR VALUES FROM (15) TO (100)",
    ),
    "a default": (
        f"CREATE TABLE visits({COLUMNS}, PRIMARY KEY(id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE visits_a PARTITION OF visits FOR VALUES FROM (0) TO (15)",
        "CREATE TABLE visits_b PARTITION OF visits DEFAULT",
    ),
    "columns in another order": (
        f"CREATE TABLE visits({COLUMNS}, PRIMARY KEY(id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE visits_a(gone text, body text, region text NOT NULL DEFAULT 'n', day integer NOT NULL, id integer NOT NULL)",
        "ALTER TABLE visits_a DROP COLUMN gone",
        "ALTER TABLE visits ATTACH PARTITION visits_a FOR VALUES FROM (0) TO (15)",
        "CREATE TABLE visits_b PARTITION OF visits DEFAULT",
    ),
}
STRAIGHT: tuple[Deed, ...] = (
    "UPDATE visits_a SET body = 'straight'",
    "DELETE FROM visits_b WHERE id % 3 = 0",
    "TRUNCATE visits_b",
    "INSERT INTO visits_b SELECT * FROM visits WHERE false",
)
RANGE = KINDS["range"]


class TestKinds(Ways):
    @pytest.mark.parametrize("kind", KINDS)
    def test_rows_move_between_partitions(self, open_town: OpenTown, kind: str) -> None:
        """P1: an UPDATE of the partition key is a delete here and an insert there."""
        self.write(open_town((*KINDS[kind], FIRST), for_everybody("visits")))

    @ONE_VERSION
    @pytest.mark.parametrize("kind", ["two levels", "columns in another order"])
    def test_rows_that_devices_only_read_move_between_partitions(self, open_town: OpenTown, kind: str) -> None:
        """P1: no masks are kept of such tables."""
        self.write(open_town((*KINDS[kind], FIRST), for_everybody("visits", read_only=True)))

    @staticmethod
    def write(town: Town) -> None:
        ann, later = town.phone("ann"), town.phone("ann")
        for deed in (
            "UPDATE visits SET day = 29 - day",
            "UPDATE visits SET region = CASE region WHEN 'n' THEN 's' ELSE 'n' END WHERE id < 30",
            "UPDATE visits SET id = id + 1000, body = 'moved' WHERE id % 5 = 0",
            "INSERT INTO visits VALUES(500, 3, 'n', 'new'), (501, 20, 's', 'new')",
            "DELETE FROM visits WHERE id % 4 = 0",
            "WITH gone AS (DELETE FROM visits WHERE id < 20 RETURNING *) INSERT INTO visits SELECT id, 25, 's', body FROM gone",
            lambda town: town.copy("visits", [(600 + n, n, "n", "copied") for n in range(30)]),
            *STRAIGHT,
            "TRUNCATE visits",
            FIRST,
        ):
            town.do(deed)
            town.agrees(ann, WHOLE)
        town.agree([ann, later], WHOLE)

    @ONE_VERSION
    @pytest.mark.parametrize("kind", KINDS)
    def test_several_statements_before_anybody_looks(self, open_town: OpenTown, kind: str) -> None:
        """P1: one batch with moves there and back, straight writes and a truncated partition."""
        town = open_town((*KINDS[kind], FIRST), for_everybody("visits"))
        ann = town.phone("ann")
        town.do("UPDATE visits SET day = 29 - day", *STRAIGHT[:2], "UPDATE visits SET day = 29 - day", *STRAIGHT[2:])
        town.agree([ann], WHOLE)

    def test_upsert_and_merge_over_partitions(self, open_town: OpenTown) -> None:
        """P1."""
        town = open_town((*RANGE, FIRST), for_everybody("visits"))
        ann = town.phone("ann")
        town.execute(
            "INSERT INTO visits VALUES(1, 1, 'n', 'a'), (99, 1, 'n', 'b'), (16, 16, 's', 'c') "
            "ON CONFLICT(id, day) DO UPDATE SET body = excluded.body || '!'"
        )
        town.agrees(ann, WHOLE)
        if town.host.info.server_version >= 150000:
            town.execute(
                "MERGE INTO visits v USING generate_series(1, 70) n ON v.id = n WHEN MATCHED AND n % 2 = 0 THEN DELETE "
                "WHEN MATCHED THEN UPDATE SET day = 29 - day WHEN NOT MATCHED THEN INSERT VALUES(n, n % 30, 'n', 'm')"
            )
        town.agree([ann], WHOLE)

    def test_rows_leave_and_come_by_their_parents_partition(self, open_town: OpenTown) -> None:
        """P8, P9: membership follows a partitioned table on the path."""
        town = open_town(
            (
                "CREATE TABLE patients(id integer PRIMARY KEY, nurse text)",
                "CREATE TABLE visits(id integer, patient_id integer, day integer, PRIMARY KEY(id, day)) PARTITION BY RANGE (day)",
                "CREATE TABLE visits_a PARTITION OF visits FOR VALUES FROM (0) TO (15)",
                "CREATE TABLE visits_b PARTITION OF visits FOR VALUES FROM (15) TO (100)",
                "INSERT INTO patients VALUES(1, 'ann'), (2, 'ben')",
                "INSERT INTO visits SELECT n, 1 + n % 2, n % 30 FROM generate_series(1, 40) n",
                "CREATE INDEX ON visits(patient_id)",
            ),
            PlanConfig(
                (
                    ScopeConfig(
                        "mine",
                        {"visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),))},
                        root="patients",
                        grant="SELECT id FROM patients WHERE nurse = :sub",
                    ),
                )
            ),
        )
        mine = {"visits": "patient_id IN (SELECT id FROM patients WHERE nurse = 'ann')"}
        ann = town.phone("ann")
        for statement in (
            "UPDATE visits SET patient_id = 3 - patient_id, day = 29 - day",
            "UPDATE visits_a SET patient_id = 2",
            "UPDATE visits SET day = 29 - day WHERE patient_id = 2",
            "UPDATE patients SET nurse = 'ann' WHERE id = 2",
            "DELETE FROM visits_b",
        ):
            town.execute(statement)
            town.agree([ann], mine)


class TestComeAndGo(Ways):
    """Partitions that come and go. What a row's place was is nobody's business; that it is there counts."""

    @pytest.fixture
    def town(self, open_town: OpenTown) -> Town:
        return open_town((*RANGE, FIRST), for_everybody("visits"))

    def test_a_partition_made_later_is_captured(self, town: Town) -> None:
        """P1, P20: the very first row that comes into it, too."""
        ann = town.phone("ann")
        town.execute("CREATE TABLE visits_c PARTITION OF visits FOR VALUES FROM (100) TO (200)")
        town.execute("INSERT INTO visits VALUES(900, 150, 'n', 'first of the new partition')")
        town.agrees(ann, WHOLE)
        town.execute("UPDATE visits SET body = 'again' WHERE id = 900", "UPDATE visits SET day = 151 WHERE id = 1")
        town.agrees(ann, WHOLE)
        town.execute("DELETE FROM visits_c WHERE id = 900", "TRUNCATE visits_c")
        town.agree([ann], WHOLE)

    def test_a_full_table_is_attached_and_detached(self, town: Town) -> None:
        """P1, P20: its rows come with ATTACH and go with DETACH, though no row was written."""
        ann = town.phone("ann")
        town.execute(
            f"CREATE TABLE visits_c({COLUMNS})",
            "INSERT INTO visits_c SELECT n, 100 + n % 50, 'n', 'attached' FROM generate_series(1000, 1100) n",
            "ALTER TABLE visits ATTACH PARTITION visits_c FOR VALUES FROM (100) TO (200)",
        )
        town.agrees(ann, WHOLE)
        town.execute("UPDATE visits SET body = 'seen' WHERE day >= 100", "INSERT INTO visits VALUES(1, 199, 'n', 'x')")
        town.agrees(ann, WHOLE)
        town.execute("ALTER TABLE visits DETACH PARTITION visits_c", "UPDATE visits_c SET body = 'no longer ours'")
        town.agree([ann], WHOLE)
        assert ann.execute("SELECT count(*) FROM visits WHERE day >= 100") == [(0,)]
        town.execute("DROP TABLE visits_c", "INSERT INTO visits VALUES(2, 30, 'n', 'still captured')")
        town.agree([ann], WHOLE)

    def test_a_detached_partition_is_the_companys_own_again(self, town: Town) -> None:
        """P15: its rows no longer come to us; it can be attached again with other rows in it."""
        ann = town.phone("ann")
        town.execute("ALTER TABLE visits DETACH PARTITION visits_b")
        town.agrees(ann, WHOLE)
        assert town.ask("SELECT tgname FROM pg_trigger WHERE tgrelid = 'visits_b'::regclass") == []
        town.execute("UPDATE visits_b SET body = 'changed while away'", "DELETE FROM visits_b WHERE id < 30")
        town.agrees(ann, WHOLE)
        town.execute("ALTER TABLE visits ATTACH PARTITION visits_b FOR VALUES FROM (15) TO (100)")
        town.agree([ann], WHOLE)

    def test_a_partition_is_detached_and_attached_again_while_somebody_reads_it(
        self, town: Town, postgres_version: str
    ) -> None:
        """P1, P15: an archive that is being written holds nobody up, and its rows come back with the partition."""
        if postgres_version == "13":
            pytest.skip("PostgreSQL 13.4 attaches no table that has triggers with transition tables")
        ann = town.phone("ann")
        reader = town.connect()
        town.execute("ALTER TABLE visits DETACH PARTITION visits_b")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM visits_b")
        town.execute("UPDATE visits SET body = 'meanwhile'")
        town.agrees(ann, WHOLE)
        reader.execute("COMMIT")
        town.execute("ALTER TABLE visits ATTACH PARTITION visits_b FOR VALUES FROM (15) TO (100)")
        town.agree([ann], WHOLE)

    def test_a_dropped_partition_takes_its_rows(self, town: Town) -> None:
        """P1, P13."""
        ann = town.phone("ann")
        town.execute("UPDATE visits SET body = 'soon gone'", "DROP TABLE visits_b")
        town.agree([ann], WHOLE)

    def test_partitions_come_and_go_beside_a_running_sequencer(self, town: Town) -> None:
        """P15, P20: with writers in between; nothing of the host's fails, and everything agrees in the end."""
        ann, ben = town.phone("ann"), town.phone("ben")
        other = town.connect()

        def month_after_month() -> None:
            for month in range(3, 9):
                low = month * 100
                for statement in (
                    f"CREATE TABLE m{month} PARTITION OF visits FOR VALUES FROM ({low}) TO ({low + 100})",
                    f"INSERT INTO visits SELECT n, {low} + n % 100, 'n', 'm{month}' FROM generate_series(1, 200) n",
                    f"CREATE TABLE n{month}(LIKE visits)",
                    f"INSERT INTO n{month} SELECT n, {low + 1000}, 'n', 'attached' FROM generate_series(1, 50) n",
                    f"ALTER TABLE visits ATTACH PARTITION n{month} FOR VALUES FROM ({low + 1000}) TO ({low + 1100})",
                    f"UPDATE visits SET day = day + 1000 WHERE day >= {low} AND day < {low + 100} AND id % 2 = 0",
                    f"UPDATE n{month} SET body = 'straight' WHERE id < 10",
                    f"ALTER TABLE visits DETACH PARTITION m{month}" if month % 2 else "SELECT",
                    f"DROP TABLE m{month - 1}" if month % 3 == 2 else "SELECT",
                ):
                    other.execute(statement.encode())

        beside(town, month_after_month, ann)
        town.agree([ann, ben], WHOLE)

    def test_detach_concurrently_beside_a_running_sequencer(self, town: Town, postgres_version: str) -> None:
        """P15: it waits for nobody of ours for long."""
        if postgres_version == "13":
            pytest.skip("PostgreSQL 13 has no DETACH PARTITION CONCURRENTLY")
        ann = town.phone("ann")
        other = town.connect(options="-c lock_timeout=20s -c statement_timeout=30s")
        beside(town, lambda: void(other.execute("ALTER TABLE visits DETACH PARTITION visits_b CONCURRENTLY")), ann)
        town.agree([ann], WHOLE)

    def test_deprovision_leaves_no_trace_on_partitions(self, town: Town) -> None:
        """P15: on those that came later, either."""
        town.execute("CREATE TABLE visits_c PARTITION OF visits FOR VALUES FROM (100) TO (200)")
        town.checkpoint()
        town.execute("ALTER TABLE visits DETACH PARTITION visits_b")
        town.checkpoint()
        town.wait(town.source.end_term("term-1"))
        assert town.wait(town.source.deprovision())
        assert town.ask("SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%syncline%'") == []
        assert town.ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'syncline%'") == []


def void(result: object) -> None:
    """For a lambda that is to answer nothing."""
