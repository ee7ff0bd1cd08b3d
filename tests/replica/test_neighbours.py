"""Other programs at the same file: one agent, and any number of readers and writers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import environment
from tests.replica.office import Office, execute, until

from syncline import Replica, ReplicaBusyError
from syncline.cli import main
from syncline.replica.status import read_status

AGENT = """
import sys
sys.path.insert(0, {tests!r})
from tests.replica.office import Office
from syncline import Replica
replica = Replica(sys.argv[1], "https://x.org", "t", transport=Office())
replica.start()
print("ready", flush=True)
sys.stdin.read()
"""
WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    db.execute("INSERT INTO visits (id, patient) VALUES (?, 'p')", (number,))
    db.execute("UPDATE visits SET count = 1 WHERE id = ?", (number,))
db.close()
"""


@pytest.fixture
def agent(tmp_path: Path) -> Any:
    """Another process that syncs nurse.db."""
    code = AGENT.format(tests=str(Path(__file__).parents[2]))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "nurse.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_agent_is_told_who_has_the_file(
    agent: Any, tmp_path: Path, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nurse.db"
    until(lambda: read_status(path)["state"] == "live")
    with Replica(path, "https://x.org", "t", transport=office) as replica:
        for begin in (replica.start, replica.sync):
            with pytest.raises(ReplicaBusyError) as caught:
                begin()
            assert f"process {agent.pid} on {socket.gethostname()}, since 20" in str(caught.value)
        with pytest.raises(ReplicaBusyError):
            Replica(path, "https://x.org", "t", transport=office, replace_user=True)
        assert replica.status.checkpoint == 0 and replica.rejections() == [], "whoever only looks may look"
        with replica.transaction() as db:
            db.execute("UPDATE visits SET status = 'done'")
        link = tmp_path / "other-name.db"
        link.symlink_to(path)
        with Replica(link, "https://x.org", "t", transport=office) as other, pytest.raises(ReplicaBusyError):
            other.start()
    arguments = ("--db", str(path), "--server", "http://127.0.0.1:9", "--token", "t")
    for verb in ("sync", "run"):
        assert main.run(["device", verb, *arguments]) == 1
        told = capsys.readouterr().err
        assert f"process {agent.pid} on" in told and "[replica_busy]" in told
    assert main.run(["device", "status", "--db", str(path), "--json"]) == 0
    assert str(agent.pid) in json.loads(capsys.readouterr().out)["agent"]


def test_when_the_holder_dies_the_next_one_takes_over_at_once(agent: Any, tmp_path: Path, office: Office) -> None:
    path = tmp_path / "nurse.db"
    agent.send_signal(signal.SIGKILL)
    agent.wait(60)
    with Replica(path, "https://x.org", "t", transport=office) as replica:
        assert read_status(path)["agent"] is None
        replica.sync(timeout=20)
        replica.start()
        assert f"process {os.getpid()} on" in read_status(path)["agent"]
    assert read_status(path)["agent"] is None


def test_looking_at_a_file_keeps_no_agent_from_it(replica: Replica) -> None:
    ends = threading.Event()

    def look() -> None:
        while not ends.is_set():
            read_status(replica.path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(40):
            replica.start()
            replica.stop()
    finally:
        ends.set()
        looking.join()


def test_nothing_is_lost_while_others_write_all_the_time(replica: Replica, office: Office) -> None:
    """Three programs that never heard of Syncline write; readers read; the office changes things: all of it arrives."""
    replica.sync(timeout=20)
    replica.start()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(replica.path), str(start), str(start + 60)])
        for start in (100, 200, 300)
    ]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        with closing(sqlite3.connect(replica.path, timeout=60)) as reader:
            reader.execute("SELECT count(*), (SELECT count(*) FROM syncline_pending) FROM visits").fetchone()
        reads += 1
        office.change(1, "p-1", f"after {reads} looks", 5, None)
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    until(lambda: replica.status.pending == 0, 60)
    wanted = {number for start in (100, 200, 300) for number in range(start, start + 60)}
    assert {key for key, row in office.rows.items() if row[3] == 1} == wanted
    assert len(office.received) == 360 and [each["n"] for each in office.received] == list(range(1, 361))
    until(lambda: execute(replica.path, "SELECT count(*) FROM visits") == [(181,)])
    assert execute(replica.path, "PRAGMA integrity_check") == [("ok",)]


def shell(path: Path, sql: str) -> list[str]:
    """By SQLite's own program, where there is one; else by another Python."""
    program = shutil.which("sqlite3")
    code = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
for row in db.execute(sys.argv[2]): print(*row, sep="|")
db.close()
"""
    command = [program, str(path), sql] if program else [sys.executable, "-c", code, str(path), sql]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_the_views_are_for_any_program(replica: Replica, office: Office) -> None:
    """`syncline_pending`, `syncline_rejections`, `syncline_conflicts`: names and forms that apps are written against."""
    replica.sync(timeout=20)
    conflict = {"column": "note", "kind": "lost", "rule": "latest", "base": 1, "server": "x", "device": "y"}
    office.refuses = lambda mutation: "check" if mutation["op"] == "I" else None
    shell(replica.path, "INSERT INTO visits (id, patient) VALUES (5, 'p-5')")
    shell(replica.path, "UPDATE visits SET note = 'y' WHERE id = 1")
    office.outcomes.append({
        "t": "outcome", "n": 2, "kind": "merged", "code": "", "reason": "", "table": "visits", "key": [1],
        "conflicts": [conflict],
    })  # fmt: skip
    replica.sync(timeout=20)
    shell(replica.path, "DELETE FROM visits WHERE id = 1")
    shell(replica.path, "INSERT INTO lines VALUES ('ä \"b\"', 9007199254740993, x'00')")
    views = {
        name: shell(replica.path, f"SELECT name FROM pragma_table_info('{name}')")
        for name in ("syncline_pending", "syncline_rejections", "syncline_conflicts")
    }
    assert views["syncline_pending"] == ["table_name", "key", "operation", "since"]
    assert views["syncline_rejections"] == [
        "id",
        "table_name",
        "key",
        "operation",
        "code",
        "reason",
        "row_values",
        "at",
    ]
    assert {"id", "table_name", "key", "column_name", "kind", "base", "server", "device", "at"} <= set(
        views["syncline_conflicts"]
    )
    assert shell(replica.path, "SELECT table_name, key, operation FROM syncline_pending ORDER BY 1") == [
        'lines|{"a":"ä \\"b\\"","b":9007199254740993}|insert',
        'visits|{"id":1}|delete',
    ]
    (since,) = set(shell(replica.path, "SELECT typeof(julianday(since)) || length(since) FROM syncline_pending"))
    assert since == "real26", "a moment as SQLite's own functions read it, with six digits"
    assert shell(replica.path, "SELECT id, table_name, key, operation, code, reason FROM syncline_rejections") == [
        '1|visits|{"id":5}|insert|check|because of check'
    ]
    (values,) = shell(replica.path, "SELECT row_values FROM syncline_rejections")
    assert json.loads(values) == {"patient": "p-5", "status": "new", "count": None, "note": None}
    assert shell(replica.path, "SELECT key, column_name, base, server, device FROM syncline_conflicts") == [
        '{"id":1}|note|1|"x"|"y"'
    ]
