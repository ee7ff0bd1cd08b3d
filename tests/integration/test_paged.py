"""Long downloads over real HTTP: in many answers, over a line that breaks, by one process after the other, while the
world goes on; and devices that take what they get slowly (P1, P2, P6, P9)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.company import (
    PATIENCE_SECONDS,
    TABLES,
    Company,
    Server,
    bytes_of,
    environment,
    holds_scope,
    query,
    token,
    wait_for,
)
from tests.integration.test_http import Hand

from syncline.protocol import frames
from syncline.protocol.cursor import digest_of

SMALL = """
import sys
from syncline import limits
limits.PAGE_ROWS_MAX, limits.PAGE_BYTES_TARGET = 200, 30_000
limits.PROGRESS_BYTES_TARGET, limits.ROWS_FRAME_BYTES_TARGET, limits.ANSWER_BYTES_MAX = 15_000, 10_000, 90_000
from syncline.server.job import Job
from syncline.server.service import Service
def tell(owner, name):
    real = getattr(owner, name)
    def told(self, *arguments, **named):
        print(f"<{name}>", file=sys.stderr, flush=True)
        return real(self, *arguments, **named)
    setattr(owner, name, told)
tell(Job, "begin"); tell(Job, "resume"); tell(Service, "upload")
"""
"""Pages, answers and the way between two tokens of a size that a test has many of; and what is asked of the server."""

NOTES = """
WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 1500)
INSERT INTO notes SELECT printf('%s-%05d', ?1, n), 'v-' || ?1, printf('%s %s', ?2, hex(randomblob(120))) FROM many
"""
CANARY = "canary-of-bo"


class Told:
    """What the server was asked for, in order."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def all(self) -> list[str]:
        return [line[1:-1] for line in self._server.log().splitlines() if line in ("<begin>", "<resume>", "<upload>")]


def sync(company: Company, path: Path) -> subprocess.Popen[str]:
    """A process of its own, as an app that is started again."""
    command = [sys.executable, "-m", "syncline", "device", "sync", "--db", str(path), "--server", company.road.url]
    command += ["--token", token("ann"), "--timeout", str(PATIENCE_SECONDS), "--json"]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)


def sync_until_broken(company: Company, path: Path, answered: int) -> None:
    """The line breaks when so many bytes have come; then the process is killed."""
    company.road.break_after(answered)
    with sync(company, path) as process:
        try:
            assert company.road.wait_until_broken(PATIENCE_SECONDS)
        finally:
            process.kill()


def staged(path: Path) -> tuple[str, int]:
    """(the token from which the download goes on, how many bytes are behind it)."""
    found = query(path, "SELECT token, bytes FROM syncline_job")
    return found[0] if found else ("", 0)


@pytest.fixture
def large(company: Company) -> Company:
    """Ann's first sync is some 0.8 MB, most of it of Ada and Bo."""
    company.execute(NOTES, "ada", "of Ada")
    company.execute(NOTES, "bo", CANARY)
    return company


def test_a_first_sync_over_a_breaking_line_goes_on_in_one_process_after_the_other(large: Company) -> None:
    """P2: none of it is fetched twice, whatever breaks."""
    server = large.serve(SMALL)
    path = large.folder / "ann.device.db"
    behind = 0
    for _ in range(3):
        sync_until_broken(large, path, 120_000)
        mark, done = staged(path)
        assert mark and done > behind and not query(path, "SELECT 1 FROM notes")
        behind = done
        large.road.lead_to(server)
    with sync(large, path) as process:
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, out
    assert json.loads(out)["first_sync"] is True
    assert holds_scope(large, "ann", path)
    asked = Told(server).all()
    assert asked.count("begin") == 1, "it began anew"
    assert asked.count("resume") >= 800_000 // 90_000, "each answer ends with a pause, or breaks off"


def test_grants_writes_and_uploads_between_the_answers_of_a_first_sync(large: Company) -> None:
    """P1, P9: Bo is revoked and Cy granted, the office edits and deletes what is staged, and Ann writes about Ada."""
    server = large.serve(SMALL)
    path = large.folder / "ann.device.db"
    with sync(large, path) as first:  # she had a little before, so that there is a file to write to
        first.wait(PATIENCE_SECONDS)
    large.execute("INSERT INTO patients(id, name) VALUES('dee', 'Dee')")
    large.execute("INSERT INTO visits(id, patient_id) VALUES('v-dee', 'dee')")
    large.execute(NOTES, "dee", "of Dee")
    large.execute("INSERT INTO patients(id, name) VALUES('eve', 'Eve')")
    large.execute("INSERT INTO visits(id, patient_id) VALUES('v-eve', 'eve')")
    large.execute(NOTES, "eve", "canary-of-eve")
    large.execute("INSERT INTO assignments VALUES('ann', 'dee'), ('ann', 'eve')")
    sync_until_broken(large, path, 200_000)
    assert staged(path)[0]
    query(path, "INSERT INTO notes VALUES('mine', 'v-ada', 'written in the cellar')")
    query(path, "DELETE FROM notes WHERE id = 'ada-00007'")
    large.execute("DELETE FROM assignments WHERE nurse = 'ann' AND patient_id IN ('bo', 'eve')")
    large.execute("INSERT INTO assignments VALUES('ann', 'cy')")
    large.execute("UPDATE notes SET body = 'corrected' WHERE id LIKE 'dee-000%'")
    large.execute("DELETE FROM notes WHERE id LIKE 'dee-01%'")
    before = len(Told(server).all())
    large.road.lead_to(server)
    with sync(large, path) as process:
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, out
    assert holds_scope(large, "ann", path)
    assert large.execute("SELECT body FROM notes WHERE id = 'mine'") == [("written in the cellar",)]
    assert large.execute("SELECT 1 FROM notes WHERE id = 'ada-00007'") == []
    asked = Told(server).all()[before:]
    assert "begin" not in asked
    assert "resume" in asked[asked.index("upload") :], "uploads waited for the end of the download"
    left = bytes_of(path)
    assert CANARY.encode() not in left and b"canary-of-eve" not in left


PRODUCED = """
import sys
from syncline.server.job import Job
account = Job._account
def told(self, frame, rows):
    account(self, frame, rows)
    print(f"<produced {self._sent}>", file=sys.stderr, flush=True)
Job._account = told
"""
FILMS = """
WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 50)
INSERT INTO notes SELECT printf('film-%03d', n), 'v-ada', hex(randomblob(500000)) FROM many;
"""
MEGABYTE = 1_000_000


@pytest.fixture
def films(tmp_path: Path) -> Iterator[Company]:
    """50 notes of 1 MB, which were there before anybody knew of Syncline."""
    company = Company(tmp_path, TABLES + FILMS)
    yield company
    company.close()


def produced(server: Server) -> int:
    """How many bytes of frames the answer has been given by now."""
    lines = [line for line in server.log().splitlines() if line.startswith("<produced")]
    return int(lines[-1].split()[1].rstrip(">")) if lines else 0


def wait_until_still(server: Server) -> int:
    """What was produced when nothing more had been for a second."""
    still = produced(server), time.monotonic()

    def is_still() -> bool:
        nonlocal still
        now = produced(server)
        if now != still[0]:
            still = now, time.monotonic()
        return now > 0 and time.monotonic() - still[1] > 1

    wait_for(is_still, "the server waits")
    return still[0]


def peak_memory(server: Server) -> int:
    """Bytes of memory that the process ever had at once."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_device_that_reads_slowly_holds_its_answer_up_and_fills_no_memory(films: Company) -> None:
    """P20: 50 MB wait in the database, not in the server."""
    server = films.serve(PRODUCED)
    hand = Hand(server.url, token("ann"))
    hand.hello()
    before = peak_memory(server)
    request = {"device": hand.device, "cursor": None, "included": 0, "apply_count": 0, "digest": digest_of(())}
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # before it connects: a window that stays small
        slow.settimeout(PATIENCE_SECONDS)
        slow.connect(("127.0.0.1", server.port))
        body = frames.pack(frames.dump(request), frames.PLAIN)
        head = f"POST /v1/download HTTP/1.1\r\nHost: x\r\nAuthorization: {hand.headers['Authorization']}\r\n"
        slow.sendall(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert slow.recv(12) == b"HTTP/1.1 200"
        held_up = wait_until_still(server)
        grown = peak_memory(server) - before
        taken = sum(len(piece) for piece in iter(lambda: slow.recv(MEGABYTE), b""))
    hand.close()
    assert held_up < 20 * MEGABYTE, "it went on although nobody took anything"
    assert grown < 50 * MEGABYTE
    assert taken > 50 * MEGABYTE and produced(server) > 50 * MEGABYTE
