"""Chinook's music store: a support employee's customers with their invoices, and everything that these point at.

Mixed-case names, integer keys, a composite key, a self reference, NUMERIC money. The sample lies beside the checkout, in
../shared/data/chinook; without it these tests are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.acceptance.conftest import MakeLab
from tests.acceptance.lab import (
    Device,
    Lab,
    column_names,
    compare,
    content_dump,
    journal_mode,
    present_in_bytes,
    sample,
    schema_dump,
    tables_of,
    wait_until,
)

SAMPLE = "chinook/Chinook_Sqlite.sqlite"
JANE, MARGARET, STEVE = "3", "4", "5"  # the three sales support agents, by Employee.EmployeeId

CONFIGURATION = """
[scope.support]
root = "Customer"
grant = "SELECT CustomerId FROM Customer WHERE SupportRepId = :sub"

[scope.support.tables]
Invoice = { parent = "Customer" }
InvoiceLine = { parent = "Invoice" }
Track = { referenced_by = "InvoiceLine", read_only = true }
Album = { referenced_by = "Track", read_only = true }
Artist = { referenced_by = "Album", read_only = true }
Genre = { referenced_by = "Track", read_only = true }
MediaType = { referenced_by = "Track", read_only = true }
PlaylistTrack = { parent = "Track" }
Playlist = { referenced_by = "PlaylistTrack", read_only = true }

[scope.staff]
tables = ["Employee"]
read_only = true

[columns]
Employee = { hide = ["BirthDate", "HireDate", "Address", "PostalCode"] }
Customer = { hide = ["Fax"] }
"""
HIDDEN = {"Employee": ("BirthDate", "HireDate", "Address", "PostalCode"), "Customer": ("Fax",)}

# What a support agent should have, in the words of the task.
CUSTOMERS = "SELECT CustomerId FROM Customer WHERE SupportRepId = :sub"
INVOICES = f"SELECT InvoiceId FROM Invoice WHERE CustomerId IN ({CUSTOMERS})"
TRACKS = f"SELECT TrackId FROM InvoiceLine WHERE InvoiceId IN ({INVOICES})"
ALBUMS = f"SELECT AlbumId FROM Track WHERE TrackId IN ({TRACKS})"
SELECTS = {
    "Invoice": f"SELECT * FROM Invoice WHERE CustomerId IN ({CUSTOMERS})",
    "InvoiceLine": f"SELECT * FROM InvoiceLine WHERE InvoiceId IN ({INVOICES})",
    "Track": f"SELECT * FROM Track WHERE TrackId IN ({TRACKS})",
    "Album": f"SELECT * FROM Album WHERE AlbumId IN ({ALBUMS})",
    "Artist": f"SELECT * FROM Artist WHERE ArtistId IN (SELECT ArtistId FROM Album WHERE AlbumId IN ({ALBUMS}))",
    "Genre": f"SELECT * FROM Genre WHERE GenreId IN (SELECT GenreId FROM Track WHERE TrackId IN ({TRACKS}))",
    "MediaType": f"SELECT * FROM MediaType WHERE MediaTypeId IN (SELECT MediaTypeId FROM Track WHERE TrackId IN ({TRACKS}))",
    "PlaylistTrack": f"SELECT * FROM PlaylistTrack WHERE TrackId IN ({TRACKS})",
    "Playlist": (
        f"SELECT * FROM Playlist WHERE PlaylistId IN (SELECT PlaylistId FROM PlaylistTrack WHERE TrackId IN ({TRACKS}))"
    ),
}


def selects_of(lab: Lab) -> dict[str, str]:
    def visible(table: str) -> str:
        return ", ".join(f'"{name}"' for name in column_names(lab.source, table) if name not in HIDDEN[table])

    return SELECTS | {
        "Customer": f"SELECT {visible('Customer')} FROM Customer WHERE SupportRepId = :sub",
        "Employee": f"SELECT {visible('Employee')} FROM Employee",
    }


def secrets_of(lab: Lab) -> Iterator[str]:
    """Hidden values that stand nowhere else."""
    yield from (value for (value,) in lab.rows("SELECT Fax FROM Customer WHERE Fax IS NOT NULL AND Fax <> Phone"))
    yield from (value for row in lab.rows("SELECT BirthDate, Address FROM Employee") for value in row)


def strangers_of(lab: Lab, user: str) -> list[str]:
    return [email for (email,) in lab.rows("SELECT Email FROM Customer WHERE SupportRepId <> ?", int(user))]


def assert_in_step(lab: Lab, *devices: Device) -> None:
    """P1, P8, P9, P16: exactly the user's rows, to the last bit; nothing hidden and no other customer in any byte."""
    for device in devices:
        assert compare(lab.source, device.path, selects_of(lab), device.user) == []
        assert present_in_bytes(device.path, secrets_of(lab)) == []
        assert present_in_bytes(device.path, strangers_of(lab, device.user)) == []
        mine = [email for (email,) in device.rows("SELECT Email FROM Customer")]
        assert present_in_bytes(device.path, mine) == sorted(mine)  # the search does find things
        assert device.rows("PRAGMA foreign_key_check") == []


def test_init_check_provision_deprovision(lab_of: MakeLab) -> None:
    """P15: `init` proposes what fits as it is; nothing of the store's changes; no trace is left."""
    lab = lab_of(sample(SAMPLE))
    tables, schema, mode = tables_of(lab.source), schema_dump(lab.source), journal_mode(lab.source)
    content = content_dump(lab.source, tables)

    proposed = lab.must("init", f"sqlite:///{lab.source.name}", "--json").json
    assert (sorted(proposed["tables"]), proposed["refused_tables"]) == (tables, [])
    lab.must("check")
    lab.configure(CONFIGURATION)
    report = lab.must("check", "--json").json
    assert (report["errors"], report["refused_tables"], report["unsynced_tables"]) == ([], [], [])
    assert [scope["buckets"] for scope in report["scopes"]] == [59, 1]

    # A row counts once per bucket, however many rows of the bucket point at it.
    genres = (
        "SELECT count(*) FROM (SELECT DISTINCT CustomerId, GenreId FROM Invoice JOIN InvoiceLine USING (InvoiceId)"
        " JOIN Track USING (TrackId))"
    )
    assert [(report["scopes"][0]["tables"]["Genre"],)] == lab.rows(genres)

    lab.must("provision")
    ours = schema_dump(lab.source)
    theirs = [entry for entry in schema if not entry[1].startswith("sqlite_")]
    assert [entry for entry in ours if not entry[1].startswith(("syncline_", "sqlite_"))] == theirs
    assert lab.must("provision", "--json").json["created"] == []
    assert schema_dump(lab.source) == ours
    assert content_dump(lab.source, tables) == content
    lab.must("deprovision", "--yes")
    assert (schema_dump(lab.source), journal_mode(lab.source)) == (schema, mode)
    assert content_dump(lab.source, tables) == content
    assert [file.name for file in lab.folder.glob("source.db*")] == ["source.db"]


@pytest.mark.slow
def test_the_customers_of_a_support_agent(lab_of: MakeLab) -> None:
    """P1, P8, P9, P12, P15, P16: three agents, edits on all sides, a customer who changes hands."""
    lab = lab_of(sample(SAMPLE))
    schema, mode = schema_dump(lab.source), journal_mode(lab.source)
    lab.configure(CONFIGURATION)
    lab.must("provision")
    with lab.serving():
        devices = lab.devices(jane=JANE, margaret=MARGARET, steve=STEVE)
        jane, margaret, steve = devices
        reports = lab.sync(*devices)
        assert all(report["first_sync"] and report["downloaded_rows"] > 3000 for report in reports)
        assert_in_step(lab, *devices)

        moved, kept, invoice = edit_offline_and_in_the_office(lab, jane, steve)
        (report,) = lab.sync(jane)
        assert (report["uploaded_mutations"], report["rejected"], report["pending"]) == (9, 3, 0)
        lab.sync(margaret, steve)
        assert_in_step(lab, *devices)
        assert_edits_arrived(lab, jane, steve, kept, invoice)
        assert margaret.rows("SELECT 1 FROM Customer WHERE CustomerId = ?", moved) == [(1,)]

        move_while_connected(lab, steve, moved)
        lab.sync(jane, margaret)
        assert_in_step(lab, *devices)
        lab.verify(jane)
    lab.must("deprovision", "--yes")
    assert (schema_dump(lab.source), journal_mode(lab.source)) == (schema, mode)


def edit_offline_and_in_the_office(lab: Lab, jane: Device, steve: Device) -> tuple[int, int, int]:
    """The devices are edited before the office: its values of what both changed are the newest."""
    moved, kept = (key for (key,) in jane.rows("SELECT CustomerId FROM Customer ORDER BY CustomerId LIMIT 2"))
    invoice, second = (
        key
        for (key,) in jane.rows("SELECT InvoiceId FROM Invoice WHERE CustomerId = ? ORDER BY InvoiceId LIMIT 2", kept)
    )
    line, track = jane.rows("SELECT InvoiceLineId, TrackId FROM InvoiceLine WHERE InvoiceId = ? ORDER BY 1", second)[0]
    free = "SELECT min(PlaylistId) FROM Playlist WHERE PlaylistId NOT IN (SELECT PlaylistId FROM PlaylistTrack WHERE TrackId = ?)"
    taken = jane.rows("SELECT PlaylistId, TrackId FROM PlaylistTrack WHERE TrackId <> ? ORDER BY 1, 2 LIMIT 1", track)[
        0
    ]

    assert (
        jane.execute(
            ("UPDATE Customer SET City = 'São José', Company = '', Phone = 'by Jane' WHERE CustomerId = ?", (kept,)),
            # 10 becomes an INTEGER in a NUMERIC column, 0.1 + 0.2 a float with all its bits; both stay that.
            ("UPDATE Invoice SET Total = 10.0, BillingState = NULL WHERE InvoiceId = ?", (invoice,)),
            ("UPDATE Invoice SET Total = 0.1 + 0.2 WHERE InvoiceId = ?", (second,)),
            (f"INSERT INTO PlaylistTrack VALUES(({free}), ?)", (track, track)),
            ("DELETE FROM PlaylistTrack WHERE PlaylistId = ? AND TrackId = ?", taken),
            ("DELETE FROM InvoiceLine WHERE InvoiceLineId = ?", (line,)),
        )
        == [1] * 6
    )
    # Refused: the store's database makes up these keys; a table to be read only; a customer given away.
    assert (
        jane.execute(
            ("INSERT INTO Invoice(CustomerId, InvoiceDate, Total) VALUES(?, '2026-11-22 00:00:00', 1.98)", (kept,)),
            "UPDATE Artist SET Name = 'Nobody' WHERE ArtistId = (SELECT min(ArtistId) FROM Artist)",
            ("UPDATE Customer SET SupportRepId = 4 WHERE CustomerId = ?", (kept,)),
        )
        == [1] * 3
    )
    assert steve.execute("UPDATE Employee SET Title = 'Director' WHERE EmployeeId = 5") == [1]

    assert (
        lab.execute(
            ("UPDATE Customer SET Phone = 'by the office', Country = 'Ελλάδα' WHERE CustomerId = ?", (kept,)),
            ("UPDATE Customer SET SupportRepId = 4 WHERE CustomerId = ?", (moved,)),
            "UPDATE Employee SET ReportsTo = 1, LastName = 'Müller' WHERE EmployeeId = 5",
            ("INSERT INTO Invoice(CustomerId, InvoiceDate, Total) VALUES(?, '2026-11-22 00:00:00', '3.96')", (kept,)),
            (
                "INSERT INTO InvoiceLine(InvoiceId, TrackId, UnitPrice, Quantity) SELECT max(InvoiceId),"
                " (SELECT min(TrackId) FROM Track WHERE TrackId NOT IN (SELECT TrackId FROM InvoiceLine)), 1.98, 2 FROM Invoice"
            ),
            # A price that does not fit its column, as SQLite lets one write it.
            ("UPDATE InvoiceLine SET UnitPrice = 'ask' WHERE InvoiceId = ?", (invoice,)),
        )[:5]
        == [1] * 5
    )
    return moved, kept, invoice


def assert_edits_arrived(lab: Lab, jane: Device, steve: Device, kept: int, invoice: int) -> None:
    """P12, P16, P22: the newest value won, the loser is kept; refusals wait with code and values for a person."""
    customer = "SELECT City, Company, Phone, Country, SupportRepId FROM Customer WHERE CustomerId = ?"
    assert lab.rows(customer, kept) == [("São José", "", "by the office", "Ελλάδα", 3)]
    assert lab.rows("SELECT Total, typeof(Total), BillingState FROM Invoice WHERE InvoiceId = ?", invoice) == [
        (10, "integer", None)
    ]
    assert lab.rows("SELECT count(*) FROM Invoice WHERE Total = 0.1 + 0.2 AND Total <> 0.3") == [(1,)]
    assert jane.rows("SELECT DISTINCT UnitPrice FROM InvoiceLine WHERE InvoiceId = ?", invoice) == [("ask",)]
    assert steve.rows("SELECT LastName, Title, ReportsTo FROM Employee WHERE EmployeeId = 5") == [
        ("Müller", "Sales Support Agent", 1)
    ]

    refused = {(each["table"], each["code"]): each["values"] for each in lab.rejections(jane)}
    assert refused.keys() == {("Invoice", "generated_key"), ("Artist", "read_only"), ("Customer", "scope")}
    assert refused["Invoice", "generated_key"]["Total"] == 1.98
    assert refused["Artist", "read_only"] == {"Name": "Nobody"}
    conflicts = lab.must("conflicts", "--json").json
    assert [(each["key"], each["column"], each["kind"]) for each in conflicts] == [
        ({"CustomerId": kept}, "Phone", "lost")
    ]
    assert [(each["server"], each["device_value"]) for each in conflicts] == [("by the office", "by Jane")]
    told = jane.rows("SELECT table_name, key FROM syncline_conflicts")
    assert [(table, json.loads(key)) for table, key in told] == [("Customer", {"CustomerId": kept})]


def move_while_connected(lab: Lab, steve: Device, moved: int) -> None:
    """P2, P9: a customer comes to a running device and leaves it again, with what only he pointed at."""
    tracks = "SELECT count(*) FROM Track"
    with lab.running(steve):
        before = steve.rows(tracks)
        lab.execute(("UPDATE Customer SET SupportRepId = 5 WHERE CustomerId = ?", (moved,)))
        wait_until(
            lambda: steve.rows("SELECT count(*) FROM Invoice WHERE CustomerId = ?", moved) != [(0,)], "a customer comes"
        )
        assert steve.rows(tracks) > before
        steve.execute(("UPDATE Customer SET Email = 'live@example.org' WHERE CustomerId = ?", (moved,)))
        wait_until(
            lambda: lab.rows("SELECT Email FROM Customer WHERE CustomerId = ?", moved) == [("live@example.org",)],
            "Steve's change",
        )
        lab.execute(("UPDATE Customer SET SupportRepId = 3 WHERE CustomerId = ?", (moved,)))
        wait_until(lambda: steve.rows(tracks) == before, "the customer leaves")
