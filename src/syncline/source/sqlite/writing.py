"""The source's write transactions: they wait for the company's programs as `system.writing` says."""

from __future__ import annotations

from syncline.system.database import immediate as write_transaction
from syncline.system.writing import begin_write

__all__ = ["BUSY_SECONDS", "begin_write", "write_transaction"]

BUSY_SECONDS = 30.0
"""How long a connection of ours waits for the lock, before the source is reported busy."""
