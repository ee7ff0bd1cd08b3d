"""One row's change, as uploads carry it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Literal

from syncline import limits
from syncline.errors import LimitError, ProtocolError
from syncline.protocol import checks
from syncline.values import Key, Value, decode_row, decode_value, encode_value

Operation = Literal["I", "U", "D"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One row's change on a device.

    `changes` maps column -> (new, was): the changed columns of an update, all columns of an insert (`was` None), and
    for a delete all columns of the old row (`new` None). `key_columns`: what the columns of `key` were called. `insert`
    is the number of the own insert it stands on, or 0; `included` the device's last mutation in its applied cut then.
    """

    number: int
    id: bytes
    table: str
    operation: Operation
    key: Key
    key_columns: tuple[str, ...]
    changes: dict[str, tuple[Value, Value]]
    wall_us: int
    seen_us: int
    base: int
    insert: int = 0
    included: int = 0

    def dump(self) -> dict[str, Any]:
        columns = list(self.changes)
        return {
            "n": self.number,
            "id": base64.b64encode(self.id).decode(),
            "table": self.table,
            "op": self.operation,
            "key": [encode_value(value) for value in self.key],
            "key_columns": list(self.key_columns),
            "columns": columns,
            "new": [encode_value(self.changes[column][0]) for column in columns],
            "was": [encode_value(self.changes[column][1]) for column in columns],
            "wall": self.wall_us,
            "seen": self.seen_us,
            "base": self.base,
            "insert": self.insert,
            "included": self.included,
        }

    @classmethod
    def load(cls, message: Any) -> Mutation:
        if type(message) is not dict:
            raise ProtocolError("A mutation is not an object.", code="bad_field")
        operation = checks.text(message, "op", 1)
        if operation not in ("I", "U", "D"):
            raise checks.bad("op", "is none of I, U, D")
        columns = checks.texts(message, "columns", 2_000)
        new, was = checks.items(message, "new", 2_000), checks.items(message, "was", 2_000)
        if not len(columns) == len(new) == len(was) or len(set(columns)) != len(columns):
            raise checks.bad("columns", "does not fit its values")
        changes = {
            column: (_value(after), _value(before)) for column, after, before in zip(columns, new, was, strict=True)
        }
        key, key_columns = checks.items(message, "key", 64), checks.texts(message, "key_columns", 64)
        if not 0 < len(key) == len(key_columns):
            raise checks.bad("key", "does not fit its columns")
        if operation == "I" and any(before is not None for before in was):
            raise checks.bad("was", "says what a row was that is inserted")
        if operation == "D" and any(after is not None for after in new):
            raise checks.bad("new", "says what a row becomes that is deleted")
        return cls(
            number=checks.integer(message, "n", minimum=1),
            id=mutation_id(message),
            table=checks.text(message, "table"),
            operation=operation,  # type: ignore[arg-type]
            key=decode_row(key),
            key_columns=tuple(key_columns),
            changes=changes,
            wall_us=checks.wall(message, "wall"),
            seen_us=checks.integer(message, "seen"),
            base=checks.integer(message, "base"),
            insert=checks.integer(message, "insert"),
            included=checks.integer(message, "included"),
        )


def _value(encoded: Any) -> Value:
    value = decode_value(encoded)
    if isinstance(value, str | bytes) and _is_longer(value, limits.VALUE_BYTES_MAX):
        raise LimitError(f"A value is above the limit of {limits.VALUE_BYTES_MAX} bytes.")
    return value


def _is_longer(value: str | bytes, bytes_max: int) -> bool:
    """In bytes; text is encoded only where its characters leave it open."""
    if isinstance(value, bytes) or len(value) > bytes_max:
        return len(value) > bytes_max
    return len(value) * 4 > bytes_max and len(value.encode()) > bytes_max


def mutation_id(message: dict[str, Any], field_name: str = "id") -> bytes:
    """The 16 bytes that name a mutation, everywhere and for ever."""
    try:
        identity = base64.b64decode(checks.text(message, field_name, 24), validate=True)
    except (ValueError, binascii.Error):
        identity = b""
    if len(identity) != 16:
        raise checks.bad(field_name, "is not 16 bytes in base64")
    return identity


def optional_id(message: dict[str, Any], field_name: str) -> bytes | None:
    return None if message.get(field_name) is None else mutation_id(message, field_name)


def id_text(identity: bytes | None) -> str | None:
    """As messages carry it."""
    return None if identity is None else base64.b64encode(identity).decode()


def are_halves(left: Mutation, arrived: Mutation) -> bool:
    """Of a changed key: a delete, and the insert that stands for it."""
    return (left.operation, arrived.operation, arrived.insert, arrived.table) == ("D", "I", left.number, left.table)


@dataclass(frozen=True, slots=True)
class Group:
    """`marked` groups are applied or refused as a whole."""

    marked: bool
    mutations: tuple[Mutation, ...]
