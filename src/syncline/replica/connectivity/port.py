"""What a device knows of its surroundings, and who tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Conditions:
    """`online` None: nobody knows. `metered`, `low_battery`: syncing is to wait."""

    online: bool | None = None
    metered: bool = False
    low_battery: bool = False

    @property
    def postponed_by(self) -> str | None:
        """Why syncing is to wait: "metered", "low_battery", or None."""
        return "metered" if self.metered else "low_battery" if self.low_battery else None


@dataclass(frozen=True, slots=True)
class Change:
    """What a listener noticed. `moved`: the device is on another network, and connections made before are dead."""

    online: bool | None
    moved: bool = False


Tell: TypeAlias = Callable[[Change], None]


class Connectivity(Protocol):
    """Listens to the operating system. An app for another platform hands in its own: `Replica(…, connectivity=…)`."""

    def listen(self, tell: Tell) -> None:
        """Begins. Tells at once how things stand, if that is known, and then each change; from any thread, in order.

        A network that came back, or became better, is told again as `online=True`. Never raises: what cannot listen
        tells nothing, and timers do.
        """
        ...

    def close(self) -> None:
        """Ends: afterwards nothing is told. Idempotent, and `listen` may follow."""
        ...


class NoConnectivity:
    """Nobody knows: timers, local commits and the app's own word do."""

    def listen(self, tell: Tell) -> None:
        pass

    def close(self) -> None:
        pass
