"""Memberships as SQL: what each statement looks at, and what it does not."""

from __future__ import annotations

import pytest

from syncline.model.resolving import resolve
from syncline.model.schema import Column, ForeignKey, Index, Schema, Table
from syncline.model.scope_config import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.model.scopes import QueryReads
from syncline.source.postgres.paths import PathSql, membership_sql

INTEGER = "pg_catalog.int4"


def _column(name: str) -> Column:
    return Column(name, "integer", not_null=True, kind="integer", base=INTEGER)


PATIENTS = Table("patients", (_column("id"), _column("region")), ("id",), place=("public", "patients"))
VISITS = Table(
    "visits",
    (_column("id"), _column("patient_id"), _column("status")),
    ("id",),
    foreign_keys=(ForeignKey(("patient_id",), "patients", ("id",)),),
    indexes=(Index("visits_of", ("patient_id",)),),
    place=("public", "visits"),
)
FILTER = "status > 0 -- ours"


@pytest.fixture
def path() -> PathSql:
    config = PlanConfig(
        scopes=(
            ScopeConfig(
                name="caseload",
                root="patients",
                key=("region",),
                grant="SELECT 1",
                tables={"visits": TableConfig(links=(LinkConfig(parent="patients"),), where=FILTER)},
            ),
        )
    )
    schema = Schema({"patients": PATIENTS, "visits": VISITS})
    filters = {("visits", FILTER): QueryReads({"visits": frozenset({"status"})})}
    plan = resolve(config, schema, {"caseload": QueryReads({})}, filters)
    return PathSql(plan.tables["visits"].paths[0], plan)


def test_a_bucket_is_named_in_sql_by_the_roots_key_which_is_not_null(path: PathSql) -> None:
    sql = membership_sql(path, "keys")
    assert "'caseload' || ('[' || coalesce(t.\"region\"::text, 'null') || ']') AS bucket" in sql
    assert 't."region" IS NOT NULL' in sql
    assert sql.count("UNION ALL") == 0


def test_a_filter_that_ends_with_a_comment_hides_nothing_after_it(path: PathSql) -> None:
    for line in membership_sql(path, "keys").splitlines():
        assert "--" not in line or line == FILTER


def test_one_key_is_bound_as_text_and_cast(path: PathSql) -> None:
    assert f"CAST($1::text AS {INTEGER}) AS k_1" in path.after_one
    assert "$2" not in path.after_one


def test_before_adds_the_old_images_of_the_tables_that_have_any_and_filters_them_alike(path: PathSql) -> None:
    now = path.membership("keys", ("key",))
    assert path.membership("keys", ("key",), {"medications": "(elsewhere)"}) == now
    before = path.membership("keys", ("key",), {"visits": "(images)"})
    assert (
        before.count(" UNION SELECT") == 1
        and before.count("SELECT DISTINCT") == 1
        and before.count(FILTER) == 2
        and "FROM (images) AS own" in before
    )
    assert path.membership("keys", ("key",), {"visits": "(a)", "patients": "(b)"}).count("UNION") == 2


def test_through_goes_from_the_moved_parents_back_to_the_rows(path: PathSql) -> None:
    sql = path.through(1, "(moved)", {"patients": "(images)"})
    assert '(moved) AS m JOIN "public"."patients" AS t ON t."id" = m.k_1' in sql
    assert 'SELECT t."id" AS j_1 FROM (images) AS t' in sql
    assert 't."patient_id" = f.j_1' in sql and 't."id" AS k_1' in sql
