"""Messages of `/v1/verify` and `/v1/verified`, by which a device compares what it holds with the source.

They came to version 2 of the protocol later: a server that knows them says so by `verify_keys` among the limits of its
`hello`, and a device asks no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from syncline import limits
from syncline.protocol import checks
from syncline.values import Key, decode_row, encode_value

CAPABILITY = "verify_keys"
"""Among the limits of `hello`: how many keys one question may leave out."""


@dataclass(frozen=True, slots=True)
class Verify:
    """One table of a device that stands at `cursor`. `skip`: keys with changes that no cut of the device's includes:
    neither side counts them. `token`: where the answer before paused. `digest` and `buckets` as for a download."""

    device: str
    cursor: str
    table: str
    layout: int
    digest: str
    buckets: tuple[str, ...] | None = None
    skip: tuple[Key, ...] = ()
    token: str | None = None

    def dump(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "cursor": self.cursor,
            "table": self.table,
            "layout": self.layout,
            "digest": self.digest,
            "buckets": None if self.buckets is None else list(self.buckets),
            "skip": [[encode_value(value) for value in key] for key in self.skip],
            "token": self.token,
        }

    @classmethod
    def load(cls, message: dict[str, Any]) -> Verify:
        named = message.get("buckets")
        return cls(
            device=checks.text(message, "device"),
            cursor=checks.text(message, "cursor"),
            table=checks.text(message, "table"),
            layout=checks.integer(message, "layout"),
            digest=checks.text(message, "digest"),
            buckets=None if named is None else tuple(checks.texts(message, "buckets", limits.BUCKETS_PER_USER_MAX)),
            skip=tuple(decode_row(key) for key in checks.items(message, "skip", limits.VERIFY_KEYS_MAX)),
            token=checks.optional_text(message, "token", limits.STAGE_TOKEN_CHARACTERS_MAX),
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """What a device found, for the office to count: tables and rows that were compared; per table with differences how
    many buckets differed; and of all these how many were repaired."""

    device: str
    tables: int
    rows: int
    differences: tuple[tuple[str, int], ...] = ()
    repaired: int = 0

    def dump(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "tables": self.tables,
            "rows": self.rows,
            "differences": [list(each) for each in self.differences],
            "repaired": self.repaired,
        }

    @classmethod
    def load(cls, message: dict[str, Any]) -> Verified:
        return cls(
            device=checks.text(message, "device"),
            tables=checks.integer(message, "tables", maximum=limits.VERIFIED_TABLES_MAX),
            rows=checks.integer(message, "rows", maximum=2**40),
            differences=tuple(
                _difference(each) for each in checks.items(message, "differences", limits.VERIFIED_TABLES_MAX)
            ),
            repaired=checks.integer(message, "repaired", maximum=2**30),
        )


def _difference(item: Any) -> tuple[str, int]:
    if type(item) is not list or len(item) != 2 or type(item[0]) is not str or type(item[1]) is not int:
        raise checks.bad("differences", "holds something that is not a table and a number")
    if len(item[0]) > limits.IDENTIFIER_CHARACTERS_MAX or not 0 < item[1] <= limits.BUCKETS_PER_USER_MAX + 1:
        raise checks.bad("differences", "names a table or a number beyond the limits")
    return item[0], item[1]


@dataclass(frozen=True, slots=True)
class Repair:
    """Beside the fields of a download, as `repair`: send the table anew for these held buckets, by a `replace`; of none
    where the table only has rows that no bucket holds. A server that does not know it leaves it aside."""

    table: str
    buckets: tuple[str, ...]

    def dump(self) -> dict[str, Any]:
        return {"table": self.table, "buckets": list(self.buckets)}

    @classmethod
    def load(cls, message: Any) -> Repair | None:
        if message is None:
            return None
        if type(message) is not dict:
            raise checks.bad("repair", "is not an object")
        return cls(checks.text(message, "table"), tuple(checks.texts(message, "buckets", limits.REPAIR_BUCKETS_MAX)))
