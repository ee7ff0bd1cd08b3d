"""Devices as `hello` meets them, and the office's view of devices, conflicts and rejections."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from syncline.clock import Clock
from syncline.errors import AuthError
from syncline.source.port import RecordFilter, Registration
from syncline.source.sqlite.writing import write_transaction
from syncline.values import key_of_text


class Registry:
    """`draw` makes unguessable names: device ids and nonces."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, draw: Callable[[], str]) -> None:
        self._db = connection
        self._clock = clock
        self._draw = draw

    def register(
        self, device: str | None, nonce: str | None, user: str, included: int, details: Mapping[str, str]
    ) -> Registration:
        """The nonce last used and the one issued after it are accepted: an answer may have been lost. What was used
        last gets the same one again: a repeat that the network brings late must not void what the device has by now.
        An older one, or none, means that the file was restored or copied: a new identity. So does a device, or a number
        of it, that this source does not know: the source was restored. (A device of another installation was made
        before the source was provisioned anew: what it had sent then is in the rows, and is not offered again.)"""
        with write_transaction(self._db):
            row = None
            if device:
                row = self._db.execute(
                    "SELECT number, user, nonce_used, nonce_issued, last FROM syncline_device WHERE device = ?1",
                    (device,),
                ).fetchone()
            if row is None:
                ours = device is not None and device.startswith(self._installation())
                return self._add(user, details, replaces=device, reoffer_sent=ours)
            number, owner, used, issued, last = row
            if owner != user:
                raise AuthError(
                    "This device belongs to another user.",
                    hint="Sign in as the user it belongs to, or start with a new file.",
                    code="other_user",
                    status=403,
                )
            if included > last:  # before the nonces: of the lost time the source knows none
                return self._add(user, details, replaces=device, reoffer_sent=True)
            if nonce is None or nonce not in (used, issued):
                return self._add(user, details, replaces=device, reoffer_sent=False)
            issued = issued if nonce == used else self._draw()
            self._db.execute(
                "UPDATE syncline_device SET nonce_used = ?2, nonce_issued = ?3, seen_us = ?4, details = ?5 "
                "WHERE device = ?1",
                (device, nonce, issued, self._clock.now_us(), _json(details)),
            )
            return Registration(str(device), number, issued, "known", last, False, self._id_of(str(device), last))

    def _id_of(self, device: str, number: int) -> bytes | None:
        """By it a copy of the file notices that it is not the one that sent this number."""
        row = self._db.execute(
            "SELECT id FROM syncline_outcome WHERE device = ?1 AND number = ?2", (device, number)
        ).fetchone()
        return bytes(row[0]) if row and row[0] is not None else None

    def _installation(self) -> str:
        """What the ids of this installation's devices begin with: drawn when the source was provisioned."""
        row = self._db.execute("SELECT value FROM syncline_meta WHERE name = 'installation'").fetchone()
        return f"{row[0]}-"

    def _add(self, user: str, details: Mapping[str, str], *, replaces: str | None, reoffer_sent: bool) -> Registration:
        device, nonce, now = self._installation() + self._draw(), self._draw(), self._clock.now_us()
        number = self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM syncline_device").fetchone()[0]
        self._db.execute(
            "INSERT INTO syncline_device(device, number, user, nonce_issued, created_us, seen_us, replaces, details) "
            "VALUES(?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
            (device, number, user, nonce, now, replaces, _json(details)),
        )
        return Registration(device, number, nonce, "new", 0, reoffer_sent)


def _json(details: Mapping[str, str]) -> str:
    return json.dumps(dict(details), ensure_ascii=False)


# ---------------------------------------------------------------- the office's view
def list_devices(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT d.device, d.number, d.user, d.last, coalesce(i.number, 0), d.created_us, d.seen_us, d.replaces, "
        "d.details, "
        "(SELECT count(*) FROM syncline_outcome o WHERE o.device = d.device), "
        "(SELECT count(*) FROM syncline_rejection r WHERE r.device = d.device), "
        "(SELECT count(*) FROM syncline_conflict c WHERE c.device = d.device) "
        "FROM syncline_device d LEFT JOIN syncline_included i ON i.device = d.device ORDER BY d.number"
    ).fetchall()
    names = ("device", "number", "user", "last", "included", "created_us", "seen_us", "replaces", "details")
    counts = ("mutations", "rejected", "conflicts")
    found = []
    for row in rows:
        record = dict(zip((*names, *counts), row, strict=True))
        record["details"] = json.loads(record["details"] or "{}")
        found.append(record)
    return found


def list_conflicts(connection: sqlite3.Connection, wanted: RecordFilter) -> list[dict[str, Any]]:
    where, parameters = _conditions(wanted)
    rows = connection.execute(
        "SELECT id, device, number, user, table_name, key, column_name, kind, rule, base, server, device_value, "
        "row_values, "
        f"at_us FROM syncline_conflict {where} ORDER BY id DESC LIMIT ?",
        (*parameters, wanted.limit),
    ).fetchall()
    names = (
        "id",
        "device",
        "number",
        "user",
        "table",
        "key",
        "column",
        "kind",
        "rule",
        "base",
        "server",
        "device_value",
    )
    found = []
    for row in rows:
        record = dict(zip((*names, "row", "at_us"), row, strict=True))
        record["key"] = list(json.loads(record["key"]))
        for name in ("base", "server", "device_value"):
            record[name] = json.loads(record[name])[0]
        record["row"] = json.loads(record["row"]) if record["row"] else None
        found.append(record)
    return found


def list_rejections(connection: sqlite3.Connection, wanted: RecordFilter) -> list[dict[str, Any]]:
    where, parameters = _conditions(wanted)
    rows = connection.execute(
        "SELECT device, number, user, table_name, key, op, code, reason, row_values, at_us "
        f"FROM syncline_rejection {where} ORDER BY at_us DESC LIMIT ?",
        (*parameters, wanted.limit),
    ).fetchall()
    names = ("device", "number", "user", "table", "key", "operation", "code", "reason", "values", "at_us")
    found = []
    for row in rows:
        record = dict(zip(names, row, strict=True))
        record["key"] = list(key_of_text(record["key"]))
        record["values"] = json.loads(record["values"]) if record["values"] else None
        found.append(record)
    return found


def _conditions(wanted: RecordFilter) -> tuple[str, list[str]]:
    pairs = [(name, value) for name, value in (("user", wanted.user), ("device", wanted.device)) if value]
    where = " AND ".join(f"{name} = ?" for name, _ in pairs)
    return (f"WHERE {where}" if where else ""), [value for _, value in pairs]
