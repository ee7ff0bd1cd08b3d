"""The frames of a cut that many devices get: row frames once for all, `begin` and `commit` each device's own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from syncline import limits
from syncline.protocol import frames
from syncline.protocol.cursor import cursor_text
from syncline.protocol.messages import id_text
from syncline.server.cut_frames import entry_frames
from syncline.server.downloads import Position
from syncline.source.port import Delta, Entries

_BEGIN = b'{"t":"begin","apply_count":%d,"reset":false,"rows":%d,"stage":null}'


class SharedCut:
    """Of one delta. A bucket's frames are encoded when the first device needs them, and compressed once per packing."""

    def __init__(self, delta: Delta) -> None:
        self._delta = delta
        self._entries: dict[str, list[Entries]] = {}
        for entries in delta.entries:
            self._entries.setdefault(entries.bucket, []).append(entries)
        self._packed: dict[tuple[str, int], tuple[bytes, ...]] = {}
        head = delta.head
        self._closing = frames.dump(
            {
                "t": "commit",
                "cursor": cursor_text(head.term, head.checkpoint),
                "checkpoint": head.checkpoint,
                "buckets": {"add": []},
                "time": head.time_us,
                "more": False,
            }
        )[:-1]

    def messages(
        self, device: str, position: Position, buckets: Collection[str], lost: Collection[str], packing: int
    ) -> tuple[list[bytes], int]:
        """What a device at `position` is sent, bundled, and its included mutation then."""
        number, identity = self._delta.included.get(device, (position.included, None))
        included = max(number, position.included)
        rows = sum(len(entries.rows) for bucket in buckets for entries in self._entries.get(bucket, ()))
        parts = [
            _plain(_BEGIN % (position.apply_count, rows)),
            *([_plain(frames.dump({"t": "drop_bucket", "buckets": sorted(lost)}))] if lost else ()),
        ]
        for bucket in buckets:
            parts += self._bucket(bucket, packing)
        identity_text = f'"{id_text(identity)}"' if identity else "null"
        closing = b',"included":%d,"included_id":%b,"apply_count":%d}' % (
            included,
            identity_text.encode(),
            position.apply_count,
        )
        parts.append(_plain(self._closing + closing))
        return list(bundled(parts)), included

    def _bucket(self, bucket: str, packing: int) -> tuple[bytes, ...]:
        known = self._packed.get((bucket, packing))
        if known is None:
            known = tuple(
                frames.with_length(frames.pack(frame, packing))
                for entries in self._entries.get(bucket, ())
                for frame in entry_frames(entries)
            )
            self._packed[bucket, packing] = known
        return known


def _plain(frame: bytes) -> bytes:
    return frames.with_length(frames.pack(frame, frames.PLAIN))


def bundled(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Messages of a WebSocket from packed frames with their lengths."""
    bundle, size = [frames.BUNDLE_MARK], 0
    for part in parts:
        if size and size + len(part) > limits.LIVE_MESSAGE_BYTES_TARGET:
            yield b"".join(bundle)
            bundle, size = [frames.BUNDLE_MARK], 0
        bundle.append(part)
        size += len(part)
    yield b"".join(bundle)
