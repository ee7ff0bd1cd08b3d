"""Scopes: from what a person wrote to the paths, columns and filters of a plan (DESIGN.md section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from syncline.errors import ConfigError, ProtocolError
from syncline.model import merge, resolving, scopes
from syncline.model.schema import Column, ForeignKey, Index, Schema, Table
from syncline.model.scopes import (
    LinkConfig,
    Path,
    Plan,
    PlanConfig,
    QueryReads,
    ScopeConfig,
    Step,
    TableConfig,
    TableRules,
)


def table(name: str, columns: str, key: str = "id", **more: Any) -> Table:
    """Foreign keys as `{"patient_id": "patients.id"}`, of several columns as `{"no, site": "orders.no, site"}`."""
    foreign = tuple(
        ForeignKey(tuple(own.split(", ")), other.split(".")[0], tuple(other.split(".")[1].split(", ")))
        for own, other in more.pop("foreign", ())
    )
    indexes = tuple(Index(f"by_{columns}", tuple(columns.split())) for columns in more.pop("indexes", ()))
    made = tuple(Column(each, "INTEGER" if each == "count" else "TEXT") for each in columns.split())
    return Table(name, made, tuple(key.split()), foreign, indexes, **more)


TABLES = (
    table(
        "patients",
        "id name ssn region facility_id",
        foreign=[("facility_id", "facilities.id")],
        indexes=["facility_id"],
    ),
    table("visits", "id patient_id status count", foreign=[("patient_id", "patients.id")], indexes=["patient_id"]),
    table("notes", "id visit_id patient_id body", indexes=["visit_id", "patient_id"]),
    table("letters", "id writer_id reader_id", foreign=[("writer_id", "patients.id"), ("reader_id", "patients.id")]),
    table("facilities", "id city"),
    table(
        "orders", "no site patient_id", key="no site", foreign=[("patient_id", "patients.id")], indexes=["patient_id"]
    ),
    table("lines", "id order_no order_site", foreign=[("order_no, order_site", "orders.no, site")]),
    table("medications", "id name"),
    table("assignments", "caregiver_id patient_id"),
    table("heap", "a b", key="", refusal="it has no primary key.", remedy="Give it one."),
)
SCHEMA = Schema({each.name: each for each in TABLES}, frozenset({"open_visits"}))

PARENT = LinkConfig(parent="patients")
GRANT = "SELECT patient_id FROM assignments WHERE caregiver_id = :sub"
GRANT_READS = {"caseload": QueryReads({"assignments": frozenset({"patient_id", "caregiver_id"})})}


def caseload(tables: Mapping[str, TableConfig | LinkConfig | tuple[LinkConfig, ...]], **more: Any) -> ScopeConfig:
    made = {
        name: TableConfig((each,))
        if isinstance(each, LinkConfig)
        else TableConfig(each)
        if type(each) is tuple
        else each
        for name, each in tables.items()
    }
    return ScopeConfig(**({"name": "caseload", "tables": made, "root": "patients", "grant": GRANT} | more))


def resolve(*configs: ScopeConfig, reads: Mapping[tuple[str, str], QueryReads] | None = None, **more: Any) -> Plan:
    return resolving.resolve(PlanConfig(configs, **more), SCHEMA, GRANT_READS, dict(reads or {}))


def refusal(*configs: ScopeConfig, **more: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        resolve(*configs, **more)
    return caught.value


def steps(plan: Plan, name: str) -> list[tuple[Step, ...]]:
    return [path.steps for path in plan.tables[name].paths]


TO_PATIENT = Step(("patient_id",), "patients", ("id",))
TO_VISIT = Step(("visit_id",), "visits", ("id",))


# ---------------------------------------------------------------- paths
def test_the_root_is_in_its_own_bucket() -> None:
    plan = resolve(caseload({}))
    assert plan.tables["patients"].paths == (Path("caseload", "patients", ()),)
    assert plan.scopes["caseload"].key == ("id",)


def test_a_parent_is_followed_by_its_declared_foreign_key() -> None:
    assert steps(resolve(caseload({"visits": PARENT})), "visits") == [(TO_PATIENT,)]


def test_a_row_that_the_root_points_at_is_reached_backwards() -> None:
    plan = resolve(caseload({"facilities": LinkConfig(referenced_by="patients")}))
    assert steps(plan, "facilities") == [(Step(("id",), "patients", ("facility_id",)),)]


NOTES_BY_VISIT = LinkConfig(parent="visits", on={"visit_id": "id"})


def test_on_stands_for_a_key_that_is_not_declared_and_paths_are_chained() -> None:
    plan = resolve(caseload({"notes": NOTES_BY_VISIT, "visits": PARENT}))
    assert steps(plan, "notes") == [(TO_VISIT, TO_PATIENT)]
    assert plan.tables["notes"].paths[0].aliases == ("notes", "visits", "patients")


def test_several_paths_are_all_kept() -> None:
    by_patient = LinkConfig(parent="patients", on={"patient_id": "id"})
    plan = resolve(caseload({"visits": PARENT, "notes": (NOTES_BY_VISIT, by_patient, by_patient)}))
    assert steps(plan, "notes") == [(TO_VISIT, TO_PATIENT), (TO_PATIENT,)]


def test_each_path_of_a_parent_is_a_path_of_its_children() -> None:
    to_writer, to_reader = Step(("writer_id",), "patients", ("id",)), Step(("reader_id",), "patients", ("id",))
    letters = (
        LinkConfig(parent="patients", on={"writer_id": "id"}),
        LinkConfig(parent="patients", on={"reader_id": "id"}),
    )
    plan = resolve(caseload({"letters": letters, "notes": LinkConfig(parent="letters", on={"body": "id"})}))
    to_letter = Step(("body",), "letters", ("id",))
    assert steps(plan, "notes") == [(to_letter, to_writer), (to_letter, to_reader)]


def test_a_composite_key_is_followed_as_a_whole() -> None:
    both = Step(("order_no", "order_site"), "orders", ("no", "site"))
    by_key = resolve(caseload({"orders": PARENT, "lines": LinkConfig(parent="orders")}))
    by_hand = LinkConfig(parent="orders", on={"ORDER_NO": "NO", "order_site": "site"})
    assert steps(by_key, "lines") == [(both, TO_PATIENT)]
    assert steps(resolve(caseload({"orders": PARENT, "lines": by_hand})), "lines") == [(both, TO_PATIENT)]


def test_a_table_may_belong_to_several_scopes() -> None:
    plan = resolve(caseload({"visits": PARENT}), ScopeConfig("all", {"visits": TableConfig()}))
    assert [path.scope for path in plan.tables["visits"].paths] == ["caseload", "all"]


def test_a_foreign_key_declared_twice_is_one() -> None:
    doubled = table("visits", "id patient_id", foreign=[("patient_id", "patients.id")] * 2)
    schema = Schema(SCHEMA.tables | {"visits": doubled})
    plan = resolving.resolve(PlanConfig((caseload({"visits": PARENT}),)), schema, GRANT_READS, {})
    assert steps(plan, "visits") == [(TO_PATIENT,)]


def test_names_are_taken_as_the_database_writes_them() -> None:
    plan = resolve(caseload({"VISITS": LinkConfig(parent="Patients")}, root="PATIENTS", key=("REGION",)))
    assert set(plan.tables) == {"patients", "visits"}
    assert plan.scopes["caseload"].root == "patients"
    assert plan.scopes["caseload"].key == ("region",)
    assert steps(plan, "visits") == [(TO_PATIENT,)]


def test_a_global_scope_is_one_bucket_without_paths() -> None:
    plan = resolve(ScopeConfig("reference", {"medications": TableConfig()}))
    assert plan.tables["medications"].paths == (Path("reference", "medications", ()),)
    assert (plan.scopes["reference"].key, plan.scopes["reference"].root) == ((), None)


# ---------------------------------------------------------------- refusals
ON_NOTHING = LinkConfig(parent="visits", on={"visitid": "id"})
REFUSED: dict[str, tuple[ScopeConfig, str, str]] = {
    "unknown table": (caseload({"vists": PARENT}), "unknown_table", 'Did you mean "visits"?'),
    "unknown root": (caseload({}, root="patient"), "unknown_table", 'Did you mean "patients"?'),
    "unknown parent": (caseload({"visits": LinkConfig(parent="patience")}), "unknown_table", 'mean "patients"?'),
    "unknown column in on": (caseload({"visits": PARENT, "notes": ON_NOTHING}), "unknown_column", '"visit_id"?'),
    "unknown key column": (caseload({}, key=("regoin",)), "unknown_column", 'Did you mean "region"?'),
    "view": (caseload({"open_visits": PARENT}), "view_cannot_sync", "tables that it reads"),
    "no primary key": (caseload({"heap": PARENT}), "no_key", "Give it one."),
    "root without key": (caseload({}, root="heap"), "no_key", "Give it one."),
    "ambiguous": (
        caseload({"letters": PARENT}),
        "ambiguous_path",
        'on = { writer_id = "id" } or on = { reader_id = "id" }',
    ),
    "nothing declared": (caseload({"notes": PARENT}), "no_foreign_key", "on = {"),
    "nothing declared backwards": (
        caseload({"medications": LinkConfig(referenced_by="patients")}),
        "no_foreign_key",
        'column of patients"',
    ),
    "no path": (caseload({"visits": TableConfig()}), "no_path", "parent ="),
    "both directions": (
        caseload({"visits": LinkConfig(parent="patients", referenced_by="patients")}),
        "bad_path",
        "",
    ),
    "neither direction": (caseload({"visits": LinkConfig(on={"patient_id": "id"})}), "bad_path", ""),
    "root with a path": (caseload({"patients": LinkConfig(parent="facilities")}), "root_path", ""),
    "path outside": (
        caseload({"notes": NOTES_BY_VISIT}),
        "path_outside_scope",
        'Add "visits" to [scope.caseload.tables]',
    ),
    "circle": (
        caseload({"visits": LinkConfig(parent="notes", on={"id": "visit_id"}), "notes": NOTES_BY_VISIT}),
        "path_circle",
        "another parent",
    ),
    "own parent": (caseload({"notes": LinkConfig(parent="notes", on={"body": "id"})}), "path_circle", ""),
    "path without root": (caseload({"visits": PARENT}, root=None, grant=None), "no_root", "root ="),
    "where without root": (caseload({}, root=None, grant=None, where="1"), "no_root", "at a table"),
    "key without root": (caseload({}, root=None, grant=None, key=("id",)), "no_root", "root ="),
    "no name": (caseload({}, name=""), "scope_name", ""),
    "name like a bucket's": (caseload({}, name="a[b"), "scope_name", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_resolve_is_refused_with_what_to_do(case: str) -> None:
    config, code, hint = REFUSED[case]
    error = refusal(config)
    assert error.code == code
    assert hint in error.hint
    assert config.name in error.message or code.startswith(("unknown", "view"))


def test_a_circle_is_shown() -> None:
    assert "visits -> notes -> visits" in refusal(REFUSED["circle"][0]).message


def test_a_grant_that_nothing_reads_is_refused() -> None:
    """P8: without a root the scope is everybody's, whatever the grant says."""
    assert refusal(caseload({}, root=None)).code == "no_root"


@pytest.mark.parametrize("grant", [None, ""])
def test_a_root_needs_a_grant(grant: str | None) -> None:
    """P8."""
    assert refusal(caseload({}, grant=grant)).code == "no_grant"


@pytest.mark.parametrize(("refresh", "refused"), [(None, True), (60.0, False)])
def test_a_grant_that_changes_by_itself_must_say_how_often_to_ask(refresh: float | None, refused: bool) -> None:
    """P9: nothing else would notice that it ended."""
    reads = {"caseload": QueryReads({"assignments": frozenset()}, ("datetime",))}
    config = PlanConfig((caseload({}, refresh_seconds=refresh),))
    if not refused:
        assert resolving.resolve(config, SCHEMA, reads, {}).scopes["caseload"].refresh_seconds == 60
        return
    with pytest.raises(ConfigError) as caught:
        resolving.resolve(config, SCHEMA, reads, {})
    assert caught.value.code == "grant_volatile" and "datetime()" in caught.value.message


# ---------------------------------------------------------------- buckets
def test_the_key_may_be_another_column_of_the_root() -> None:
    plan = resolve(caseload({"visits": PARENT}, key=("region", "facility_id")))
    assert plan.scopes["caseload"].key == ("region", "facility_id")
    assert plan.tables["patients"].captured == ("region", "facility_id")


def test_a_hidden_column_does_not_name_buckets() -> None:
    """P8: the device is told its buckets' names."""
    assert refusal(caseload({}, key=("ssn",)), hide={"patients": ("ssn",)}).code == "hidden_key"
    assert refusal(caseload({}, key=("ssn",)), keep={"patients": ("name",)}).code == "hidden_key"


def test_a_bucket_is_named_by_scope_and_key() -> None:
    assert scopes.bucket_name("caseload", ("p-12",)) == 'caseload["p-12"]'
    assert scopes.bucket_name("reference", ()) == "reference[]"
    assert scopes.bucket_scope('caseload["a[b"]') == "caseload"
    assert scopes.bucket_key('caseload["a[b"]') == ("a[b",)


@pytest.mark.parametrize("name", ["", "caseload", "caseload[", "caseload{}", "[[1]", 'c["a"]x', "c" + "[" * 100_000])
def test_what_is_no_bucket_name_is_a_protocol_error(name: str) -> None:
    """P19: devices send them."""
    with pytest.raises(ProtocolError):
        scopes.bucket_key(name)


# ---------------------------------------------------------------- filters and capture
def reading(name: str, *columns: str, volatile: tuple[str, ...] = (), of: str = "visits") -> Mapping[Any, QueryReads]:
    return {(of, "x"): QueryReads({name: frozenset(columns)}, volatile)}


FILTERED = caseload({"visits": TableConfig((PARENT,), where="x")})


def test_captured_are_just_the_columns_that_decide_membership() -> None:
    """P8, P9: one too few and a row stays with the wrong person; one too many slows every write of the host."""
    links = {
        "visits": TableConfig((PARENT,), where="x"),
        "notes": NOTES_BY_VISIT,
        "orders": PARENT,
        "lines": LinkConfig(parent="orders"),
        "facilities": LinkConfig(referenced_by="patients"),
    }
    plan = resolve(caseload(links, key=("region",)), reads=reading("visits", "status", "id", "STATUS", ""))
    assert {name: each.captured for name, each in plan.tables.items()} == {
        "patients": ("region", "facility_id"),
        "visits": ("patient_id", "status"),
        "notes": ("visit_id",),
        "orders": ("patient_id",),
        "lines": ("order_no", "order_site"),
        "facilities": (),
    }


def test_a_filter_of_the_root_applies_to_the_root() -> None:
    plan = resolve(caseload({}, where="x"), reads=reading("patients", "region", of="patients"))
    assert plan.scopes["caseload"].filters == {"patients": "x"}
    assert plan.tables["patients"].captured == ("region",)


def test_the_root_has_one_filter() -> None:
    """P8: of two, one would have been dropped."""
    config = caseload({"patients": TableConfig(where="y")}, where="x")
    assert refusal(config, reads=reading("patients", "region", of="patients")).code == "two_filters"


def test_a_filter_reads_its_own_table_only() -> None:
    assert refusal(FILTERED, reads=reading("assignments", "patient_id")).code == "filter_reads_other_table"


def test_a_filter_does_not_change_by_itself() -> None:
    """P1: no write would tell that the row has left."""
    assert refusal(FILTERED, reads=reading("visits", "status", volatile=("now",))).code == "filter_volatile"


def test_a_filter_column_that_the_table_lacks_is_not_passed_over() -> None:
    """P8: what is not captured cannot be noticed."""
    assert refusal(FILTERED, reads=reading("visits", "rowid")).code == "unknown_column"


def test_tables_that_only_grants_read_are_captured_too() -> None:
    """P9."""
    plan = resolve(caseload({"visits": PARENT}))
    assert plan.grant_reads == {"caseload": frozenset({"assignments"})}
    assert plan.grant_only_tables == ("assignments",)
    assert plan.captured_tables == ("patients", "visits", "assignments")
    assert "assignments" not in plan.tables


def test_a_grant_table_that_devices_hold_is_not_grant_only() -> None:
    plan = resolve(caseload({"assignments": LinkConfig(parent="patients", on={"patient_id": "id"})}))
    assert plan.grant_only_tables == ()
    assert plan.captured_tables == ("assignments", "patients")


# ---------------------------------------------------------------- columns, rights, policies
def test_hidden_columns_are_in_no_layout() -> None:
    """P8."""
    plan = resolve(caseload({"visits": PARENT}), hide={"PATIENTS": ("SSN",)}, keep={"visits": ("status",)})
    assert plan.tables["patients"].columns == ("id", "name", "region", "facility_id")
    assert plan.tables["visits"].columns == ("id", "status")
    assert plan.tables["visits"].values == ("status",)


def test_hide_takes_from_what_keep_leaves() -> None:
    """P8."""
    both = {"patients": ("name", "ssn")}
    assert resolve(caseload({}), keep=both, hide={"patients": ("ssn",)}).tables["patients"].columns == ("id", "name")


def test_keeping_nothing_keeps_the_key_alone() -> None:
    """P8."""
    assert resolve(caseload({}), keep={"patients": ()}).tables["patients"].columns == ("id",)


def test_a_key_cannot_be_hidden() -> None:
    assert refusal(caseload({"orders": PARENT}), hide={"orders": ("site",)}).code == "hidden_key"


@pytest.mark.parametrize("option", ["hide", "keep"])
def test_an_unknown_column_to_hide_or_keep_is_refused(option: str) -> None:
    """P8: a misspelt `hide` would hide nothing."""
    error = refusal(caseload({}), **{option: {"patients": ("snn",)}})
    assert (error.code, error.hint) == ("unknown_column", 'Did you mean "ssn"?')


@pytest.mark.parametrize(
    "section", [{"hide": {"facilities": ()}}, {"rules": {"facilities": TableRules()}}, {"merge": {"facilities": {}}}]
)
def test_a_section_about_a_table_that_no_scope_holds_is_refused(section: dict[str, Any]) -> None:
    assert refusal(caseload({}), **section).code == "table_not_synced"


def test_read_only_tables_and_scopes_take_no_writes() -> None:
    plan = resolve(
        caseload({"visits": TableConfig((PARENT,), read_only=True), "orders": PARENT}),
        ScopeConfig("reference", {"visits": TableConfig(), "medications": TableConfig()}, read_only=True),
        ScopeConfig("desk", {"medications": TableConfig()}),
    )
    assert plan.scopes["caseload"].writable == {"patients", "orders"}
    assert plan.scopes["reference"].writable == frozenset()
    assert plan.is_writable("desk", "medications") and not plan.is_writable("caseload", "visits")


def test_each_column_has_a_policy_latest_if_none_is_named() -> None:
    plan = resolve(
        caseload({"visits": PARENT}), merge={"Visits": {"COUNT": "add"}}, rules={"VISITS": TableRules("natural")}
    )
    visits = plan.tables["visits"]
    assert (visits.policy("count"), visits.policy("status")) == ("add", "latest")
    assert (visits.keys, plan.tables["patients"].keys) == ("natural", "unique")


@pytest.mark.parametrize(
    ("policies", "code"),
    [
        ({"id": "latest"}, "merge_key"),
        ({"status": "add"}, "policy_does_not_fit"),
        ({"status": "newest"}, "unknown_policy"),
        ({"stats": "latest"}, "unknown_column"),
    ],
)
def test_a_policy_that_does_not_fit_its_column_is_refused(policies: dict[str, str], code: str) -> None:
    assert refusal(caseload({"visits": PARENT}), merge={"visits": policies}).code == code


def test_a_registered_policy_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_policies", dict(merge._policies))
    merge.register(merge.PolicyEntry("longest", merge.merge_server))
    plan = resolve(caseload({"visits": PARENT}), merge={"visits": {"status": "longest"}})
    assert plan.tables["visits"].policy("status") == "longest"


# ---------------------------------------------------------------- what cannot name a bucket
def test_a_column_whose_equal_values_may_be_written_in_several_ways_joins_nothing() -> None:
    patients = table("patients", "id region")
    vague = tuple(
        replace(column, inexact="a type that is vague") if column.name == "region" else column
        for column in patients.columns
    )
    schema = Schema({**SCHEMA.tables, "patients": replace(patients, columns=vague)})
    with pytest.raises(ConfigError) as caught:
        resolving.resolve(PlanConfig((caseload({}, key=("region",)),)), schema, GRANT_READS, {})
    assert caught.value.code == "join_type"
    assert '"patients"."region", which has a type that is vague' in caught.value.message


# ---------------------------------------------------------------- warnings
def test_a_join_column_without_an_index_is_told_once() -> None:
    letters = (
        LinkConfig(parent="patients", on={"writer_id": "id"}),
        LinkConfig(parent="patients", on={"reader_id": "id"}),
    )
    plan = resolve(
        caseload({"letters": letters, "visits": PARENT, "notes": LinkConfig(parent="letters", on={"body": "id"})})
    )
    assert [warning.split(" without")[0] for warning in plan.warnings] == [
        '"letters" is joined on writer_id',
        '"letters" is joined on reader_id',
        '"notes" is joined on body',
    ]


def test_a_plan_whose_joins_have_indexes_has_no_warnings() -> None:
    links = {"visits": PARENT, "orders": PARENT, "facilities": LinkConfig(referenced_by="patients")}
    assert resolve(caseload(links)).warnings == ()


def test_a_step_knows_whether_a_declared_key_stands_behind_it() -> None:
    by_key, other = SCHEMA.table("lines"), SCHEMA.table("notes")
    turned = Step(("order_site", "order_no"), "orders", ("site", "no"))
    assert scopes.declared_parent(by_key, turned) == by_key.foreign_keys[0]
    assert scopes.declared_parent(by_key, Step(("order_site", "order_no"), "orders", ("no", "site"))) is None
    assert scopes.declared_parent(other, TO_VISIT) is None
