"""Every stable code that a person or a program may meet, in one place: what it means, and what to do.

`CATALOGUE` holds the codes of errors, findings and rejections, `CLOSE_CODES` the numbers with which a stream ends.
docs/errors.md is written from here; a test compares both with what the sources raise.
"""

from __future__ import annotations

from syncline.error_catalogue.configuration import CONFIGURATION
from syncline.error_catalogue.device import DEVICE
from syncline.error_catalogue.network import CLOSE_CODES, NETWORK
from syncline.error_catalogue.postgres import POSTGRES
from syncline.error_catalogue.rejections import REJECTIONS
from syncline.error_catalogue.scopes import SCOPES
from syncline.error_catalogue.server import SERVER
from syncline.error_catalogue.shape import CloseCode, Entry, Section

__all__ = ["CATALOGUE", "CLOSE_CODES", "SECTIONS", "CloseCode", "Entry", "Section", "remedy_of"]

SECTIONS: tuple[Section, ...] = (*CONFIGURATION, *SCOPES, *SERVER, *POSTGRES, *NETWORK, *DEVICE, *REJECTIONS)

CATALOGUE: dict[str, Entry] = {entry.code: entry for section in SECTIONS for entry in section.entries}


def remedy_of(code: str) -> str:
    """What to do about an error that does not say it itself; empty for a code that is not ours (a hook's own)."""
    return CATALOGUE[code].remedy if code in CATALOGUE else ""
