"""The integer keys that devices draw for tables whose keys the database makes up.

They are drawn at random from one range, at its top end 2^53 - 1: every program that reads a key as a floating point
number (JavaScript, JSON) still reads it exactly, and no company's own numbering, which counts from 1, ever comes near.
With a million such rows in one table the chance that any two are equal is one in ten thousand, and then the second one
is refused (`key_exists`), never merged. A key outside the range was the next free number of a device's own copy, which
two devices would take for two different things.
"""

from __future__ import annotations

from syncline.values import Key

NEW_KEY_MIN = 2**52
NEW_KEY_MAX = 2**53 - 1


def is_new_key(key: Key) -> bool:
    """The key is one that a device drew."""
    return all(type(part) is int and NEW_KEY_MIN <= part <= NEW_KEY_MAX for part in key)
