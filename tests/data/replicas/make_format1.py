"""Makes format1-*.db; see README.md. Runs with the code of file format 1, not with this one's."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from tests.replica.conftest import LINES, VISITS
from tests.replica.messages import Bench, outcome, plan_of, put

from syncline.model.program import build_program
from syncline.model.program_base import FILE_FORMAT
from syncline.replica.file import ReplicaFile

WAITING = (
    ("UPDATE visits SET status = 'done', count = count + 2 WHERE id = 1",),
    ("INSERT INTO visits (id, patient, note) VALUES (10, 'p-9', x'00ff')",),
    ("DELETE FROM visits WHERE id = 3",),
    ("UPDATE lines SET b = 2 WHERE a = 'x'",),
)


def make(path: Path, *, pending: bool) -> None:
    path.unlink(missing_ok=True)
    file = ReplicaFile(path)
    bench = Bench(file, build_program(plan_of(VISITS, LINES, merge={"visits": {"count": "add"}})))
    bench.hello()
    visits = [(1, "p-1", "planned", 5, None), (2, "p-2", "planned", 1, "é"), (3, "p-3", "planned", None, 1.5)]
    bench.cut(put("visits", *visits), put("lines", ("x", 1, "first")))
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("UPDATE visits SET status = 'bad', count = 7 WHERE id = 2")
        app.execute("UPDATE visits SET note = 'mine' WHERE id = 1")
        bench.file.accept_upload({"last": 2, "gap": False})
        conflict = {"column": "note", "kind": "lost", "rule": "latest", "base": None, "server": "x", "device": "mine"}
        bench.cut(
            put("visits", *visits[:2]),
            outcome(1, "rejected", "visits", (2,), "check"),
            outcome(2, "merged", "visits", (1,), conflicts=[conflict]),
            included=2,
        )
        if pending:
            for statements in WAITING:
                for statement in statements:
                    app.execute(statement)
    if pending:
        with file.transaction() as group:
            group.execute("UPDATE visits SET patient = 'p-1b' WHERE id = 1")
            group.execute("UPDATE lines SET label = 'second'")
        bench.file.accept_upload({"last": 3, "gap": False})
    file.note_synced()
    file.store.connection.execute("VACUUM")
    file.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    path.chmod(0o644)


if FILE_FORMAT != 1:
    raise SystemExit(f"This Syncline writes file format {FILE_FORMAT}.")
folder = Path(sys.argv[1])
make(folder / "format1-quiet.db", pending=False)
make(folder / "format1-pending.db", pending=True)
