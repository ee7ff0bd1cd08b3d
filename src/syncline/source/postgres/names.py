"""What our objects and the company's are called in SQL."""

from __future__ import annotations

import hashlib

from syncline.model.identifiers import quote
from syncline.model.schema import Table

SCHEMA = "syncline"
CAPTURE_ROLE_DEFAULT = "syncline_capture"
"""Who owns capture. Roles are of the whole server: databases share it."""
NAME_BYTES_MAX = 63
"""PostgreSQL cuts off what is longer, with no more than a notice."""

_DIGEST_DIGITS = 16


def table_sql(table: Table) -> str:
    """`"public"."visits"`."""
    return ".".join(quote(part) for part in table.place or (table.name,))


def ours(name: str) -> str:
    """`"syncline"."name"`."""
    return f"{quote(SCHEMA)}.{quote(name)}"


def object_name(prefix: str, table: Table | str) -> str:
    """`changelog_visits`; where that is too long, its beginning and a digest of the whole. Always the same for the same
    table, and never the same for two."""
    whole = f"{prefix}_{table if isinstance(table, str) else table.name}"
    if len(whole.encode()) <= NAME_BYTES_MAX:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST_DIGITS]
    readable = whole.encode()[: NAME_BYTES_MAX - 1 - _DIGEST_DIGITS].decode(errors="ignore")
    return f"{readable}_{digest}"
