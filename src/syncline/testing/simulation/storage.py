"""P13 and P14: what is kept at the end, when nothing waits and everything is older than the retention."""

from __future__ import annotations

from syncline.replica.store import LOG_PAGES
from syncline.testing.simulation.company import TABLES
from syncline.testing.simulation.devices import SimulatedDevice
from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.report import Report
from syncline.testing.simulation.server import SimulatedServer
from syncline.testing.world import SECOND_US

FEED = ("entry", "row_state", "truth")
PAGE_BYTES_MAX = 65_536
AGES_US = 200 * 365 * 86_400 * SECOND_US
"""Beyond all that a clock which was set wrong has said."""


def check_log(device: SimulatedDevice, report: Report) -> None:
    """P14: a write-ahead log is folded into its file; the newest transaction may be on top."""
    log = device.path.with_name(f"{device.path.name}-wal")
    if log.exists() and log.stat().st_size > 2 * LOG_PAGES * PAGE_BYTES_MAX:
        raise BrokenPromiseError("P14 a log grows without end", device.name, log.stat().st_size)
    report.look("P14")


def check_forgotten(server: SimulatedServer, report: Report) -> None:
    """P14: nothing waits to be taken; and once all that ever happened is old, nothing of it is kept but the records."""
    company = server.company
    waiting = {table: len(company.ours(f"changelog_{table}", "*")) for table in TABLES}
    if any(waiting.values()) or company.ours("marker", "*"):
        raise BrokenPromiseError("P14 something waits in a changelog", waiting)
    server.prune(server.clock.now_us() + AGES_US)
    kept = {table: len(company.ours(table, "checkpoint")) for table in FEED}
    kept["outcome"] = len(company.ours("outcome", "number"))
    if any(kept.values()) or len(company.ours("moment", "checkpoint")) > 1:
        raise BrokenPromiseError("P14 what is old is kept", kept)
    report.look("P14")


def check_emptied(device: SimulatedDevice, report: Report) -> None:
    """P14: what has drained has left the file."""
    names = [name for (name,) in device.look.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for name in names:
        if name.startswith(("syncline_outbox_", "syncline_stage", "syncline_replaced_", "syncline_retired_")):
            (count,) = device.look.execute(f'SELECT count(*) FROM "{name}"').fetchone()
            if count:
                raise BrokenPromiseError("P14 what is done with is still in the file", device.name, name, count)
    report.look("P14")
