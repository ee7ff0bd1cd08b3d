"""A table of every type there is, with the values at their edges, from the office to devices and back by their uploads.

Row n of `torture` holds the n-th value of every case of tests/postgres/torture.py; `back` begins empty.
"""

from __future__ import annotations

import pytest
from tests.postgres.applications.office import Office
from tests.postgres.torture import Case, cases, features, unusual_settings

CONFIGURATION = """
[scope.all]
tables = ["torture", "back"]
"""
SHOWN = {
    "bigint": "9007199254740993",
    "boolean": "1",
    "real": "0.1",
    "numeric": "1.50",
    "money": "-92233720368547758.08",
    "char": "ab",
    "enum": "it's",
    "date": "0044-03-15 BC",
    "time": "20:31:05.000000",
    "instant": "2026-11-22 15:01:05.123456",
    "interval": "P1Y2M-3DT4H5M6.7S",
    "int4range": "[1,5)",
    "inet": "10.0.0.1",
    "integers": "[[1,2],[3,null]]",
    "instants": '["2024-02-28 18:30:00.000000","2024-02-29 12:00:00.123456","-infinity",null,"0044-03-15 12:00:00 BC"]',
}
"""Of some types one value as docs/types.md writes it."""
SHIFT = 2
"""So many rows further on there is another value: 1.50 written over 1.5 would be no change."""


def make_tables(office: Office) -> tuple[list[Case], int]:
    """The cases that this server has, each a column of its name, and how many rows there are."""
    database = office.database
    present = list(cases(features(database), database.host.info.server_version // 10_000))
    rows = max(len(case.values) for case in present) + 1
    for case in present:
        for statement in case.statements:
            database.execute(statement)
    columns = ", ".join(f'"{case.name}" {case.type}' for case in present)
    values = ", ".join(f"(SELECT v FROM {case.table} AS c WHERE c.id = n)" for case in present)
    office.write(
        f"CREATE TABLE torture(id integer PRIMARY KEY, {columns})",
        "CREATE TABLE back(LIKE torture INCLUDING ALL)",
        f"INSERT INTO torture SELECT n, {values} FROM generate_series(1, {rows}) AS n",
        *(f"DROP TABLE {case.table}" for case in present),
        *unusual_settings(database.name),
    )
    return present, rows


def changed(office: Office, present: list[Case], rows: int, shift: int) -> list[str]:
    """What is not to the last bit the value of `torture` that lies `shift` rows further on."""
    found = []
    for case in present:
        value = f'"{case.name}"'
        differing = office.ask(
            f"SELECT b.id, t.{value}::text, b.{value}::text FROM torture t LEFT JOIN back b "
            f"ON t.id = (b.id - 1 + {shift}) % {rows} + 1 "
            f"WHERE b.id IS NULL OR NOT record_image_eq(ROW(t.{value}), ROW(b.{value}))"
        )
        found += [f"{case.name}: row {row}: {was!s:.60} came back as {now!s:.60}" for row, was, now in differing]
    return [line for line in found if line.partition(":")[0] in {case.name for case in present if case.writable}]


@pytest.mark.slow
def test_every_type_goes_to_the_devices_and_comes_back(office: Office) -> None:
    """P1, P15, P16: by first syncs, by the feed and by uploads; what comes back is the same to the last bit."""
    present, rows = make_tables(office)
    schema = office.schema_dump()
    office.configure(CONFIGURATION)
    office.must("provision")
    names = ", ".join(f'"{case.name}"' for case in present)
    every_value = f"SELECT id, {names} FROM {{}} ORDER BY id"
    with office.serving():
        ann, ben = office.devices(ann="ann", ben="ben")
        office.sync(ann, ben)
        given = ann.rows(every_value.format("torture"))
        assert len(given) == rows
        for case in present:
            column = [row[0] for row in ann.rows(f'SELECT "{case.name}" FROM torture ORDER BY id')]
            assert all(value is not None for value in column[: len(case.values)]), case.name
            assert all(value is None for value in column[len(case.values) :]), case.name
            assert case.name not in SHOWN or SHOWN[case.name] in map(str, column), (case.name, column)

        office.write("UPDATE torture SET id = id")
        assert ann.execute("INSERT INTO back SELECT * FROM torture") == [rows]
        (report,) = office.sync(ann)
        assert (report["uploaded_mutations"], report["rejected"]) == (rows, 0)
        assert changed(office, present, rows, 0) == []
        office.sync(ben)
        assert ben.rows(every_value.format("torture")) == given == ann.rows(every_value.format("torture"))
        assert ben.rows(every_value.format("back")) == given == ann.rows(every_value.format("back"))

        turned = f"UPDATE back SET ({names}) = (SELECT {names} FROM torture t WHERE t.id = (back.id - 1 + {SHIFT}) % {rows} + 1)"
        assert ben.execute(turned) == [rows]
        (report,) = office.sync(ben)
        assert (report["uploaded_mutations"], report["rejected"], report["conflicts"]) == (rows, 0, 0)
        assert changed(office, present, rows, SHIFT) == []
        office.sync(ann)
        expected = [row[1:] for row in (*given[SHIFT:], *given[:SHIFT])]
        for device in (ann, ben):
            assert [row[1:] for row in device.rows(every_value.format("back"))] == expected
        office.verify(ann, ben)
    office.must("deprovision", "--yes")
    assert office.schema_dump() == schema
