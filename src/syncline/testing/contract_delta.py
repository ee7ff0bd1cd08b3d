"""What is read once for all connected devices says exactly what each would have read for itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import pytest

from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.source.port import Claims, Cursor, Delta, Entries
from syncline.testing.bench import Phone
from syncline.testing.contract_lab import Company, ContractFixtures

TABLES = (
    "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80))",
    "CREATE TABLE visits(id VARCHAR(20) PRIMARY KEY, patient_id VARCHAR(20), n INTEGER CHECK (n < 1000))",
    "CREATE TABLE wards(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80))",
    "CREATE TABLE assignments(nurse VARCHAR(20), patient_id VARCHAR(20))",
    "CREATE TABLE shifts(tenant VARCHAR(20), ward_id VARCHAR(20))",
    "CREATE INDEX visits_of ON visits(patient_id)",
    "INSERT INTO patients VALUES('p1', 'Ada'), ('p2', 'Bo'), ('p3', 'Cy')",
    "INSERT INTO visits VALUES('v1', 'p1', 1), ('v2', 'p2', 2), ('v3', 'p3', 3)",
    "INSERT INTO wards VALUES('w1', 'North')",
    "INSERT INTO assignments VALUES('ann', 'p1'), ('ann', 'p2'), ('ben', 'p3')",
    "INSERT INTO shifts VALUES('acme', 'w1')",
)
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {"visits": TableConfig((LinkConfig(parent="patients", on={"patient_id": "id"}),))},
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
        ScopeConfig("ward", {}, root="wards", grant="SELECT ward_id FROM shifts WHERE tenant = :tenant"),
    )
)
P1, P2, P3, W1 = 'caseload["p1"]', 'caseload["p2"]', 'caseload["p3"]', 'ward["w1"]'
ALL = frozenset({P1, P2, P3, W1})
EVERYBODY = {"sub": "everybody", "tenant": "acme"}
ANN, BEN = {"sub": "ann", "tenant": "acme"}, {"sub": "ben", "tenant": "acme"}
Told = dict[tuple[str, str], tuple[dict[str, str], frozenset[str]]]
"""(bucket, table) -> (key -> row put, keys removed)."""


def told(entries: Iterable[Entries], buckets: Collection[str] = ALL) -> Told:
    found: Told = {}
    for each in entries:
        if each.bucket in buckets:
            rows, removed = found.get((each.bucket, each.table), ({}, frozenset[str]()))
            put = dict(zip(each.keys, each.rows, strict=True))
            found[each.bucket, each.table] = ({**rows, **put}, removed | frozenset(each.removed))
    return found


class Ward:
    """A company with somebody who may see everything, and what is read of it."""

    def __init__(self, company: Company) -> None:
        self.company = company
        company.execute("INSERT INTO assignments SELECT 'everybody', id FROM patients")
        company.checkpoint()

    @property
    def at(self) -> Cursor:
        head = self.company.wait(self.company.source.read_head())
        return head.term, head.checkpoint

    def happen(self, *statements: str) -> None:
        self.company.execute(*statements)
        self.company.checkpoint()

    def delta(
        self,
        cursor: Cursor,
        wanted: Collection[str] = ALL,
        connected: Mapping[str, int] | None = None,
        users: Iterable[Claims] = (),
        rows_max: int = 1_000,
    ) -> Delta:
        reading = self.company.source.read_delta(cursor, wanted, connected or {}, list(users), rows_max)
        return self.company.wait(reading)

    def read_alone(self, cursor: Cursor, held: frozenset[str] = ALL) -> Told:
        cut = self.company.wait(self.company.source.read_cut("none", EVERYBODY, held, cursor, 0))
        assert cut.valid and held <= cut.granted
        return told(cut.entries)


class DeltaContract(ContractFixtures):
    """`read_delta` is a step of the fan-out: whatever it leaves out, or tells of too much, all connected devices miss,
    or see."""

    @pytest.fixture
    def ward(self, make_company: Callable[..., Company]) -> Ward:
        return Ward(make_company(TABLES, CONFIG))

    # ------------------------------------------------------------ rows
    @pytest.mark.parametrize("seed", range(6))
    def test_it_says_of_every_bucket_what_a_cut_would(self, ward: Ward, seed: int) -> None:
        rng = random.Random(seed)
        start = ward.at
        for number in range(rng.randint(1, 5)):
            visit, patient = f"v{rng.randint(1, 6)}", f"p{rng.randint(1, 3)}"
            ward.happen(
                *rng.sample(
                    (
                        f"UPDATE visits SET n = {number} WHERE id = '{visit}'",
                        f"UPDATE visits SET patient_id = '{patient}' WHERE id = '{visit}'",
                        f"DELETE FROM visits WHERE id = '{visit}'",
                        f"INSERT INTO visits VALUES('n{number}', '{patient}', {number})",
                        f"UPDATE patients SET name = 'name {number}' WHERE id = '{patient}'",
                        f"UPDATE wards SET name = 'name {number}'",
                    ),
                    rng.randint(1, 4),
                )
            )
        delta = ward.delta(start)
        assert delta.valid and (delta.head.term, delta.head.checkpoint) == ward.at
        assert told(delta.entries) == ward.read_alone(start)
        counted = {bucket: 0 for bucket, _ in told(delta.entries)}
        for (bucket, _), (rows, removed) in told(delta.entries).items():
            counted[bucket] += len(rows) + len(removed)
        assert delta.rows == counted

    def test_what_nobody_wants_is_counted_and_not_read(self, ward: Ward) -> None:
        start = ward.at
        ward.happen("UPDATE visits SET n = 9 WHERE id IN ('v1', 'v2')")
        delta = ward.delta(start, wanted={P1})
        assert delta.rows == {P1: 1, P2: 1}
        assert {each.bucket for each in delta.entries} == {P1}

    def test_a_bucket_with_too_much_is_named_and_left_to_each(self, ward: Ward) -> None:
        start = ward.at
        ward.happen("INSERT INTO visits VALUES('a', 'p1', 1), ('b', 'p1', 1), ('c', 'p2', 1)")
        delta = ward.delta(start, rows_max=1)
        assert delta.large == {P1} and delta.rows[P1] == 2
        assert told(delta.entries) == ward.read_alone(start, frozenset({P2}))

    def test_nothing_is_new_at_the_head(self, ward: Ward) -> None:
        delta = ward.delta(ward.at, connected={"d": 0}, users=[ANN])
        assert delta.valid and not delta.rows and not delta.entries and not delta.included and not delta.granted

    # ------------------------------------------------------------ where it cannot say
    @pytest.mark.parametrize("cursor", [("term-1", 1_000_000), ("of another time", 1)])
    def test_a_checkpoint_that_was_never_reached_is_not_valid(self, ward: Ward, cursor: Cursor) -> None:
        ward.happen("UPDATE visits SET n = 9")
        delta = ward.delta(cursor)
        assert not delta.valid and not delta.entries

    def test_a_raised_generation_is_not_valid_for_those_below_it(self, ward: Ward) -> None:
        """They need the table whole; from then on the steps are told to all again."""
        start, source = ward.at, ward.company.source
        ward.company.wait(source.suspend({"visits"}))
        ward.company.execute("UPDATE visits SET n = 5")
        ward.company.wait(source.provision(ward.company.plan))
        ward.company.wait(source.adopt(ward.company.plan))
        taken = ward.company.checkpoint()
        assert taken and "visits" in taken.raised
        assert not ward.delta(start).valid
        after = ward.at
        ward.happen("UPDATE visits SET n = 6 WHERE id = 'v1'")
        delta = ward.delta(after)
        assert delta.valid and told(delta.entries) == ward.read_alone(after)

    # ------------------------------------------------------------ devices
    def test_devices_are_told_what_is_included(self, ward: Ward) -> None:
        """The number and its id; only those that are connected and do not know it; and who has to be told an outcome."""
        company = ward.company
        taken, refused = (self._phone(company) for _ in range(2))
        start = ward.at
        taken.execute("UPDATE visits SET n = 7 WHERE id = 'v1'")
        refused.execute("UPDATE visits SET n = 5000 WHERE id = 'v2'")
        for phone in (taken, refused):
            phone.upload()
        company.checkpoint()
        names = [str(phone.file.state().device) for phone in (taken, refused)]
        delta = ward.delta(start, connected=dict.fromkeys(names, 0))
        assert {name: number for name, (number, _) in delta.included.items()} == dict.fromkeys(names, 1)
        assert delta.spoken == {names[1]}
        for name in names:
            cut = company.wait(company.source.read_cut(name, ANN, frozenset(), start, 0))
            assert delta.included[name] == (cut.included, cut.included_id)
        assert not ward.delta(start, connected={names[0]: 1}).included
        assert not ward.delta(start, connected={"another": 0}).included

    def _phone(self, company: Company) -> Phone:
        phone = Phone(company, f"ann-{len(company._phones)}", "ann", dict(ANN), 0)
        company._phones.append(phone)
        phone.sync()
        return phone

    # ------------------------------------------------------------ grants
    def test_grants_are_asked_for_each_user_where_they_may_have_changed(self, ward: Ward) -> None:
        start = ward.at
        ward.happen("DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'p1'", "UPDATE visits SET n = 3")
        stranger: dict[str, Any] = {"tenant": "acme"}
        delta = ward.delta(start, users=[ANN, BEN, stranger, ANN])
        expected = (frozenset({P2}), frozenset({P3}), None, frozenset({P2}))
        assert delta.granted == {"caseload": expected}
        for claims, granted in zip((ANN, BEN), expected, strict=False):
            assert granted == ward.company.wait(ward.company.source.granted(claims)) - {W1}

    def test_claims_that_a_grant_reads_are_told_apart(self, ward: Ward) -> None:
        start = ward.at
        ward.happen("INSERT INTO shifts VALUES('beta', 'w1')", "DELETE FROM shifts WHERE tenant = 'acme'")
        users = [{"sub": "ann", "tenant": tenant} for tenant in ("acme", "beta", "gamma")]
        delta = ward.delta(start, users=users)
        assert delta.granted == {"ward": (frozenset(), frozenset({W1}), frozenset())}
