"""A device's file facing a server that may send anything: answers, frames, programs.

Whatever comes, the app's own table is as it was; what was refused changed no row, no waiting change and no cursor; and
no waiting change goes that no applied cut includes.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.hostile.mutations import CANARY, text_of
from tests.hostile.watching import Logs, require, require_told
from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import BUCKET, Bench, drop, outcome, plan_of, put, remove

from syncline.errors import ProtocolError, ServerError, SynclineError
from syncline.model.program import build_program, program_hash
from syncline.protocol import frames
from syncline.replica.file import ReplicaFile, WipedError
from syncline.system.database import fetch_all

PROGRAM = build_program(plan_of(VISITS, LINES, merge={"visits": {"count": "add"}}))
OTHER = build_program(plan_of(VISITS))

OWN = (
    "CREATE TABLE own (id INTEGER PRIMARY KEY AUTOINCREMENT, secret TEXT)",
    f"INSERT INTO own (secret) VALUES ('{CANARY}')",
    "CREATE TABLE own_log (id)",
    "CREATE TRIGGER own_visits AFTER INSERT ON visits BEGIN INSERT INTO own_log VALUES (NEW.id); END",
)
WAITING = (
    f"UPDATE visits SET status = 'done', note = '{CANARY}' WHERE id = 1",
    "UPDATE visits SET count = count + 2 WHERE id = 2",
    "INSERT INTO visits (id, patient) VALUES (70, 'p-7')",
    "DELETE FROM visits WHERE id = 3",
    "INSERT INTO lines VALUES ('a', 9, 'x')",
)
KEPT = (
    "SELECT * FROM visits ORDER BY id", "SELECT * FROM lines ORDER BY a, b",
    "SELECT seq, included, cursor, base, seen, user, device, wiped FROM syncline_state",
    "SELECT * FROM syncline_outbox_visits ORDER BY seq", "SELECT * FROM syncline_outbox_lines ORDER BY seq",
    "SELECT * FROM syncline_parked ORDER BY id", "SELECT * FROM syncline_conflict ORDER BY id",
    "SELECT count(*) FROM syncline_sent_visits",
)  # fmt: skip
APPS = ("SELECT * FROM own", "SELECT * FROM sqlite_sequence WHERE name = 'own'",
        "SELECT name, sql FROM sqlite_schema WHERE name IN ('own', 'own_log') ORDER BY 1")  # fmt: skip
_UNSENT = (
    "SELECT count(*) FROM (SELECT seq FROM syncline_outbox_visits UNION ALL SELECT seq FROM syncline_outbox_lines) "
    "WHERE seq > (SELECT included FROM syncline_state)"
)


class ReplicaTarget:
    """A case is {"frames": […]}, {"hello": answer} or {"upload": answer}; bytes that are no JSON become a frame of a
    cut."""

    name = "replica"
    words = (
        *(
            "visits",
            "lines",
            "own",
            "syncline_state",
            "syncline_program",
            "sqlite_master",
            BUCKET,
            "rows",
            "remove",
            "replace",
        ),
        *(
            "drop_bucket",
            "outcome",
            "progress",
            "pause",
            "commit",
            "begin",
            "stage",
            "new",
            "resume",
            "keep",
            "known",
            "term.1",
        ),
        *(
            "term.0",
            "term.99",
            "rejected",
            "merged",
            "duplicate",
            "scope",
            "DELETE FROM own",
            "SELECT secret FROM own",
            70,
        ),
        *("ATTACH 'x.db' AS x", "PRAGMA writable_schema = 1", "SELECT load_extension('x')", "DROP TABLE own"),
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template.db"
        self._logs: Logs | None = None
        self._make_template()
        self.renew()
        self.seeds = [frames.dump(case) for case in self._cases()]

    def _make_template(self) -> None:
        file = ReplicaFile(self._template)
        bench = Bench(file, PROGRAM)
        bench.hello()
        bench.cut(
            put("visits", *((n, f"p-{n}", "planned", n, CANARY) for n in range(1, 6))), put("lines", ("a", 1, "x"))
        )
        with closing(sqlite3.connect(self._template, isolation_level=None)) as app:
            for statement in (*OWN, *WAITING):
                app.execute(statement)
        bench.cut(outcome(2, "rejected", "visits", (2,), "check", (2, "p-2", "planned", 2, None)), included=2)
        file.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file.close()

    def renew(self) -> None:
        """A file as it was at the beginning, opened anew."""
        self.close()
        path = self._folder / "replica.db"
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        shutil.copy(self._template, path)
        self.file = ReplicaFile(path)
        self.file.store.connection.execute("PRAGMA synchronous = OFF")
        self._apps = self._look(APPS)
        self._logs = Logs()
        self._logs.__enter__()
        self._original = sqlite3.connect(self._template)

    def close(self) -> None:
        if self._logs is not None:
            self._logs.__exit__(None, None, None)
            self._logs = None
            self.file.close()
            self._original.close()

    def _restore(self, *, program: bool) -> None:
        """The same content in the open file: much faster."""
        self.file.abandon()
        self.file.offer_again()
        self._original.backup(self.file.store.connection)
        if program:
            self.file.store.load_program()

    def _look(self, queries: tuple[str, ...]) -> list[Any]:
        return [fetch_all(self.file.store.connection, query) for query in queries]

    # ------------------------------------------------------------ cases
    def _cases(self) -> list[dict[str, Any]]:
        count = self.file.state().apply_count
        begin = {"t": "begin", "apply_count": count, "reset": False, "rows": 1, "stage": None}
        commit = {
            "t": "commit", "cursor": "term.9", "checkpoint": 9, "buckets": {"add": [BUCKET]}, "included": 2,
            "included_id": None, "time": 9, "apply_count": count, "more": False,
        }  # fmt: skip
        conflict = {"column": "note", "kind": "lost", "rule": "latest", "base": None, "server": "x", "device": "y"}
        row = (1, "p-1", "missed", 7, CANARY)
        bodies: list[list[dict[str, Any]]] = [
            [put("visits", row)],
            [put("visits", row, (70, "p", "s", 1.0, None)), put("lines", ("b", 2, "y"))],
            [
                {
                    **put("visits", row, (2, "p", "s", 1, None), bucket=BUCKET),
                    "buckets": [BUCKET, "b"],
                    "of": [0, [0, 1]],
                }
            ],
            [remove("visits", (1,), (4,)), remove("lines", ("a", 1))],
            [{"t": "replace", "table": "visits", "buckets": [BUCKET]}, put("visits", row)],
            [drop(BUCKET)],
            [outcome(3, "rejected", "visits", (70,), "key_exists", "absent")],
            [outcome(3, "merged", "visits", (70,), "gone", row, [conflict])],
        ]
        cases = [{"frames": [begin, *body, {**commit, "included": 3 if i > 5 else 2}]} for i, body in enumerate(bodies)]
        cases.append({"frames": [{**begin, "reset": True}, put("visits", row), commit]})
        progress = {"t": "progress", "token": "tok", "rows": 1, "bytes": 9, "total_rows": None, "lost": []}
        page = [{**begin, "stage": "new"}, {"t": "stage", "buckets": [BUCKET]}, put("visits", row), progress]
        cases += [{"frames": [*page, put("lines", ("c", 3, "z")), {**commit, "apply_count": count}]}]
        cases += [{"frames": [*page, {"t": "pause"}]}]
        resumed = {**begin, "stage": "resume", "apply_count": count + 1}
        cases += [
            {
                "frames": [
                    *page,
                    {"t": "pause"},
                    resumed,
                    {**progress, "lost": ["b"]},
                    {**commit, "apply_count": count + 1},
                ]
            }
        ]
        cases += [{"frames": [{**begin, "stage": "keep"}, drop("b"), {**commit, "cursor": "term.2", "time": 0}]}]
        beat = {"t": "heartbeat", "head": 12, "time": 12, "cursor": "term.12", "apply_count": count}
        error = {"t": "error", "code": "internal", "message": "m", "hint": "h", "retry": True, "retry_after": 2}
        cases += [{"frames": [beat]}, {"frames": [error]}, {"frames": [{"t": "wipe", "reason": "lost"}]}]
        hello = {
            "protocol": 2, "device": "device-1", "nonce": "n", "identity": "known", "user": "nurse-17", "term": "term",
            "head": 2, "last": 2, "received": 1, "answered": 2, "packing": "zstd", "reoffer_sent": False, "program": None,
            "limits": {}, "last_id": None,
        }  # fmt: skip
        cases += [{"hello": hello}, {"hello": {**hello, "identity": "new", "reoffer_sent": True, "device": "d2"}}]
        cases += [{"hello": {**hello, "program": program.dump()}} for program in (PROGRAM, OTHER)]
        cases += [{"upload": {"last": 3, "gap": False}}, {"upload": {"last": 0, "gap": True}}]
        return cases

    # ------------------------------------------------------------ one case
    def run(self, content: bytes, rng: random.Random) -> str:
        case = self._case(content)
        self._before, unsent = self._look(KEPT), self._look((_UNSENT,))
        included = self._before[2][0][1]
        is_new_program = "hello" in case
        try:
            told = self._receive(case, rng)
            self.file.upload_request()
        except WipedError:
            require(self._look(APPS[:1]) == self._apps[:1], "the app's own table is not as it was")
            self._restore(program=True)
            return "wiped"
        except SynclineError as error:
            told = require_told(error, is_server_text=isinstance(error, ServerError) or _says_canary(case, error))
            require(is_new_program or self._look(KEPT) == self._before, f"what was refused ({told}) changed something")
        self._require_apps(case)
        self.file.abandon()
        if is_new_program:
            self._restore(program=True)
        else:
            require(self._look((_UNSENT,)) <= unsent, "waiting changes came out of nothing")
            has_moved = self.file.state().included != included
            require(self._look((_UNSENT,)) == unsent or has_moved, "a waiting change is gone")
            if told == "applied" or self._look(("SELECT count(*) FROM syncline_job",)) != [[(0,)]]:
                self._restore(program=False)
        return told

    @staticmethod
    def _case(content: bytes) -> dict[str, Any]:
        try:
            case = json.loads(content)
            if type(case) is dict:
                return case
        except (ValueError, RecursionError):
            pass
        return {"bytes": content}

    def _receive(self, case: dict[str, Any], rng: random.Random) -> str:
        if "bytes" in case:
            self.file.receive(frames.load(frames.unpack(b"\0" + case["bytes"])))
            return "frame"
        if "hello" in case:
            answer = _as_sent(case["hello"])
            program = answer.get("program")
            if type(program) is dict and rng.random() < 0.95:
                program["hash"] = program_hash(program)
            self.file.accept_hello(answer, 1, 2)
            return "greeted"
        if "upload" in case:
            self.file.accept_upload(_as_sent(case["upload"]))
            return "uploaded"
        listed = case.get("frames")
        told = "nothing"
        for frame in listed if type(listed) is list else ():
            applied = self.file.receive(_as_sent(frame))
            if applied:
                told, self._before = "applied", self._look(KEPT)
        return told

    def _require_apps(self, case: dict[str, Any]) -> None:
        require(self._look(APPS) == self._apps, "the app's own table is not as it was")
        assert self._logs is not None
        leaked, self._logs.leaked = self._logs.leaked, []
        if not _is_in_names(case):
            require(not leaked, f"a value is in the log: {leaked[:1]}")


def _as_sent(message: Any) -> dict[str, Any]:
    """As the transport hands it on."""
    return frames.load(text_of(message))


def _is_in_names(case: dict[str, Any]) -> bool:
    """The attacker put its mark where names of tables and kinds of frames stand, or into SQL: those are named."""
    listed = case.get("frames")
    frames_ = [frame for frame in listed if type(frame) is dict] if type(listed) is list else []
    names = [frame.get(field) for frame in frames_ for field in ("t", "table", "message", "code", "hint", "reason")]
    return CANARY in repr(names) or "hello" in case or "bytes" in case


def _says_canary(case: dict[str, Any], error: SynclineError) -> bool:
    return isinstance(error, ProtocolError) and _is_in_names(case)
