"""What leaves the server to come back unread and unchanged: text that only processes of the same source can read.

The encryption is deterministic (AES-SIV): the same text under the same key is the same sealed text, so nothing has to
be drawn, and a download that is played again is the same to the byte.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_PURPOSE = b"syncline paged download"


class Seal:
    """`key`: what `Source.seal_key` answers, 64 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def close(self, text: str) -> str:
        """The text as URL-safe Base64, about a third longer."""
        content = self._cipher.encrypt(text.encode("utf-8", "surrogatepass"), [_PURPOSE])
        return base64.urlsafe_b64encode(content).decode()

    def open(self, sealed: str) -> str | None:
        """None for what was not sealed with this key, or was changed since."""
        try:
            content = base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True)
            return self._cipher.decrypt(content, [_PURPOSE]).decode("utf-8", "surrogatepass")
        except (InvalidTag, UnicodeError, binascii.Error, ValueError):
            return None
