"""The receipt: "all 14 changes reached the office at 17:42"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.conftest import python
from tests.replica.office import Office, execute, until

from syncline import Receipt, Replica
from syncline.cli.receipt_text import receipt_line
from syncline.replica.status import read_status

AT_US = 1_764_006_125_123_456
AT = "2025-11-24 17:42:05.123456"


def write(replica: Replica, count: int) -> None:
    for number in range(count):
        execute(replica.path, "UPDATE visits SET count = ?", number + 100)


def test_after_a_days_work_the_nurse_sees_that_all_of_it_arrived(replica: Replica, office: Office) -> None:
    told: list[Receipt] = []
    replica.on("receipt", told.append)
    office.time_us = AT_US
    replica.sync(timeout=20)
    assert (replica.receipt, told) == (None, []), "nothing was sent, and nothing is claimed"
    write(replica, 14)
    replica.sync(timeout=20)
    receipt = Receipt(reached=14, refused=0, at=AT)
    assert told == [receipt] and replica.receipt == receipt and replica.status.receipt == receipt
    assert read_status(replica.path)["receipt"] == {"reached": 14, "refused": 0, "at": AT}
    office.time_us += 1
    replica.sync(timeout=20)
    assert told == [receipt] and replica.receipt == receipt, "a download is no receipt"


def test_what_was_refused_is_told_too(replica: Replica, office: Office) -> None:
    replica.sync(timeout=20)
    write(replica, 12)
    execute(replica.path, "UPDATE visits SET status = 'bad'")
    execute(replica.path, "UPDATE visits SET status = 'worse'")
    office.refuses = lambda mutation: "check" if "status" in mutation["columns"] else None
    replica.sync(timeout=20)
    assert replica.receipt is not None
    assert (replica.receipt.reached, replica.receipt.refused, replica.receipt.of) == (12, 2, 14)


def test_it_counts_since_the_outbox_was_last_empty_and_over_restarts(
    replica: Replica, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.sync(timeout=20)
    write(replica, 3)
    told: list[Receipt] = []
    replica.on("receipt", told.append)

    def write_more_meanwhile(message: dict[str, Any], upload: Callable[..., Any] = office.upload) -> dict[str, Any]:
        monkeypatch.setattr(office, "upload", upload)
        answer = upload(message)
        write(replica, 2)
        return answer

    monkeypatch.setattr(office, "upload", write_more_meanwhile)
    replica.start()
    until(lambda: bool(told))
    assert [each.reached for each in told] == [5], "three and two, in two uploads"
    replica.stop()
    with Replica(replica.path, "https://x.org", "t", transport=office) as restarted:
        assert restarted.receipt is not None and restarted.receipt.reached == 5
        write(restarted, 1)
        restarted.sync(timeout=20)
        assert restarted.receipt.reached == 5 or restarted.receipt.reached == 1
        assert restarted.receipt == Receipt(1, 0, restarted.receipt.at)


def test_half_of_it_arrived_when_the_battery_died(replica: Replica, office: Office) -> None:
    """Counted by the transaction that applied: the second half adds to the first, whatever lies between."""
    replica.sync(timeout=20)
    office.holds_checkpoints = True
    write(replica, 4)
    with pytest.raises(Exception, match="Not in step"):
        replica.sync(timeout=0.5)
    office.included, office.head = 2, office.head + 1  # a checkpoint came in between the uploads
    with pytest.raises(Exception, match="Not in step"):
        replica.sync(timeout=0.5)
    assert replica.receipt is None and replica.status.pending == 2
    replica.stop()
    office.holds_checkpoints = False
    office.included, office.head = office.last, office.head + 1
    with Replica(replica.path, "https://x.org", "t", transport=office) as restarted:
        restarted.sync(timeout=20)
        assert restarted.receipt is not None and restarted.receipt.reached == 4


@pytest.mark.parametrize(
    ("receipt", "line"),
    [
        (Receipt(14, 0, AT), "all 14 changes reached the office on 2025-11-24 at 17:42"),
        (Receipt(1, 0, AT), "your change reached the office on 2025-11-24 at 17:42"),
        (Receipt(12, 2, AT), "12 of 14 changes reached the office on 2025-11-24 at 17:42, 2 were refused"),
        (Receipt(13, 1, AT), "13 of 14 changes reached the office on 2025-11-24 at 17:42, 1 was refused"),
        (Receipt(0, 1, AT), "your change was refused on 2025-11-24 at 17:42"),
        (Receipt(0, 3, AT), "all 3 changes were refused on 2025-11-24 at 17:42"),
    ],
)
def test_in_words(receipt: Receipt, line: str) -> None:
    assert receipt_line(receipt, zone="UTC") == line


def test_in_the_zone_of_whoever_looks(replica: Replica, office: Office, tmp_path: Any) -> None:
    office.time_us = AT_US
    replica.sync(timeout=20)
    write(replica, 1)
    replica.sync(timeout=20)
    code = "import os, time; os.environ['TZ'] = 'Asia/Tokyo'; time.tzset(); from syncline.cli.main import main; main()"
    told = python("-c", code, "device", "status", "--db", str(replica.path), folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "your change reached the office on 2025-11-25 at 02:42" in told.stdout
