"""A server, made by hand, that sends one long download page by page and goes on where a device's token says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.replica.messages import Bench

from syncline.protocol.cursor import digest_of
from syncline.replica.apply import AppliedCut

Frames = list[dict[str, Any]]


@dataclass
class Paging:
    """`pages`, and `last`: what stands after the last `progress`. `lost`: page number -> buckets that it says are
    lost."""

    bench: Bench
    buckets: list[str]
    pages: list[Frames]
    last: Frames = field(default_factory=list)
    reset: bool = True
    lost: dict[int, list[str]] = field(default_factory=dict)
    included: int | None = None

    def answer(self, pages_max: int = 1_000, *, anew: bool = False) -> Frames:
        """To the request that the device would send now; a `pause` after `pages_max` pages. `anew`: whatever the token
        says."""
        request = self.bench.file.download_request()
        stage = None if anew else request["stage"]
        done = 0 if stage is None else int(stage["token"])
        if stage is not None:
            assert stage["digest"] == digest_of(self._left(done)), "the device's list of buckets is another one"
        kind = "new" if stage is None else "resume"
        count = request["apply_count"]
        frames: Frames = [{"t": "begin", "apply_count": count, "reset": self.reset, "rows": 100, "stage": kind}]
        if stage is None:
            frames.append({"t": "stage", "buckets": self.buckets})
        for number, page in enumerate(self.pages[done : done + pages_max], done + 1):
            rows = sum(len(frame.get("rows", ())) for each in self.pages[:number] for frame in each)
            told = {"token": str(number), "rows": rows, "bytes": rows * 10, "total_rows": 100}
            frames += [*page, {"t": "progress", **told, "lost": self.lost.get(number, [])}]
        if done + pages_max < len(self.pages):
            return [*frames, {"t": "pause"}]
        return [*frames, *self.last, self._commit(request)]

    def _left(self, done: int) -> list[str]:
        gone = {name for number, names in self.lost.items() if number <= done for name in names}
        return [name for name in self.buckets if name not in gone]

    def _commit(self, request: dict[str, Any]) -> dict[str, Any]:
        self.bench.checkpoint += 1
        return {
            "t": "commit",
            "cursor": f"term.{self.bench.checkpoint}",
            "checkpoint": self.bench.checkpoint,
            "buckets": {"add": self._left(len(self.pages))},
            "included": request["included"] if self.included is None else self.included,
            "time": 1_000_000 * self.bench.checkpoint,
            "apply_count": request["apply_count"],
            "more": False,
        }

    def receive(self, frames: Frames) -> AppliedCut | None:
        applied = None
        for frame in frames:
            applied = self.bench.file.receive(frame) or applied
        return applied

    def run(self, pages_max: int = 1_000) -> AppliedCut | None:
        """One request, answered whole."""
        return self.receive(self.answer(pages_max))
