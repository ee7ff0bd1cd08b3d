"""What the app and the operating system say of network and power, made into what the session has to know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from syncline.replica.connectivity.port import Change, Conditions, Connectivity
from syncline.replica.session import Event

Hear = Callable[[tuple[Event, ...]], None]


class Surroundings:
    """Keeps the conditions while agents come and go. `hear` is called with what changed, from any thread.

    The last word counts, whoever spoke, but for one: an app that said `online=False` is offline until it says
    otherwise.
    """

    def __init__(self, connectivity: Connectivity, hear: Hear) -> None:
        self._connectivity = connectivity
        self._hear = hear
        self._guard = threading.RLock()
        self._is_listening = False
        self._told_offline = False
        self._conditions = Conditions()

    @property
    def conditions(self) -> Conditions:
        return self._conditions

    def begin(self) -> None:
        """Listens to the operating system; what it says at once is known when this returns."""
        if not self._is_listening:
            self._is_listening = True
            self._connectivity.listen(self._listened)

    def changed_since(self, before: Conditions) -> None:
        """Tells an agent that was just made what it missed since it was given these."""
        with self._guard:
            now = self._conditions
            is_back = before.online is False and now.online is True
            events = evaluate_events(before, now, is_online_told=is_back, moved=False)
        if events:
            self._hear(events)

    def end(self) -> None:
        """What the listener said is forgotten: it may be wrong when the next agent starts."""
        if self._is_listening:
            self._is_listening = False
            self._connectivity.close()
            if not self._told_offline:
                self._conditions = replace(self._conditions, online=None)

    def network(self, online: bool | None, metered: bool | None) -> None:
        """The app's word; None: it says nothing of that."""
        with self._guard:
            if online is not None:
                self._told_offline = not online
            self._change(online, metered=metered)

    def power(self, low_battery: bool) -> None:
        with self._guard:
            self._change(None, low_battery=low_battery)

    def _listened(self, change: Change) -> None:
        with self._guard:
            if not self._told_offline:
                self._change(change.online, moved=change.moved)

    def _change(
        self, online: bool | None, *, moved: bool = False, metered: bool | None = None, low_battery: bool | None = None
    ) -> None:
        before = self._conditions
        self._conditions = Conditions(
            before.online if online is None else online,
            before.metered if metered is None else metered,
            before.low_battery if low_battery is None else low_battery,
        )
        events = evaluate_events(before, self._conditions, is_online_told=online is True, moved=moved)
        if events:
            self._hear(events)


def evaluate_events(before: Conditions, after: Conditions, *, is_online_told: bool, moved: bool) -> tuple[Event, ...]:
    """What a change is for the session. A network that is told again is news: something about it is better. Postponing
    comes first, so that nothing is begun on a network of which the same call says that it is metered."""
    events: list[Event] = []
    if after.postponed_by and not before.postponed_by:
        events.append(Event.POSTPONE)
    if moved:
        events.append(Event.MOVED)
    elif is_online_told:
        events.append(Event.ONLINE)
    elif after.online is False and before.online is not False:
        events.append(Event.OFFLINE)
    if before.postponed_by and not after.postponed_by:
        events.append(Event.RESUME)
    return tuple(events)
