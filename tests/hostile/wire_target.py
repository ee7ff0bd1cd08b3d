"""The layer below everything: bytes that may be frames, messages, tokens, cursors or programs."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.mutations import text_of
from tests.hostile.watching import require, require_told
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import plan_of

from syncline.errors import SynclineError
from syncline.model.program import Program, build_program
from syncline.protocol import frames
from syncline.protocol.cursor import parse_cursor
from syncline.protocol.messages import Download, Hello, HelloAnswer, Mutation, Stage, Upload, UploadAnswer
from syncline.replica.cut import Commit
from syncline.replica.file import server_error
from syncline.replica.stage import Progress
from syncline.replica.transport import error_of
from syncline.server.job_token import JobToken
from syncline.server.seal import Seal
from syncline.values import decode_row, encode_row, key_of_text

BYTES_MAX = 100_000
_SEAL = Seal(bytes(range(64)))
_ID = base64.b64encode(bytes(16)).decode()

MUTATION: dict[str, Any] = {
    "n": 1, "id": _ID, "table": "visits", "op": "U", "key": [1], "key_columns": ["id"], "columns": ["status", "count"],
    "new": ["done", ["f", "5.0"]], "was": ["planned", 4], "wall": 1, "seen": 0, "base": 0, "insert": 0, "included": 0,
}  # fmt: skip

Reader = Callable[[Any], object]


def _read_row(message: Any) -> object:
    row = decode_row(message.get("row"))
    require(decode_row(json.loads(encode_row(row))) == row or row != row, "a row is not read as it is written")
    return row


READERS: dict[str, tuple[Reader, dict[str, Any]]] = {
    "hello": (
        Hello.load,
        {"protocol": 2, "device": "d", "nonce": "n", "engine": "e", "sqlite": "3.45.0", "packings": ["zstd"], "clock": 1,
         "program": "h", "schema_version": 1, "included": 0, "cursor": "t.1"},
    ),
    "hello answer": (
        HelloAnswer.load,
        {"protocol": 2, "device": "d", "nonce": "n", "identity": "known", "user": "u", "term": "t", "head": 1, "last": 1,
         "received": 1, "answered": 2, "packing": "gzip", "reoffer_sent": True, "program": {"a": None}, "limits": {"x": 1},
         "last_id": _ID},
    ),
    "upload": (
        Upload.load,
        {"device": "d", "clock": 1, "offset": 0, "floor": 0, "groups": [{"marked": True, "mutations": [MUTATION]}]},
    ),
    "mutation": (Mutation.load, MUTATION),
    "upload answer": (UploadAnswer.load, {"last": 1, "gap": False}),
    "download": (
        Download.load,
        {"device": "d", "cursor": "t.1", "included": 0, "apply_count": 1, "digest": "x", "buckets": ["a"], "wait": 5,
         "stage": {"token": "x", "digest": "y", "buckets": ["b"]}},
    ),
    "stage": (Stage.load, {"token": "x", "digest": "y", "buckets": None}),
    "commit": (
        Commit.load,
        {"cursor": "t.2", "checkpoint": 2, "buckets": {"add": ["a"]}, "included": 1, "included_id": _ID, "time": 1,
         "apply_count": 1, "more": False},
    ),
    "progress": (Progress.load, {"token": "x", "rows": 1, "bytes": 2, "total_rows": None, "lost": ["a"]}),
    "row": (_read_row, {"row": [1, 1.5, None, "x", ["b", "AP8="], ["i", "9223372036854775807"], ["f", "1.0"]]}),
    "token": (
        lambda message: JobToken.parse(json.dumps(message.get("token"))),
        {"token": [1, ["t", 1], ["t", 2], 0, ["visits"], False, True, "place", False, None, None, None, 1, 2, None]},
    ),
    "cursor": (lambda message: parse_cursor(_text_of(message)), {"text": "term.17"}),
    "seal": (lambda message: _SEAL.open(_text_of(message)), {"text": _SEAL.close("something")}),
    "key": (lambda message: key_of_text(_text_of(message)), {"text": '["a",1,["b","AA=="]]'}),
    "error frame": (server_error, {"t": "error", "code": "c", "message": "m", "hint": "h", "retry_after": 1.5}),
    "error answer": (
        lambda message: error_of(503, message, "5"),
        {"t": "error", "code": "c", "message": "m", "hint": "h", "retry": True, "retry_after": 1},
    ),
    "program": (Program.load, build_program(plan_of(VISITS, LINES)).dump()),
}  # fmt: skip


def _text_of(message: Any) -> str:
    found = message.get("text")
    return found if type(found) is str else ""


class WireTarget:
    """A case is {"as": one of READERS, "message": …}, or anything else, which is then taken for bytes of a body."""

    name = "wire"
    words = (*READERS, "visits", "I", "D", "known", "new", "gzip", _ID)

    def __init__(self, folder: Path) -> None:
        self.seeds = [frames.dump({"as": name, "message": message}) for name, (_, message) in READERS.items()]

    def renew(self) -> None:
        return

    def close(self) -> None:
        return

    def run(self, content: bytes, rng: random.Random) -> str:
        try:
            document = json.loads(content)
            read, message = READERS[document["as"]][0], document["message"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return self._bytes(content, rng)
        packed = frames.pack(text_of({"m": message}), rng.choice((frames.PLAIN, frames.GZIP, frames.ZSTD)))
        try:
            message = frames.load(frames.unpack(packed, BYTES_MAX))["m"]
            found = read(message if type(message) is dict else {"value": message})
            return f"{document['as']}: {type(found).__name__}"
        except SynclineError as error:
            return f"{document['as']}: {require_told(error)}"

    def _bytes(self, content: bytes, rng: random.Random) -> str:
        """As one packed frame, as a body of several, and as a message of a WebSocket."""
        told = []
        packings = (b"", b"\0", b"\1", b"\2", b"\3", os.fsencode(chr(rng.randrange(4, 128))))
        head = rng.choice(packings)
        for read in (self._frame, self._body, self._message):
            try:
                told.append(read(head + content))
            except SynclineError as error:
                told.append(require_told(error))
        return "bytes: " + ", ".join(told)

    @staticmethod
    def _frame(packed: bytes) -> str:
        plain = frames.unpack(packed, BYTES_MAX)
        require(len(plain) <= BYTES_MAX, "a frame is larger than its limit")
        frames.load(plain)
        return "frame"

    @staticmethod
    def _body(content: bytes) -> str:
        reader = frames.FrameReader(BYTES_MAX)
        count = 0
        for start in range(0, len(content), 97):
            count += sum(
                len(frames.unpack(packed, BYTES_MAX)) >= 0 for packed in reader.feed(content[start : start + 97])
            )
        reader.close()
        return "frames" if count else "nothing"

    @staticmethod
    def _message(content: bytes) -> str:
        return "bundle" if len(frames.unbundle(content, BYTES_MAX)) != 1 else "one"
