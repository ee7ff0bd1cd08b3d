"""What any source must do, as tests. An adapter's own test module subclasses `SourceContract` and gives the fixture
`lab`.

    class TestMySource(SourceContract):
        @pytest.fixture
        def lab(self, tmp_path): ...  # yields a SourceLab

Every test builds its tables in plain SQL that all supported databases read.
"""

from __future__ import annotations

from typing import Any

import pytest

from syncline.errors import ConfigError, NotProvisionedError
from syncline.model.merge import Stamp
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import Cut, PageSize, SourceRefusedError, Walk, WriteTransaction
from syncline.testing.contract_between import BetweenContract
from syncline.testing.contract_delta import DeltaContract
from syncline.testing.contract_groups import GroupContract
from syncline.testing.contract_identity import IdentityContract
from syncline.testing.contract_lab import Bench, SourceLab
from syncline.testing.contract_merging import MergeContract
from syncline.testing.contract_migrations import MigrationContract
from syncline.testing.contract_names import NamesContract
from syncline.testing.contract_replace import ReplaceContract
from syncline.testing.contract_retention import RetentionContract
from syncline.testing.contract_seal import SealContract
from syncline.testing.contract_shapes import ShapesContract
from syncline.testing.contract_statements import StatementsContract
from syncline.testing.contract_uploads import UploadContract
from syncline.testing.contract_verify import VerifyContract
from syncline.testing.plans import plan_for

TABLES = (
    "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80), ssn VARCHAR(20), facility_id VARCHAR(20))",
    "CREATE TABLE facilities(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80))",
    "CREATE TABLE visits(id VARCHAR(20) PRIMARY KEY, patient_id VARCHAR(20) REFERENCES patients(id), "
    "status VARCHAR(20), n INTEGER CHECK (n < 1000))",
    'CREATE TABLE "Order Lines"("no" INTEGER, "site" VARCHAR(10), visit_id VARCHAR(20), PRIMARY KEY("no", "site"))',
    "CREATE TABLE assignments(caregiver VARCHAR(20), patient_id VARCHAR(20))",
    "CREATE TABLE loose(a INTEGER, b INTEGER)",
    "INSERT INTO facilities VALUES('f1', 'North'), ('f2', 'South')",
    "INSERT INTO patients VALUES('p1', 'Ada', '111', 'f1'), ('p2', 'Bo', '222', 'f2')",
    "INSERT INTO visits VALUES('v1', 'p1', 'open', 1), ('v2', 'p2', 'open', 2)",
    "INSERT INTO \"Order Lines\" VALUES(1, 'x', 'v1'), (2, 'x', 'v2')",
    "INSERT INTO assignments VALUES('ann', 'p1'), ('bob', 'p2')",
)

CONFIG = PlanConfig(
    scopes=(
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig((LinkConfig(parent="patients"),), where="status <> 'hidden'"),
                "Order Lines": TableConfig((LinkConfig(parent="visits", on={"visit_id": "id"}),)),
                "facilities": TableConfig(
                    (LinkConfig(referenced_by="patients", on={"id": "facility_id"}),), read_only=True
                ),
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE caregiver = :sub",
        ),
    ),
    hide={"patients": ("ssn",)},
)
P1, P2 = 'caseload["p1"]', 'caseload["p2"]'
ANN, BOB = {"sub": "ann"}, {"sub": "bob"}


def puts(cut: Cut, table: str) -> dict[str, str]:
    return {key: row for e in cut.entries if e.table == table for key, row in zip(e.keys, e.rows, strict=True)}


def removes(cut: Cut, table: str) -> set[tuple[str, str]]:
    return {(e.bucket, key) for e in cut.entries if e.table == table for key in e.removed}


class SourceContract(
    NamesContract,
    ShapesContract,
    ReplaceContract,
    StatementsContract,
    BetweenContract,
    SealContract,
    DeltaContract,
    MigrationContract,
    UploadContract,
    MergeContract,
    GroupContract,
    IdentityContract,
    RetentionContract,
    VerifyContract,
):
    """The whole suite: what follows, and one base per subject. It grows with whatever a source has had to learn."""

    @pytest.fixture
    def bench(self, lab: SourceLab) -> Bench:
        for statement in TABLES:
            lab.execute(statement)
        source = lab.open()
        plan = lab.wait(plan_for(source, CONFIG))
        lab.wait(source.provision(plan))
        lab.wait(source.attach(plan))
        assert lab.wait(source.begin_term("term-1"))
        return Bench(lab, source, plan)

    # ------------------------------------------------------------ schema and provisioning
    def test_it_describes_tables_keys_and_foreign_keys(self, bench: Bench) -> None:
        visits = bench.plan.schema.table("visits")
        assert visits.key == ("id",)
        assert [(key.columns, key.table) for key in visits.foreign_keys] == [(("patient_id",), "patients")]
        assert bench.plan.schema.table("order lines").key == ("no", "site")

    def test_a_table_without_a_key_is_refused_with_a_remedy_and_the_rest_works(self, bench: Bench) -> None:
        loose = bench.plan.schema.table("loose")
        assert not loose.key and loose.refusal and loose.remedy
        config = PlanConfig((ScopeConfig("all", {"loose": TableConfig()}),))
        with pytest.raises(ConfigError, match="cannot sync"):
            bench.lab.wait(plan_for(bench.source, config))

    def test_a_query_that_would_write_is_refused(self, bench: Bench) -> None:
        with pytest.raises(ConfigError):
            bench.lab.wait(bench.source.reads_of_query("DELETE FROM visits"))
        assert bench.lab.execute("SELECT count(*) FROM visits") == [(2,)]

    def test_a_query_that_does_not_parse_is_refused(self, bench: Bench) -> None:
        with pytest.raises(ConfigError, match="does not work"):
            bench.lab.wait(bench.source.reads_of_query("SELECT patient_id FRM assignments"))

    def test_provisioning_twice_changes_nothing(self, bench: Bench) -> None:
        before = bench.lab.dump_schema()
        report = bench.lab.wait(bench.source.provision(bench.plan))
        assert not report.created
        assert bench.lab.dump_schema() == before
        assert bench.lab.wait(bench.source.pending_provision(bench.plan)) == []

    def test_deprovisioning_leaves_the_schema_as_it_was(self, lab: SourceLab) -> None:
        """P15."""
        for statement in TABLES:
            lab.execute(statement)
        before = lab.dump_schema()
        source = lab.open()
        plan = lab.wait(plan_for(source, CONFIG))
        lab.wait(source.provision(plan))
        assert lab.dump_schema() != before
        assert lab.wait(source.deprovision())
        assert lab.dump_schema() == before
        assert not lab.wait(source.deprovision())

    def test_serving_without_capture_is_refused(self, lab: SourceLab) -> None:
        for statement in TABLES:
            lab.execute(statement)
        source = lab.open()
        plan = lab.wait(plan_for(source, CONFIG))
        with pytest.raises(NotProvisionedError):
            lab.wait(source.attach(plan))

    # ------------------------------------------------------------ checkpoints
    def test_nothing_due_is_no_checkpoint(self, bench: Bench) -> None:
        assert bench.checkpoint() is None

    def test_insert_update_and_delete_by_anybody_are_captured(self, bench: Bench) -> None:
        bench.lab.execute("INSERT INTO visits VALUES('v3', 'p1', 'open', 3)")
        bench.lab.execute("UPDATE visits SET n = 5 WHERE id = 'v1'")
        bench.lab.execute("DELETE FROM visits WHERE id = 'v2'")
        assert bench.checkpoint()
        assert set(puts(bench.cut(ANN, [P1]), "visits")) == {'["v3"]', '["v1"]'}
        assert removes(bench.cut(BOB, [P2]), "visits") == {(P2, '["v2"]')}

    def test_a_source_transaction_is_never_split(self, bench: Bench) -> None:
        """P7: what is open is in no checkpoint, what is committed is in one."""
        bench.lab.execute("BEGIN")
        bench.lab.execute("UPDATE visits SET n = 7 WHERE id = 'v1'")
        bench.lab.execute("UPDATE patients SET name = 'Ada L.' WHERE id = 'p1'")
        assert bench.checkpoint() is None
        bench.lab.execute("COMMIT")
        taken = bench.checkpoint()
        assert taken and taken.tables == {"visits", "patients"}
        assert bench.checkpoint() is None

    def test_what_is_rolled_back_never_was(self, bench: Bench) -> None:
        bench.lab.execute("BEGIN")
        bench.lab.execute("UPDATE visits SET n = 7")
        bench.lab.execute("ROLLBACK")
        assert bench.checkpoint() is None

    def test_a_moved_row_leaves_one_bucket_and_enters_the_other_with_what_hangs_on_it(self, bench: Bench) -> None:
        bench.lab.execute("UPDATE visits SET patient_id = 'p2' WHERE id = 'v1'")
        bench.checkpoint()
        ann, bob = bench.cut(ANN, [P1]), bench.cut(BOB, [P2])
        assert removes(ann, "visits") == {(P1, '["v1"]')}
        assert removes(ann, "Order Lines") == {(P1, '[1,"x"]')}
        assert set(puts(bob, "visits")) == {'["v1"]'}
        assert set(puts(bob, "Order Lines")) == {'[1,"x"]'}

    def test_a_filter_moves_rows_in_and_out(self, bench: Bench) -> None:
        bench.lab.execute("UPDATE visits SET status = 'hidden' WHERE id = 'v1'")
        bench.checkpoint()
        assert removes(bench.cut(ANN, [P1]), "Order Lines") == {(P1, '[1,"x"]')}
        bench.lab.execute("UPDATE visits SET status = 'open' WHERE id = 'v1'")
        bench.checkpoint()
        assert set(puts(bench.cut(ANN, [P1]), "visits")) == {'["v1"]'}

    def test_a_changed_key_is_the_old_row_gone_and_a_new_one_there(self, bench: Bench) -> None:
        bench.lab.execute('UPDATE "Order Lines" SET "no" = 9 WHERE "no" = 1')
        bench.checkpoint()
        cut = bench.cut(ANN, [P1])
        assert set(puts(cut, "Order Lines")) == {'[9,"x"]'}
        assert removes(cut, "Order Lines") == {(P1, '[1,"x"]')}

    def test_the_order_inside_a_batch_is_not_trusted(self, bench: Bench) -> None:
        """Every old image counts: a row that visited another bucket within one batch is removed from there too."""
        bench.lab.execute("BEGIN")
        bench.lab.execute("UPDATE visits SET patient_id = 'p2' WHERE id = 'v1'")
        bench.lab.execute("UPDATE visits SET patient_id = NULL WHERE id = 'v1'")
        bench.lab.execute("COMMIT")
        bench.checkpoint()
        assert removes(bench.cut(ANN, [P1]), "visits") == {(P1, '["v1"]')}
        assert removes(bench.cut(BOB, [P2]), "visits") == {(P2, '["v1"]')}

    def test_hidden_columns_are_in_no_image(self, bench: Bench) -> None:
        """P8."""
        bench.lab.execute("UPDATE patients SET ssn = '999-secret', name = 'Ada II' WHERE id = 'p1'")
        bench.checkpoint()
        cut = bench.cut(ANN, [P1])
        assert puts(cut, "patients") == {'["p1"]': '["p1","Ada II","f1"]'}
        assert "999-secret" not in repr(cut)

    def test_a_change_that_devices_cannot_see_is_no_news(self, bench: Bench) -> None:
        bench.lab.execute("UPDATE patients SET ssn = '1' WHERE id = 'p1'")
        assert bench.checkpoint() is None

    def test_tables_that_only_grants_read_are_named(self, bench: Bench) -> None:
        bench.lab.execute("INSERT INTO assignments VALUES('ann', 'p2')")
        taken = bench.checkpoint()
        assert taken and taken.tables == {"assignments"}
        assert bench.lab.wait(bench.source.granted(ANN)) == {P1, P2}

    # ------------------------------------------------------------ reading
    def test_what_waits_in_the_queue_is_placed_by_a_marker(self, bench: Bench) -> None:
        bench.lab.execute("UPDATE visits SET n = 3 WHERE id = 'v1'")
        page = bench.lab.wait(bench.source.read_page(ANN, Walk(frozenset({P1})), None, (), PageSize(100, 100_000)))
        assert not page.exact
        marker = bench.lab.wait(bench.source.put_marker())
        assert not bench.lab.wait(bench.source.marker_passed(marker))
        bench.checkpoint()
        assert bench.lab.wait(bench.source.marker_passed(marker))
        page = bench.lab.wait(bench.source.read_page(ANN, Walk(frozenset({P1})), None, (), PageSize(100, 100_000)))
        assert page.exact and page.survey.head.checkpoint == 1

    def test_a_cursor_of_an_unknown_term_or_beyond_the_head_is_not_valid(self, bench: Bench) -> None:
        for cursor in (("other", 0), ("term-1", 99)):
            cut = bench.lab.wait(bench.source.read_cut("d", ANN, frozenset({P1}), cursor, 0, None))
            assert not cut.valid

    def test_a_cursor_of_an_earlier_term_stays_valid(self, bench: Bench) -> None:
        bench.lab.execute("UPDATE visits SET n = 3 WHERE id = 'v1'")
        bench.checkpoint()
        bench.lab.wait(bench.source.end_term("term-1"))
        assert bench.lab.wait(bench.source.begin_term("term-2"))
        valid = bench.lab.wait(bench.source.read_cut("d", ANN, frozenset({P1}), ("term-1", 1), 0, None))
        beyond = bench.lab.wait(bench.source.read_cut("d", ANN, frozenset({P1}), ("term-1", 2), 0, None))
        assert valid.valid and not beyond.valid

    # ------------------------------------------------------------ writing
    def test_a_write_is_captured_with_its_own_stamp_and_writer(self, bench: Bench) -> None:
        stamp = Stamp(1_234_567, 7)

        async def work(tx: WriteTransaction) -> None:
            assert await tx.write_row("visits", ("v1",), "U", {"n": 42}, stamp)

        bench.write(work)

        async def look(tx: WriteTransaction) -> Stamp:
            return (await tx.read_row("visits", ("v1",))).stamps["n"]

        assert bench.write(look) == stamp, "while it waits in the changelog"
        bench.checkpoint()
        assert bench.write(look) == stamp, "and when it is sequenced"

    def test_what_the_work_raises_rolls_everything_back(self, bench: Bench) -> None:
        async def work(tx: WriteTransaction) -> None:
            await tx.write_row("visits", ("v1",), "U", {"n": 42}, Stamp(1, 1))
            raise ValueError

        with pytest.raises(ValueError):
            bench.write(work)
        assert bench.lab.execute("SELECT n FROM visits WHERE id = 'v1'") == [(1,)]
        assert bench.checkpoint() is None

    def test_a_savepoint_undoes_one_group_and_keeps_the_other(self, bench: Bench) -> None:
        async def work(tx: WriteTransaction) -> None:
            await tx.savepoint()
            await tx.write_row("visits", ("v1",), "U", {"n": 42}, Stamp(1, 1))
            await tx.release()
            await tx.savepoint()
            await tx.write_row("visits", ("v2",), "U", {"n": 43}, Stamp(2, 1))
            await tx.rollback_to_savepoint()

        bench.write(work)
        assert bench.lab.execute("SELECT n FROM visits ORDER BY id") == [(42,), (2,)]

    @pytest.mark.parametrize(
        ("operation", "key", "values", "code"),
        [
            ("U", "v1", {"n": 5000}, "check"),
            ("U", "v1", {"patient_id": "nobody"}, "foreign_key"),
            ("I", "v1", {"status": "new"}, "unique"),
        ],
    )
    def test_a_constraint_refuses_with_a_code(
        self, bench: Bench, operation: str, key: str, values: dict[str, Any], code: str
    ) -> None:
        async def work(tx: WriteTransaction) -> None:
            await tx.write_row("visits", (key,), operation, values, Stamp(1, 1))

        with pytest.raises(SourceRefusedError) as refused:
            bench.write(work)
        assert refused.value.code == code

    def test_buckets_of_a_row_follow_it(self, bench: Bench) -> None:
        async def work(tx: WriteTransaction) -> tuple[frozenset[str], frozenset[str]]:
            before = await tx.buckets_of("Order Lines", (1, "x"))
            await tx.write_row("visits", ("v1",), "U", {"patient_id": "p2"}, Stamp(1, 1))
            return before, await tx.buckets_of("Order Lines", (1, "x"))

        assert bench.write(work) == (frozenset({P1}), frozenset({P2}))

    def test_a_touch_is_told_to_nobody_and_refreshes_the_truth(self, bench: Bench) -> None:
        async def work(tx: WriteTransaction) -> None:
            await tx.touch("visits", ("v1",))

        bench.write(work)
        assert bench.checkpoint()
        assert puts(bench.cut(ANN, [P1]), "visits") == {}

    # ------------------------------------------------------------ devices
    def test_a_device_is_known_by_the_nonce_it_used_and_by_the_one_it_was_given_last(self, bench: Bench) -> None:
        first = self._hello(bench, None, None)
        again = self._hello(bench, first.device, first.nonce)
        lost_answer = self._hello(bench, first.device, first.nonce)
        used = self._hello(bench, first.device, lost_answer.nonce)
        copied = self._hello(bench, first.device, first.nonce)
        assert lost_answer.nonce == again.nonce, "what the network repeats late voids nothing"
        assert [r.identity for r in (first, again, lost_answer, used, copied)] == [
            "new",
            "known",
            "known",
            "known",
            "new",
        ]
        assert copied.device != first.device

    @staticmethod
    def _hello(bench: Bench, device: str | None, nonce: str | None) -> Any:
        return bench.lab.wait(bench.source.register(device, nonce, "ann", 0, {}))
