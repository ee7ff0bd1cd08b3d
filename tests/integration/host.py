"""The company's own program, that has never heard of Syncline: `python -m tests.integration.host FILE SECONDS`.

It writes as fast as it can, one row a transaction and several rows a transaction, and prints what came of it. In every
committed state an order's lines add up to its total. It waits for a lock as long as sqlite3 does by default.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time

ORDER = "o-bo"


def main() -> None:
    path, seconds = sys.argv[1], float(sys.argv[2])
    db = sqlite3.connect(path, isolation_level=None)
    errors: list[str] = []
    waits: list[float] = []
    number, total = 0, 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        number += 1
        begun = time.monotonic()
        try:
            if number % 4:
                db.execute("UPDATE patients SET name = ? WHERE id = ?", (f"name {number}", ("ada", "cy")[number % 2]))
            else:
                _move(db, number)
                total += 1
        except sqlite3.Error as error:
            errors.append(str(error))
            if db.in_transaction:
                db.execute("ROLLBACK")
        waits.append(time.monotonic() - begun)
    db.close()
    waits.sort()
    told = {
        "transactions": number,
        "moves": total,
        "errors": errors[:5],
        "median_ms": round(waits[len(waits) // 2] * 1000, 3),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 3),
        "worst_ms": round(waits[-1] * 1000, 1),
    }
    print(json.dumps(told))


def _move(db: sqlite3.Connection, number: int) -> None:
    """An amount from one line to another, and now and then a line more or fewer: the total always fits."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE lines SET amount = amount - ? WHERE id = 'l1'", (number,))
    db.execute("UPDATE lines SET amount = amount + ? WHERE id = 'l2'", (number,))
    if number % 12 == 0:
        db.execute("UPDATE orders SET total = total + 7 WHERE id = ?", (ORDER,))
        db.execute("INSERT INTO lines VALUES(?, ?, 7)", (f"x{number % 60}-{number}", ORDER))
    if number % 60 == 0:
        db.execute(
            "UPDATE orders SET total = total - (SELECT sum(amount) FROM lines WHERE id LIKE 'x%') WHERE id = ?",
            (ORDER,),
        )
        db.execute("DELETE FROM lines WHERE id LIKE 'x%'")
    db.execute("COMMIT")


if __name__ == "__main__":
    main()
