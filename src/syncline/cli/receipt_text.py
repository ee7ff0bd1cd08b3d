"""The receipt in words, by the clock of whoever looks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from syncline.replica.receipt import Receipt


def receipt_line(receipt: Receipt, zone: str | None = None, now: datetime | None = None) -> str:
    """`all 14 changes reached the office at 17:42`; with the day, where it is not today. `zone`: another than here."""
    when = _when(receipt.at, zone, now)
    of, refused = receipt.of, receipt.refused
    if not receipt.reached:
        return f"your change was refused {when}" if of == 1 else f"all {of:,} changes were refused {when}"
    if not refused:
        return f"your change reached the office {when}" if of == 1 else f"all {of:,} changes reached the office {when}"
    were = "was" if refused == 1 else "were"
    return f"{receipt.reached:,} of {of:,} changes reached the office {when}, {refused:,} {were} refused"


def _when(at: str, zone: str | None, now: datetime | None) -> str:
    place = ZoneInfo(zone) if zone else None
    then = datetime.fromisoformat(at).replace(tzinfo=UTC).astimezone(place)
    today = (now or datetime.now(UTC)).astimezone(place).date()
    day = "" if then.date() == today else f"on {then:%Y-%m-%d} "
    return f"{day}at {then:%H:%M}"
