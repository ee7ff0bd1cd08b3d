"""The stream under a server that offers no wire below ASGI: each message goes through ASGI, and is not kept (P1, P20)."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
import uvicorn
from tests.integration.company import PATIENCE_SECONDS, Company, token, wait_for
from tests.integration.test_http import HELLO
from websockets.sync.client import ClientConnection, connect

from syncline import limits
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of
from syncline.server import create_app
from syncline.server.downloads import Position
from syncline.server.live import LiveConnection

ANN = {"Authorization": f"Bearer {token('ann')}"}


@pytest.fixture
def url(company: Company) -> Iterator[str]:
    """uvicorn with the protocols that it has by itself, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(create_app(company.config), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, "uvicorn runs")
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def stream(url: str) -> Iterator[ClientConnection]:
    """Ann's, of a new device."""
    with connect(f"ws://{url}/v1/live", additional_headers=ANN, max_size=limits.LIVE_MESSAGE_BYTES_MAX) as stream:
        open_stream(stream, hello(url))
        yield stream


def hello(url: str) -> str:
    """A new device."""
    body = frames.pack(frames.dump({**HELLO, "clock": int(time.time() * 1e6)}), frames.PLAIN)
    answer = httpx.post(f"http://{url}/v1/hello", content=body, headers=ANN)
    assert answer.status_code == 200, answer.text
    return str(frames.load(frames.unpack(answer.content))["device"])


def open_stream(stream: ClientConnection, device: str) -> None:
    message = {"t": "open", "device": device, "cursor": None, "included": 0, "apply_count": 0, "digest": digest_of(())}
    stream.send(frames.pack(frames.dump(message), frames.PLAIN))


def next_cut(stream: ClientConnection) -> list[dict[str, Any]]:
    """The frames up to a commit; heartbeats left out."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["t"] != "commit":
        message = stream.recv(PATIENCE_SECONDS)
        assert isinstance(message, bytes)
        for packed in frames.unbundle(message):
            frame = frames.load(frames.unpack(packed))
            assert frame["t"] != "error", frame
            found += [frame] if frame["t"] != "heartbeat" else []
    return found


def test_a_stream_without_a_wire_tells_each_change_once_in_order(company: Company, stream: ClientConnection) -> None:
    assert next_cut(stream)[0]["reset"] is True
    for number in range(1, 6):
        company.execute(f"UPDATE visits SET n = {number} WHERE id = 'v-ada'")
        cut = next_cut(stream)
        rows = [row for frame in cut if frame["t"] == "rows" for row in frame["rows"]]
        assert rows == [["v-ada", "ada", "planned", number]]
        assert cut[-1]["apply_count"] == number


def test_what_went_out_is_not_kept_by_an_idle_stream(
    company: Company, stream: ClientConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand idle devices each would hold on to the last large note of its patient."""
    watched: list[weakref.ref[Messages]] = []
    take = LiveConnection.take

    def watching(self: LiveConnection, messages: Sequence[bytes], position: Position) -> bool:
        offered = Messages(messages)
        watched.append(weakref.ref(offered))
        return take(self, offered, position)

    monkeypatch.setattr(LiveConnection, "take", watching)
    next_cut(stream)
    while not watched:  # the first change may come before it stands among those who are told together
        company.execute("UPDATE notes SET body = hex(randomblob(100000)) WHERE id = 'n-ada'")
        next_cut(stream)

    def is_forgotten() -> bool:
        gc.collect()
        return not any(each() for each in watched)

    wait_for(is_forgotten, "nobody holds the messages", 20)


class Messages(list[bytes]):
    """A list that can be watched."""
