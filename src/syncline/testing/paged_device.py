"""A device that is nothing but dictionaries: it applies the frames of downloads in order, and checks their order.

What a real device does with them is much more; what it has to hold in the end is this.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from syncline.model.scopes import Plan
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of
from syncline.protocol.messages import Download, Stage
from syncline.server.auth import Identity
from syncline.server.downloads import BucketsNeededError
from syncline.server.service import Service

T = TypeVar("T")
Frame = dict[str, Any]
At = tuple[str, str]
"""Table and key text."""
ENDS = ("commit", "pause", "heartbeat")


@dataclass
class Staged:
    """A paged download as far as it is durable."""

    token: str
    buckets: set[str]
    reset: bool
    body: list[Frame] = field(default_factory=list)


class PagedDevice:
    """`ask` makes one request; `catch_up` as many as it takes. `seen` holds every frame that ever came."""

    def __init__(self, service: Service, plan: Plan, device: str, user: str, wait: Callable[[Awaitable[T]], T]) -> None:
        self.service = service
        self.identity = Identity(user, {"sub": user})
        self._plan = plan
        self._device = device
        self._wait: Callable[[Awaitable[Any]], Any] = wait
        self.cursor: str | None = None
        self.held: set[str] = set()
        self.included = 0
        self.applied = 0
        self.rows: dict[At, list[Any]] = {}
        self.members: dict[At, set[str]] = {}
        self.staged: Staged | None = None
        self.progress: list[Frame] = []
        self.seen: list[Frame] = []

    # ------------------------------------------------------------ asking
    def request(self, *, named: bool = False) -> dict[str, Any]:
        stage = None
        if self.staged:
            names = tuple(sorted(self.staged.buckets))
            stage = Stage(self.staged.token, digest_of(names), names if named else None)
        held = tuple(sorted(self.held))
        return Download(
            self._device,
            self.cursor,
            self.included,
            self.applied,
            digest_of(held),
            held if named else None,
            stage=stage,
        ).dump()

    def ask(self, *, frames_max: int | None = None, between: Callable[[Frame], None] | None = None) -> list[Frame]:
        """One answer; the line breaks after `frames_max` frames. `between` is called after each frame."""

        async def collect(named: bool) -> list[Frame]:
            answer: list[Frame] = []
            async for frame in await self.service.download(self.identity, self.request(named=named)):
                loaded = frames.load(frame)
                answer.append(loaded)
                if between:
                    between(loaded)
                if len(answer) == frames_max:
                    break
            return answer

        try:
            answer = self._wait(collect(False))
        except BucketsNeededError:
            answer = self._wait(collect(True))
        self._take(answer)
        return answer  # type: ignore[no-any-return]

    def catch_up(self, between: Callable[[], None] | None = None, rounds_max: int = 1_000) -> int:
        """Asks until nothing more comes; `between` is called between two answers. How many answers it took."""
        for count in range(1, rounds_max + 1):
            last = self.ask()[-1]
            if last["t"] == "heartbeat" or (last["t"] == "commit" and not last["more"]):
                return count
            if between:
                between()
        raise AssertionError("the download does not come to an end")

    # ------------------------------------------------------------ taking
    def _take(self, answer: list[Frame]) -> None:
        self.seen += answer
        opening, *rest = answer
        if opening["t"] == "heartbeat":
            return
        assert opening["t"] == "begin" and opening["apply_count"] == self.applied
        staged = self._staged_at(opening)
        body: list[Frame] = []
        for frame in rest:
            kind = frame["t"]
            if kind == "stage":
                assert staged is not None and opening["stage"] == "new"
                staged.buckets = set(frame["buckets"])
            elif kind == "progress":
                assert staged is not None and opening["stage"] in ("new", "resume")
                staged.token = frame["token"]
                staged.buckets -= set(frame["lost"])
                staged.body += body
                body, self.staged = [], staged
                self.progress.append(frame)
            elif kind == "commit":
                self._commit(opening, staged, body, frame)
            elif kind != "pause":
                body.append(frame)

    def _staged_at(self, opening: Frame) -> Staged | None:
        """What the answer builds on. Nothing that is not yet durable changes what is."""
        how = opening["stage"]
        if how == "new":
            return Staged("", set(), opening["reset"])
        if how == "resume":
            assert self.staged is not None and self.staged.reset == opening["reset"]
            kept = self.staged
            return Staged(kept.token, set(kept.buckets), kept.reset, list(kept.body))
        return None

    def _commit(self, opening: Frame, staged: Staged | None, body: list[Frame], commit: Frame) -> None:
        assert commit["apply_count"] == self.applied
        added = set(commit["buckets"]["add"])
        if staged is not None:
            assert added <= staged.buckets
            body = staged.body + body
        if opening["reset"]:
            self.members, self.held = {}, set()
        allowed = self.held | added
        for frame in body:
            self._apply(frame, allowed)
        self.rows = {at: row for at, row in self.rows.items() if self.members.get(at)}
        self.held |= added
        self.cursor, self.included = commit["cursor"], commit["included"]
        self.applied += 1
        if opening["stage"] != "keep":
            self.staged = None

    def _apply(self, frame: Frame, allowed: set[str]) -> None:
        kind = frame["t"]
        if kind == "rows":
            for index, row in enumerate(frame["rows"]):
                of = frame["of"][index] if "of" in frame else 0
                names = {frame["buckets"][place] for place in ([of] if isinstance(of, int) else of)}
                if names & allowed:
                    at = (frame["table"], self._key(frame["table"], row))
                    self.rows[at] = row
                    self.members.setdefault(at, set()).update(names & allowed)
        elif kind == "remove":
            for key in frame["keys"]:
                self._leave((frame["table"], json.dumps(key)), {frame["bucket"]})
        elif kind == "replace":
            for at in list(self.members):
                if at[0] == frame["table"]:
                    self._leave(at, set(frame["buckets"]))
        elif kind == "drop_bucket":
            for at in list(self.members):
                self._leave(at, set(frame["buckets"]))
            self.held -= set(frame["buckets"])

    def _leave(self, at: At, buckets: Iterable[str]) -> None:
        if at in self.members:
            self.members[at] -= set(buckets)

    def _key(self, table: str, row: list[Any]) -> str:
        synced = self._plan.tables[table]
        return json.dumps([row[synced.columns.index(column)] for column in synced.key])

    # ------------------------------------------------------------ looking
    def table(self, name: str) -> list[list[Any]]:
        """Its rows, in no order that means anything."""
        return sorted((row for (table, _), row in self.rows.items() if table == name), key=repr)
