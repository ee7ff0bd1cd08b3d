"""An app on a device, as a process to be killed: `python -m tests.integration.app FILE URL TOKEN NAME SEED [PAUSE]`.

It stays in step and writes in a loop with plain sqlite3, with pauses of up to so many seconds. What is committed is noted in its diary, FILE.diary, right
afterwards. A line on standard input makes it rest: it goes on syncing, and writes no more.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
import time
from pathlib import Path

from syncline import Replica

GROUP_EVERY = 7
EDIT_EVERY = 5
PAUSE_SECONDS = 0.03


def main() -> None:
    path, url, token, name, seed, *more = sys.argv[1:]
    pause = float(more[0]) if more else PAUSE_SECONDS
    rng = random.Random(seed)
    resting = threading.Event()
    threading.Thread(target=_wait_for_line, args=(resting,), daemon=True).start()
    replica = Replica(path, url, token)
    replica.start()
    while not replica.status.last_synced_at:
        time.sleep(0.02)
    print("ready", flush=True)
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    visits = [row[0] for row in db.execute("SELECT id FROM visits ORDER BY 1")]
    number = 0
    with Path(f"{path}.diary").open("a", encoding="utf-8") as diary:
        while not resting.is_set():
            number += 1
            identity = f"{name}-{seed}-{number}"
            _count(db, identity, rng.choice(visits))
            diary.write(f"{identity}\n")
            diary.flush()
            if number % GROUP_EVERY == 0:
                with replica.transaction() as group:
                    _order(group, identity, rng)
            if number % EDIT_EVERY == 0:
                db.execute("UPDATE notes SET body = body || '!' WHERE id = ?", (identity,))
            time.sleep(rng.uniform(0.001, pause))
    while True:  # for whoever reads the log of a test that failed
        status = replica.status
        print(f"{time.time():.1f} {status.state} {status.reason} {status.pending} pending", file=sys.stderr, flush=True)
        time.sleep(1)


def _wait_for_line(resting: threading.Event) -> None:
    sys.stdin.readline()
    resting.set()


def _count(db: sqlite3.Connection, identity: str, visit: str) -> None:
    """One more on the visit's counter, and a note that says so: both or neither."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE visits SET n = n + 1 WHERE id = ?", (visit,))
    db.execute("INSERT INTO notes VALUES(?, ?, 'counted')", (identity, visit))
    db.execute("COMMIT")


def _order(db: sqlite3.Connection, identity: str, rng: random.Random) -> None:
    """An order and its lines, which add up to its total."""
    amounts = [rng.randrange(100) for _ in range(3)]
    db.execute("INSERT INTO orders VALUES(?, 'bo', ?)", (identity, sum(amounts)))
    for place, amount in enumerate(amounts):
        db.execute("INSERT INTO lines VALUES(?, ?, ?)", (f"{identity}-{place}", identity, amount))


if __name__ == "__main__":
    main()
