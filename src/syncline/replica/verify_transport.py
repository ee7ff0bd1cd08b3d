"""What a verification asks of the network, beside what `transport.Transport` asks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from syncline.errors import ProtocolError
from syncline.replica.course import Ask, Request
from syncline.replica.transport import Transport

FRAMES_MAX = 8
"""Of one answer: `digests`, `changed`, and how it ends."""


@runtime_checkable
class VerifyTransport(Protocol):
    """A transport that can carry verifications; not every one of a test's has to."""

    def verify(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]: ...

    def verified(self, message: dict[str, Any]) -> None: ...


def verify_over(transport: Transport, request: Request) -> list[dict[str, Any]] | None:
    """The answer to VERIFY or VERIFIED."""
    if not isinstance(transport, VerifyTransport):
        raise ProtocolError("This transport carries no verifications.", code="cannot_verify")
    if request.ask is Ask.VERIFY:
        answer = list(islice(transport.verify(request.message), FRAMES_MAX + 1))
        if len(answer) > FRAMES_MAX:
            raise ProtocolError("The answer to a verification does not end.", code="bad_frame")
        return answer
    transport.verified(request.message)
    return None
