"""Devices as `hello` meets them, and the office's view of devices, conflicts and rejections."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg

from syncline.clock import Clock
from syncline.errors import AuthError, NotProvisionedError
from syncline.source.port import DeviceRow, RecordFilter, Registration
from syncline.values import key_of_text

SEAL = "seal"
"""The name in syncline.meta of the key that downloads' tokens are sealed with."""
SEAL_BYTES = 64


class Registry:
    """`draw` makes unguessable names: device ids and nonces. `db` is inside the registration's transaction."""

    def __init__(self, db: asyncpg.Connection, clock: Clock, draw: Callable[[], str]) -> None:
        self._db = db
        self._clock = clock
        self._draw = draw

    async def register(
        self, device: str | None, nonce: str | None, user: str, included: int, details: Mapping[str, str]
    ) -> Registration:
        """The nonce last used and the one issued after it are accepted: an answer may have been lost. What was used
        last gets the same one again: a repeat that the network brings late must not void what the device has by now.
        An older one, or none, means that the file was restored or copied: a new identity. So does a device, or a number
        of it, that this source does not know: the source was restored. (A device of another installation was made
        before the source was provisioned anew: what it had sent then is in the rows, and is not offered again.)"""
        await require_provisioned(self._db)
        row = None
        if device:
            row = await self._db.fetchrow(
                "SELECT number, owner, nonce_used, nonce_issued, last FROM syncline.device WHERE device = $1 "
                "FOR NO KEY UPDATE",
                device,
            )
        if row is None:
            ours = device is not None and device.startswith(await self._installation())
            return await self._add(user, details, replaces=device, reoffer_sent=ours)
        number, owner, used, issued, last = row
        if owner != user:
            raise AuthError(
                "This device belongs to another user.",
                hint="Sign in as the user it belongs to, or start with a new file.",
                code="other_user",
                status=403,
            )
        if included > last:  # before the nonces: of the lost time the source knows none
            return await self._add(user, details, replaces=device, reoffer_sent=True)
        if nonce is None or nonce not in (used, issued):
            return await self._add(user, details, replaces=device, reoffer_sent=False)
        issued = issued if nonce == used else self._draw()
        await self._db.execute(
            "UPDATE syncline.device SET nonce_used = $2, nonce_issued = $3, seen_us = $4, details = $5 "
            "WHERE device = $1",
            device,
            nonce,
            issued,
            self._clock.now_us(),
            _json(details),
        )
        return Registration(str(device), number, issued, "known", last, False, await self._id_of(str(device), last))

    async def _id_of(self, device: str, number: int) -> bytes | None:
        """By it a copy of the file notices that it is not the one that sent this number."""
        found: bytes | None = await self._db.fetchval(
            "SELECT id FROM syncline.outcome WHERE device = $1 AND number = $2", device, number
        )
        return found

    async def _installation(self) -> str:
        """What the ids of this installation's devices begin with: drawn when the source was provisioned."""
        name = await self._db.fetchval("SELECT value FROM syncline.meta WHERE name = 'installation'")
        return f"{name}-"

    async def _add(
        self, user: str, details: Mapping[str, str], *, replaces: str | None, reoffer_sent: bool
    ) -> Registration:
        """Numbers are given one at a time, and seen only once they are committed: hence the lock."""
        device, nonce, now = await self._installation() + self._draw(), self._draw(), self._clock.now_us()
        await self._db.execute("SELECT pg_advisory_xact_lock(hashtextextended('syncline.device', 0))")
        number = await self._db.fetchval(
            "INSERT INTO syncline.device(device, number, owner, nonce_issued, created_us, seen_us, replaces, details) "
            "SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4, $4, $5, $6 FROM syncline.device RETURNING number",
            device,
            user,
            nonce,
            now,
            replaces,
            _json(details),
        )
        return Registration(device, number, nonce, "new", 0, reoffer_sent)


async def require_provisioned(db: asyncpg.Connection) -> None:
    """NotProvisionedError where there is nothing of ours."""
    if not await db.fetchval("SELECT to_regclass('syncline.meta') IS NOT NULL"):
        raise NotProvisionedError("Capture is not installed in this database.", hint="Run: syncline provision")


async def find_device(db: asyncpg.Connection, device: str, *, lock: bool = False) -> DeviceRow | None:
    """With `lock` nobody else registers or uploads for the device until the transaction ends."""
    row = await db.fetchrow(
        "SELECT device, number, owner, last, last_stamp, greatest((SELECT floor_us FROM syncline.pulse), "
        "(SELECT time_us FROM syncline.checkpoint), 0) FROM syncline.device WHERE device = $1"
        + (" FOR NO KEY UPDATE OF device" if lock else ""),
        device,
    )
    return DeviceRow(*row) if row else None


async def seal_key(db: asyncpg.Connection) -> bytes:
    """Drawn by provisioning; or here, by whoever comes first, where capture was installed without."""
    await require_provisioned(db)
    read = "SELECT value FROM syncline.meta WHERE name = $1"
    key = await db.fetchval(read, SEAL)
    if key is None:
        drawn = secrets.token_hex(SEAL_BYTES)
        await db.execute("INSERT INTO syncline.meta VALUES($1, $2) ON CONFLICT DO NOTHING", SEAL, drawn)
        key = await db.fetchval(read, SEAL)
    return bytes.fromhex(key)


def _json(details: Mapping[str, str]) -> str:
    return json.dumps(dict(details), ensure_ascii=False)


# ---------------------------------------------------------------- the office's view
async def list_devices(db: asyncpg.Connection) -> list[dict[str, Any]]:
    await require_provisioned(db)
    rows = await db.fetch(
        'SELECT d.device, d.number, d.owner AS "user", d.last, coalesce(i.number, 0) AS included, d.created_us, '
        "d.seen_us, d.replaces, d.details, "
        "(SELECT count(*) FROM syncline.outcome o WHERE o.device = d.device) AS mutations, "
        "(SELECT count(*) FROM syncline.rejection r WHERE r.device = d.device) AS rejected, "
        "(SELECT count(*) FROM syncline.conflict c WHERE c.device = d.device) AS conflicts "
        "FROM syncline.device d LEFT JOIN syncline.included i ON i.device = d.device ORDER BY d.number"
    )
    return [{**row, "details": json.loads(row["details"] or "{}")} for row in map(dict, rows)]


async def list_conflicts(db: asyncpg.Connection, wanted: RecordFilter) -> list[dict[str, Any]]:
    rows = await _records(
        db,
        'SELECT id, device, number, owner AS "user", table_name AS "table", key, column_name AS "column", kind, rule, '
        'base, server, device_value, row_values AS "row", at_us FROM syncline.conflict',
        "id DESC",
        wanted,
    )
    for record in rows:
        record["key"] = list(json.loads(record["key"]))
        for name in ("base", "server", "device_value"):
            record[name] = json.loads(record[name])[0]
        record["row"] = json.loads(record["row"]) if record["row"] else None
    return rows


async def list_rejections(db: asyncpg.Connection, wanted: RecordFilter) -> list[dict[str, Any]]:
    rows = await _records(
        db,
        'SELECT device, number, owner AS "user", table_name AS "table", key, op AS operation, code, reason, '
        'row_values AS "values", at_us FROM syncline.rejection',
        "at_us DESC, device, number DESC",
        wanted,
    )
    for record in rows:
        record["key"] = list(key_of_text(record["key"]))
        record["values"] = json.loads(record["values"]) if record["values"] else None
    return rows


async def _records(db: asyncpg.Connection, select: str, order: str, wanted: RecordFilter) -> list[dict[str, Any]]:
    await require_provisioned(db)
    rows = await db.fetch(
        f"{select} WHERE ($1::text IS NULL OR owner = $1) AND ($2::text IS NULL OR device = $2) "
        f"ORDER BY {order} LIMIT $3",
        wanted.user or None,
        wanted.device or None,
        wanted.limit,
    )
    return [dict(row) for row in rows]
