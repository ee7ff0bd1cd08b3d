"""What happens to the inspectors, and what the app makes of it."""

from __future__ import annotations

import time

from inspections import Inspections
from syncline.testing.pair import Pair

STATION = "SELECT result, remark, minutes FROM inspections WHERE id = 'i-station'"


def test_what_is_finished_in_the_shaft_reaches_the_office(syncline_pair: Pair) -> None:
    ann, _ = syncline_pair.devices
    app = Inspections(ann.replica)
    assert app.due() == [("i-mill", "Mill Lane 1"), ("i-station", "Station Road 7")]
    ann.offline()
    app.finish("i-mill", "safe", minutes=40)
    assert app.due() == [("i-station", "Station Road 7")]
    ann.online()
    syncline_pair.settle()
    assert syncline_pair.source.execute("SELECT result FROM inspections WHERE id = 'i-mill'") == [("safe",)]


def test_two_inspectors_at_one_lift_have_both_worked(syncline_pair: Pair) -> None:
    ann, ben = syncline_pair.devices
    ann.offline()
    ben.offline()
    ann.skew(365 * 24 * 3600)  # her clock is a year ahead, and still she was the first
    Inspections(ann.replica).finish("i-station", "closed", remark="the rope is worn", minutes=40)
    time.sleep(0.5)  # a device knows the time of the office to within half a request
    Inspections(ben.replica).finish("i-station", "safe", remark="the rope is new", minutes=25)
    ben.online()
    ben.settle()
    ann.online()
    syncline_pair.settle()
    assert syncline_pair.source.execute(STATION) == [("safe", "the rope is new", 65)]
    assert ann.execute(STATION) == ben.execute(STATION) == [("safe", "the rope is new", 65)]


def test_the_app_is_killed_while_it_writes(syncline_pair: Pair) -> None:
    ann, _ = syncline_pair.devices
    ann.offline()
    Inspections(ann.replica).finish("i-mill", "safe")
    half = ann.connect()
    half.execute("BEGIN")
    half.execute("UPDATE inspections SET result = 'closed' WHERE id = 'i-station'")
    ann.crash()
    half.close()
    assert Inspections(ann.replica).due() == [("i-station", "Station Road 7")]
    ann.online()
    syncline_pair.assert_in_step()
    assert syncline_pair.source.execute("SELECT result FROM inspections ORDER BY id") == [("safe",), (None,), (None,)]


def test_a_result_that_the_office_does_not_know_comes_back_as_a_complaint(syncline_pair: Pair) -> None:
    ann, _ = syncline_pair.devices
    app = Inspections(ann.replica)
    app.finish("i-mill", "fine")
    ann.settle()
    assert app.due()[0] == ("i-mill", "Mill Lane 1")
    assert [complaint.partition(":")[0] for complaint in app.complaints()] == ["i-mill"]


def test_a_lift_that_a_colleague_takes_over_leaves_the_list_by_itself(syncline_pair: Pair) -> None:
    ann, ben = syncline_pair.devices
    syncline_pair.source.execute("UPDATE rounds SET inspector = 'ben' WHERE lift_id = 'mill'")
    ben.wait_for("SELECT count(*) FROM lifts", [(3,)])
    ann.wait_for("SELECT id FROM lifts", [("station",)])
