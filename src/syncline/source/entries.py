"""Lines of the feed as the source's tables hold them, told per bucket and table."""

from __future__ import annotations

from collections.abc import Container, Iterable

from syncline.source.port import Entries
from syncline.source.room import is_too_large

EntryRow = tuple[str, str, str, str, int, "str | None"]
"""Bucket, table, operation, key, layout, image."""


def group_entries(rows: Iterable[EntryRow], tables: Container[str]) -> list[Entries]:
    """Per bucket and table, of the synced `tables`. A put without an image, or with one that no frame could carry, is a
    remove."""
    puts: dict[tuple[str, str, int], list[tuple[str, str]]] = {}
    removes: dict[tuple[str, str], list[str]] = {}
    for bucket, table, op, key, layout, image in rows:
        if table not in tables:
            continue
        if op == "P" and image is not None and not is_too_large(table, key, image):
            puts.setdefault((table, bucket, layout), []).append((key, image))
        else:
            removes.setdefault((table, bucket), []).append(key)
    found = []
    for (table, bucket, layout), pairs in puts.items():
        keys, images = zip(*pairs, strict=True)
        found.append(Entries(table, layout, bucket, keys, images, ()))
    found += [Entries(table, 0, bucket, (), (), tuple(keys)) for (table, bucket), keys in removes.items()]
    return found
