"""What networks do to a device: each mishap has its state and its code, loses nothing, and is over when it ends."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.company import Company, query, token, wait_for, wait_for_scope
from tests.integration.mishaps import Between, Play, answer, captive_portal, cut, hang, redirect

from syncline import Replica, SyncTimeoutError, UnreachableError, limits
from syncline.protocol import frames
from syncline.replica import session_pace, transport

MEDIA_TYPE = "application/vnd.syncline"


@pytest.fixture
def between() -> Iterator[Between]:
    between = Between()
    yield between
    between.close()


@pytest.fixture
def ann(company: Company, between: Between) -> Replica:
    """She was in step once; the way leads over what the test puts between."""
    between.lead_to(company.serve(road=False))
    replica = company.device("ann", url=between.url)
    replica.sync(timeout=30)
    return replica


def packed(message: dict[str, object]) -> bytes:
    return frames.pack(frames.dump(message), frames.PLAIN)


MISHAPS: dict[str, tuple[Play, str, str]] = {
    "captive portal": (captive_portal(), "offline", "captive_portal"),
    "captive portal that redirects": (redirect(), "offline", "captive_portal"),
    "wrong content type": (answer("200 OK", b"{}", kind="application/json"), "offline", "captive_portal"),
    "another program": (answer("404 Not Found"), "offline", "not_syncline"),
    "a web firewall": (answer("403 Forbidden"), "offline", "not_syncline"),
    "a proxy that wants a login": (answer("407 Proxy Authentication Required"), "offline", "not_syncline"),
    "a proxy whose server is down": (answer("502 Bad Gateway"), "waiting", "overloaded"),
    "closed without a word": (cut, "offline", "unreachable"),
    "garbage": (lambda connection, request: connection.sendall(b"\x16\x03\x01\x00" * 20), "offline", "unreachable"),
    "no frame": (answer("200 OK", b"\x09garbage", kind=MEDIA_TYPE), "waiting", "bad_frame"),
    "no JSON": (answer("200 OK", b"\0{never", kind=MEDIA_TYPE), "waiting", "bad_json"),
    "JSON of another kind": (answer("200 OK", packed({"hello": "there"}), kind=MEDIA_TYPE), "waiting", "bad_field"),
    "an error of nobody": (answer("500 Oops", b'{"t": "error"}', kind="application/json"), "waiting", "server"),
}


@pytest.mark.parametrize("name", MISHAPS)
def test_what_stands_in_the_way_is_named_and_overcome(
    name: str, ann: Replica, company: Company, between: Between
) -> None:
    """P2, P4: the nurse goes on writing; when it is over all arrives by itself."""
    between.play, state, code = MISHAPS[name]
    between.change()
    ann.start()
    wait_for(lambda: (ann.status.state, ann.status.reason) == (state, code), f"{state}: {code}; {ann.status}")
    query(ann.path, "INSERT INTO notes VALUES('mishap', 'v-ada', 'written meanwhile')")
    assert ann.status.pending == 1
    between.play = None
    wait_for(lambda: company.execute("SELECT body FROM notes WHERE id = 'mishap'"), "the note")
    wait_for_scope(company, "ann", ann.path)
    wait_for(lambda: ann.status.state == "live" and ann.status.reason is None, "live")


def test_a_captive_portal_says_what_to_do(ann: Replica, between: Between) -> None:
    between.play = captive_portal()
    between.change()
    with pytest.raises(SyncTimeoutError, match="captive_portal") as caught:
        ann.sync(timeout=1)
    assert "Sign in to the network" in str(caught.value) and caught.value.report.pending == 0


@pytest.mark.parametrize(
    ("url", "code"),
    [("http://no-such-host.invalid", "name_unknown"), ("http://127.0.0.1:{free}", "connection_refused")],
)
def test_nobody_is_there(url: str, code: str, company: Company) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        free = unused.getsockname()[1]
    ann = company.device("ann", url=url.format(free=free))
    ann.start()
    wait_for(lambda: (ann.status.state, ann.status.reason) == ("offline", code), code)


def test_a_certificate_that_nobody_signed(company: Company, between: Between, tmp_path: Path) -> None:
    """Not believed, and named as what it is; not a byte of the token is sent."""
    certificate = tmp_path / "self.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    try:
        subprocess.run(
            [*command.split(), "-keyout", str(certificate), "-out", f"{certificate}.crt"],
            check=True,
            capture_output=True,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("openssl(1) is not here to make a certificate")
    certificate.write_bytes(certificate.read_bytes() + Path(f"{certificate}.crt").read_bytes())
    between.use_tls(certificate)
    between.lead_to(company.serve(road=False))
    ann = company.device("ann", url=between.url)
    ann.start()
    wait_for(lambda: (ann.status.state, ann.status.reason) == ("offline", "tls"), "not trusted")
    assert between.requests == 0


def test_an_answer_that_breaks_off_is_fetched_again(ann: Replica, company: Company, between: Between) -> None:
    """P1: nothing of half a cut is seen; wherever it breaks off, the next try brings it whole."""
    company.execute("UPDATE patients SET name = 'Ada anew' WHERE id = 'ada'")
    company.execute("INSERT INTO notes VALUES('long', 'v-ada', hex(randomblob(60000)))")
    for size in (1, 150, 400, 2000, 60_000):
        between.cut_after = size
        between.change()
        with pytest.raises(SyncTimeoutError):
            ann.sync(timeout=1)
        assert query(ann.path, "SELECT name FROM patients WHERE id = 'ada'") == [("Ada",)]
        assert query(ann.path, "SELECT 1 FROM notes WHERE id = 'long'") == []
    between.cut_after = None
    between.change()
    ann.sync(timeout=30)
    wait_for_scope(company, "ann", ann.path)


def test_an_upload_whose_answer_is_lost_arrives_once(ann: Replica, company: Company, between: Between) -> None:
    """P3."""
    query(ann.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-ada'")
    asked = between.requests

    def take_and_cut(connection: socket.socket, request: bytes) -> None:
        between.cut_after = 1
        between._pass_on(connection, request, False)

    between.play = take_and_cut
    between.change()
    with pytest.raises(SyncTimeoutError):
        ann.sync(timeout=2)
    assert between.requests > asked
    between.play, between.cut_after = None, None
    between.change()
    report = ann.sync(timeout=30)
    assert report.pending == 0
    assert company.execute("SELECT n FROM visits WHERE id = 'v-ada'") == [(1,)]


def test_a_peer_that_is_silent_is_given_up(
    ann: Replica, company: Company, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half open: the connection stands, and nothing comes."""
    monkeypatch.setattr(transport, "ANSWER_SECONDS", 0.5)
    between.play = hang
    between.change()
    slow = company.device("ben", url=between.url)
    slow.start()
    wait_for(lambda: (slow.status.state, slow.status.reason) == ("offline", "timed_out"), "given up")
    between.play = None
    between.change()
    wait_for(lambda: slow.status.state == "live", "live")
    ann.stop()


# ---------------------------------------------------------------- proxies and WebSockets
@pytest.mark.parametrize(
    "refusal",
    [
        answer("400 Bad Request"),
        answer("403 Forbidden"),
        answer("426 Upgrade Required"),
        answer("502 Bad Gateway"),
        answer("200 OK"),
        cut,
    ],
    ids=["400", "403", "426", "502", "200", "cut"],
)
def test_a_proxy_without_websockets(
    refusal: Play, ann: Replica, company: Company, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: long polls bring the news; after a while a WebSocket is tried again, and stays once it gets through."""
    monkeypatch.setattr(session_pace, "POLL_SECONDS", 3.0)
    between.websockets = refusal
    ann.start()
    wait_for(lambda: ann.status.state == "live", "live")
    tried = between.upgrades
    assert tried >= 2
    for number in range(3):
        company.execute(f"UPDATE patients SET name = 'polled {number}' WHERE id = 'ada'")
        wait_for(lambda n=number: query(ann.path, f"SELECT 1 FROM patients WHERE name = 'polled {n}'"), "news")  # type: ignore[misc]
    query(ann.path, "INSERT INTO notes VALUES('up', 'v-ada', 'polled back')")
    wait_for(lambda: company.execute("SELECT 1 FROM notes WHERE id = 'up'"), "the note")

    between.websockets = None

    def news_and_a_websocket() -> bool:
        company.execute("UPDATE visits SET n = n + 1 WHERE id = 'v-bo'")  # each ends a long poll
        return between.upgrades > tried

    wait_for(news_and_a_websocket, "a WebSocket is tried again")
    wait_for_scope(company, "ann", ann.path)


def test_a_proxy_that_holds_back_what_comes_over_websockets(
    ann: Replica, company: Company, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake gets through, and nothing after it: long polls take over."""
    monkeypatch.setattr(limits, "SILENCE_SECONDS_MAX", 0.6)
    monkeypatch.setattr(limits, "HEARTBEAT_SECONDS", 0.2)
    between.buffers = True
    ann.start()
    wait_for(lambda: between.upgrades >= session_pace.STREAM_SHORT_MAX, "tried")
    tried = between.upgrades
    for number in range(3):
        company.execute(f"UPDATE patients SET name = 'held {number}' WHERE id = 'ada'")
        wait_for(lambda n=number: query(ann.path, f"SELECT 1 FROM patients WHERE name = 'held {n}'"), "news")  # type: ignore[misc]
    assert between.upgrades == tried, "no more than it needs to know"


def test_errors_say_which(company: Company) -> None:
    """The code that an app sees is the one in the catalogue."""
    ann = company.device("ann", url="http://127.0.0.1:9")
    with pytest.raises(SyncTimeoutError) as caught:
        ann.sync(timeout=0.5)
    assert isinstance(caught.value.__cause__, UnreachableError) and caught.value.__cause__.code == "connection_refused"
    assert token("ann") not in str(caught.value)
