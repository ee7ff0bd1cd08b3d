"""The integer keys that devices draw for tables whose keys the database makes up.

They are drawn at random from one range, at its top end 2^53 - 1: every program that reads a key as a floating point
number (JavaScript, JSON) still reads it exactly, and no company's own numbering, which counts from 1, ever comes near.
With a million such rows in one table the chance that any two are equal is one in ten thousand, and then the second one
is refused (`key_exists`), never merged. A key outside the range was the next free number of a device's own copy, which
two devices would take for two different things.
"""

from __future__ import annotations

from syncline.model.schema import Table
from syncline.values import Key

NEW_KEY_MIN = 2**52
NEW_KEY_MAX = 2**53 - 1


def is_new_key(key: Key) -> bool:
    """The key is one that a device drew."""
    return all(type(part) is int and NEW_KEY_MIN <= part <= NEW_KEY_MAX for part in key)


def remark_on_keys(table: Table) -> str:
    """What an app's author has to know of a table whose keys the database makes up; empty for all others."""
    if not table.generated_key:
        return ""
    remark = f'The database makes up the keys of "{table.name}": an app takes one for a new row from replica.new_key.'
    narrow = [name for name in table.key if table.column(name).kind in _NARROW]
    if narrow:
        remark += (
            f" Such a key needs 64 bits, and {', '.join(narrow)} has fewer: make it a bigint, or no device can add"
        )
        remark += " a row."
    return remark


_NARROW = ("smallint", "integer")
"""Kinds of PostgreSQL's columns; SQLite's integers have 64 bits whatever their type is called."""
