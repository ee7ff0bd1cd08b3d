"""Chinook's PostgreSQL script as it comes: a support agent's customers with their invoices, and all that these point at.

Foreign keys, a composite key, a self reference, numeric money, timestamps, accents. The sample lies beside the checkout,
in ../shared/data/chinook; without it this test is skipped.
"""

from __future__ import annotations

import re

import pytest
from tests.acceptance.lab import present_in_bytes, sample, wait_until
from tests.postgres.applications.office import Office

JANE, MARGARET, STEVE = "3", "4", "5"
CONFIGURATION = """
[scope.support]
root = "customer"
grant = "SELECT customer_id FROM customer WHERE support_rep_id = :sub"

[scope.support.tables]
invoice = { parent = "customer" }
invoice_line = { parent = "invoice" }
track = { referenced_by = "invoice_line", read_only = true }
album = { referenced_by = "track", read_only = true }
artist = { referenced_by = "album", read_only = true }
genre = { referenced_by = "track", read_only = true }
media_type = { referenced_by = "track", read_only = true }
playlist_track = { parent = "track" }
playlist = { referenced_by = "playlist_track", read_only = true }

[scope.staff]
tables = ["employee"]
read_only = true

[columns]
employee = { hide = ["address", "postal_code"] }
customer = { hide = ["fax"] }
"""
MINE = "SELECT customer_id FROM customer WHERE support_rep_id = %(sub)s::int"
INVOICES = f"SELECT invoice_id FROM invoice WHERE customer_id IN ({MINE})"
TRACKS = f"SELECT track_id FROM invoice_line WHERE invoice_id IN ({INVOICES})"
ALBUMS = f"SELECT album_id FROM track WHERE track_id IN ({TRACKS})"
SELECTS = {
    "customer": "SELECT customer_id, first_name, last_name, company, address, city, state, country, postal_code, phone, "
    "email, support_rep_id FROM customer WHERE support_rep_id = %(sub)s::int",
    "employee": "SELECT employee_id, last_name, first_name, title, reports_to, birth_date, hire_date, city, state, "
    "country, phone, fax, email FROM employee",
    "invoice": f"SELECT * FROM invoice WHERE customer_id IN ({MINE})",
    "invoice_line": f"SELECT * FROM invoice_line WHERE invoice_id IN ({INVOICES})",
    "track": f"SELECT * FROM track WHERE track_id IN ({TRACKS})",
    "album": f"SELECT * FROM album WHERE album_id IN ({ALBUMS})",
    "artist": f"SELECT * FROM artist WHERE artist_id IN (SELECT artist_id FROM album WHERE album_id IN ({ALBUMS}))",
    "genre": f"SELECT * FROM genre WHERE genre_id IN (SELECT genre_id FROM track WHERE track_id IN ({TRACKS}))",
    "media_type": f"SELECT * FROM media_type WHERE media_type_id IN (SELECT media_type_id FROM track WHERE track_id IN ({TRACKS}))",
    "playlist_track": f"SELECT * FROM playlist_track WHERE track_id IN ({TRACKS})",
    "playlist": f"SELECT * FROM playlist WHERE playlist_id IN (SELECT playlist_id FROM playlist_track WHERE track_id IN ({TRACKS}))",
}


def script() -> str:
    """Without the lines that drop, make and enter a database of its own."""
    text = sample("chinook/Chinook_PostgreSql.sql").read_text(encoding="utf-8")
    return re.sub(r"^(DROP DATABASE|CREATE DATABASE|\\c) .*$", "", text, flags=re.MULTILINE)


def strangers(office: Office, user: str) -> list[str]:
    return [
        email for (email,) in office.ask("SELECT email FROM customer WHERE support_rep_id <> %(s)s", {"s": int(user)})
    ]


@pytest.mark.slow
def test_a_day_in_the_music_store(office: Office) -> None:
    """P1, P8, P9, P15, P16: three agents, edits on all sides, a customer who changes hands, and no trace afterwards."""
    office.load(script())
    schema = office.schema_dump()
    told = office.syncline("init", office.database.tcp_url, "--json")
    assert told.status == 0 and told.err.startswith("Note:") and "password" in told.err
    proposed = told.json
    assert proposed["refused_tables"] == []
    assert len(proposed["tables"]) == 11
    office.configure(CONFIGURATION)
    report = office.must("check", "--json").json
    assert (report["errors"], report["refused_tables"], report["unsynced_tables"]) == ([], [], [])
    assert [scope["buckets"] for scope in report["scopes"]] == [59, 1]
    office.must("provision")
    with office.serving():
        jane, margaret, steve = devices = office.devices(jane=JANE, margaret=MARGARET, steve=STEVE)
        office.sync(*devices)
        office.in_step(SELECTS, *devices)
        for device in devices:
            assert present_in_bytes(device.path, strangers(office, device.user)) == []
            assert device.rows("PRAGMA foreign_key_check") == []

        (customer,) = jane.rows("SELECT min(customer_id) FROM customer")[0]
        office.write(
            f"UPDATE customer SET support_rep_id = 4 WHERE customer_id = {customer}",
            "UPDATE invoice SET total = total + 0.10, invoice_date = invoice_date + interval '1.000001 s'",
            "UPDATE track SET composer = 'Ünbekannt 🎵', milliseconds = milliseconds + 1 WHERE track_id % 7 = 0",
            "UPDATE invoice_line SET track_id = track_id + 1 WHERE invoice_line_id % 11 = 0",
            "DELETE FROM playlist_track WHERE track_id % 13 = 0",
        )
        jane.execute("UPDATE customer SET city = 'Zürich', state = NULL", "UPDATE invoice SET billing_city = 'Genève'")
        steve.execute(
            "INSERT INTO invoice SELECT 9001, customer_id, '2026-11-22T20:31:05Z', NULL, NULL, NULL, NULL, NULL, '1.50' "
            "FROM customer ORDER BY customer_id LIMIT 1",
            "INSERT INTO invoice_line SELECT 9002, 9001, track_id, '0.75', 2 FROM track LIMIT 1",
        )
        office.sync(jane, steve)
        office.sync(*devices)
        office.in_step(SELECTS, *devices)
        assert office.ask("SELECT total, invoice_date FROM invoice WHERE invoice_id = 9001") == [
            ("1.50", "2026-11-22 20:31:05.000000")
        ]
        assert present_in_bytes(jane.path, strangers(office, JANE)) == []

        with office.running(margaret):
            office.write("UPDATE employee SET reports_to = NULL WHERE employee_id = 5")
            wait_until(
                lambda: margaret.rows("SELECT reports_to FROM employee WHERE employee_id = 5") == [(None,)],
                "the office's change arrives",
            )
        office.sync(*devices)
        office.in_step(SELECTS, *devices)
    office.must("deprovision", "--yes")
    assert office.schema_dump() == schema
