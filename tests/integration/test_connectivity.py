"""Networks that come and go, and moments that are not good ones."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

import pytest
from tests.integration.cable import NOT_ALLOWED
from tests.integration.company import Company, environment, query, token, wait_for, wait_for_scope

from syncline import Replica, Status
from syncline.replica.connectivity.port import Change, Tell


class Played:
    """An operating system that a test plays."""

    def __init__(self) -> None:
        self.tell: Tell = lambda change: None
        self.is_listening = False

    def listen(self, tell: Tell) -> None:
        self.tell, self.is_listening = tell, True

    def close(self) -> None:
        self.is_listening = False


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
def test_the_cable_is_pulled_and_plugged_in_again(company: Company) -> None:
    """P2: the kernel says so, and the sync follows within a second, though the device's own timer is far away."""
    alone = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    command = [*alone, sys.executable, "-m", "tests.integration.cable", str(company.folder), token("ann")]
    try:
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=150)
    except FileNotFoundError:
        pytest.skip("this system has no unshare(1), and the tests do not run as root")
    if done.returncode == NOT_ALLOWED or done.stderr.startswith("unshare:"):
        pytest.skip(f"this system allows no network namespaces: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["pulled"] == [["offline", "no_network", 1]] * 3
    for seconds, timer_seconds in zip(seen["seconds"], seen["timer_seconds"], strict=True):
        assert seconds < timer_seconds - 10, f"only the kernel's word explains that: {seen}"
    assert statistics.median(seen["seconds"]) < 1, seen


def postponed(replica: Replica, reason: str) -> bool:
    status = replica.status
    return (status.state, status.reason) == ("waiting", reason)


def test_on_a_metered_network_nothing_is_sent_until_somebody_asks(company: Company) -> None:
    """P4: the stream ends, what the nurse writes waits, `sync()` goes once around, and the hint's end sends all."""
    company.serve()
    ann = company.live("ann")
    ann.connectivity_changed(online=True, metered=True)
    wait_for(lambda: postponed(ann, "metered"), "postponed")
    query(ann.path, "INSERT INTO notes VALUES('roaming', 'v-ada', 'abroad')")
    company.execute("UPDATE patients SET name = 'Ada of the office' WHERE id = 'ada'")
    company.device("ben").sync(timeout=30)  # time enough for a device that does not wait
    assert company.execute("SELECT 1 FROM notes WHERE id = 'roaming'") == []
    assert ann.status.pending == 1 and postponed(ann, "metered")

    report = ann.sync(timeout=30)
    assert (report.uploaded_mutations, report.pending) == (1, 0)
    assert query(ann.path, "SELECT name FROM patients WHERE id = 'ada'") == [("Ada of the office",)]
    wait_for(lambda: postponed(ann, "metered"), "postponed again")

    query(ann.path, "INSERT INTO notes VALUES('roaming-2', 'v-ada', 'still abroad')")
    ann.connectivity_changed(metered=True)
    ann.connectivity_changed(online=True)
    assert ann.status.pending == 1
    ann.connectivity_changed(metered=False)
    wait_for(lambda: ann.status.state == "live" and not ann.status.pending, "at once")
    wait_for_scope(company, "ann", ann.path)


def test_a_low_battery_postpones_from_the_start(company: Company) -> None:
    company.serve()
    ann = company.device("ann")
    ann.power_changed(low_battery=True)
    ann.start()
    wait_for(lambda: postponed(ann, "low_battery"), "postponed")
    assert company.road.opened == 0
    ann.power_changed(low_battery=False)
    wait_for(lambda: ann.status.state == "live" and ann.status.reason is None, "live")
    wait_for_scope(company, "ann", ann.path)


def test_a_first_sync_that_runs_is_postponed_between_two_answers(company: Company) -> None:
    """What was asked for is finished, and nothing more is asked for."""
    company.serve()
    ann = company.device("ann")
    told: list[str] = []

    def battery_falls(status: object) -> None:
        if not told:
            told.append("low")
            ann.power_changed(low_battery=True)

    ann.on("changed", battery_falls)
    ann.start()
    wait_for(lambda: postponed(ann, "low_battery"), "postponed")
    ann.power_changed(low_battery=False)
    wait_for(lambda: ann.status.state == "live", "live")
    wait_for_scope(company, "ann", ann.path)


def test_a_large_download_is_broken_off_when_the_battery_falls(company: Company) -> None:
    """P2: in the middle of an answer; afterwards it comes whole."""
    company.execute(
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 60000) "
        "INSERT INTO notes SELECT 'many' || i, 'v-ada', hex(randomblob(50)) FROM c"
    )
    company.serve()
    ann = company.device("ann")
    told: list[int] = []

    def battery_falls(status: Status) -> None:
        if not told and status.progress is not None:
            told.append(status.progress.rows)
            ann.power_changed(low_battery=True)

    ann.on("status", battery_falls)
    ann.start()
    wait_for(lambda: postponed(ann, "low_battery"), "postponed")
    assert told[0] < 60_000 and (ann.status.checkpoint, ann.status.last_synced_at) == (0, None)
    assert query(ann.path, "SELECT count(*) FROM notes") == [(0,)]
    ann.power_changed(low_battery=False)
    wait_for(lambda: ann.status.state == "live", "live")
    wait_for_scope(company, "ann", ann.path)


def test_the_operating_system_is_listened_to_while_an_agent_runs(company: Company) -> None:
    """Without a network nothing is tried; with one, all follows at once. `stop` ends the listening."""
    company.serve()
    system = Played()
    ann = company.device("ann", connectivity=system)
    ann.start()
    wait_for(lambda: ann.status.state == "live", "live")
    system.tell(Change(online=False))
    wait_for(lambda: (ann.status.state, ann.status.reason) == ("offline", "no_network"), "offline")
    query(ann.path, "INSERT INTO notes VALUES('tunnel', 'v-ada', 'written in a tunnel')")
    system.tell(Change(online=True))
    wait_for(lambda: company.execute("SELECT 1 FROM notes WHERE id = 'tunnel'"), "the note")
    wait_for(lambda: ann.status.state == "live", "live")
    ann.stop()
    assert not system.is_listening


def test_from_one_network_to_another(company: Company) -> None:
    """The old connection is dead and nobody says so: the system's word that the device moved is enough, and the silence
    need not be waited for."""
    company.serve()
    system = Played()
    ann = company.device("ann", connectivity=system)
    ann.start()
    wait_for(lambda: ann.status.state == "live", "live")
    company.road.is_frozen = True
    company.execute("UPDATE patients SET name = 'Ada moved' WHERE id = 'ada'")
    system.tell(Change(online=False))
    wait_for(lambda: ann.status.state == "offline", "offline")
    company.road.lead_to(company.servers[0])
    company.road.is_frozen = False
    system.tell(Change(online=True, moved=True))
    wait_for(lambda: query(ann.path, "SELECT name FROM patients WHERE id = 'ada'") == [("Ada moved",)], "the change")


def test_a_request_over_a_network_that_is_gone_ends_at_once(company: Company) -> None:
    """The device waits for an answer that cannot come any more; it does not wait for its patience to end."""
    company.serve()
    system = Played()
    ann = company.device("ann", connectivity=system)
    ann.sync(timeout=30)
    company.road.is_frozen = True
    ann.start()
    wait_for(lambda: ann.status.state == "syncing", "it asks")
    system.tell(Change(online=False))
    wait_for(lambda: ann.status.state == "offline", "offline", seconds=10)
    company.road.lead_to(company.servers[0])
    company.road.is_frozen = False
    system.tell(Change(online=True))
    wait_for(lambda: ann.status.state == "live", "live", seconds=10)
