"""Many connected devices, and what one checkpoint tells each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from syncline import limits
from syncline.protocol import frames
from syncline.protocol.messages import Download
from syncline.server.downloads import Position
from syncline.server.fanout import FanOut
from syncline.source.port import Claims
from syncline.testing.bench import Office, Phone
from syncline.testing.dialect import Dialect

SCOPE = {
    "patients": "SELECT id FROM patients WHERE id IN ({mine})",
    "visits": "SELECT id FROM visits WHERE patient_id IN ({mine})",
    "notes": "SELECT n.id FROM notes n JOIN visits v ON v.id = n.visit_id WHERE v.patient_id IN ({mine})",
    "medications": "SELECT id FROM medications",
}


@dataclass(eq=False)
class Connected:
    """A phone on a stream. What the wire carried to it is kept in `heard`; `is_ready`: it takes what it is sent."""

    phone: Phone
    office: Office
    fan_out: FanOut
    packing: int = frames.PLAIN
    heard: list[bytes] = field(default_factory=list)
    alone: int = 0
    is_ready: bool = True
    is_woken: bool = True

    def __post_init__(self) -> None:
        self.phone.hello()
        request = Download.load(self.phone.file.download_request())
        self.device = request.device
        self.claims: Claims = self.phone.identity.claims
        self.position: Position = self.office.wait(self.office.service.open_download(self.phone.identity, request))

    def wake(self) -> None:
        self.is_woken = True

    def replace(self) -> None:
        raise AssertionError("nobody opens a second stream here")

    def take(self, messages: Sequence[bytes], position: Position) -> bool:
        if not self.is_ready:
            return False
        self._apply([each for message in messages for each in frames.unbundle(message)])
        self.position = position
        return True

    def _apply(self, packed: Sequence[bytes]) -> None:
        for each in packed:
            frame = frames.unpack(each)
            self.heard.append(frame)
            self.phone.file.receive(frames.load(frame))

    def read_alone(self) -> None:
        """What a connection does when it is woken."""
        while self.is_woken:
            self.is_woken = False
            self.fan_out.leave(self)
            cut = self.office.wait(self.office.service.next_cut(self.phone.identity, self.device, self.position))
            self.alone += 1
            if not cut.is_empty:
                self._apply([b"\0" + frame for frame in cut.frames])
                self.position = cut.position
            else:
                was = self.position
                self.position = Position(cut.position.cursor, was.held, was.included, was.apply_count)
            self.is_woken = cut.more
        self.fan_out.stand(self)

    def rows(self, table: str) -> list[object]:
        return [row[0] for row in self.phone.execute(f"SELECT id FROM {table} ORDER BY 1")]


class Room:
    """The company with all its connected phones."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.fan_out = office.service.fan_out
        self.connected: list[Connected] = []

    def connect(self, user: str) -> Connected:
        self.office.checkpoint()
        connected = Connected(self.office.phone(user), self.office, self.fan_out)
        self.connected.append(connected)
        connected.read_alone()
        self.tell()
        return connected

    def change(self, *statements: str) -> None:
        """One transaction of the company's, and the checkpoint that takes it."""
        self.office.execute("BEGIN")
        for statement in statements:
            self.office.execute(statement)
        self.office.execute("COMMIT")
        self.office.checkpoint()

    def tell(self) -> None:
        """Until everybody who takes anything was told everything."""
        self.office.wait(self.fan_out.step())
        while woken := [each for each in self.connected if each.is_woken and each.is_ready]:
            for each in woken:
                each.read_alone()
            self.office.wait(self.fan_out.step())

    def scope_of(self, user: str) -> dict[str, list[object]]:
        mine = f"SELECT patient_id FROM assignments WHERE nurse = '{user}'"
        return {
            table: [row[0] for row in self.office.execute(f"{query.format(mine=mine)} ORDER BY 1")]
            for table, query in SCOPE.items()
        }

    def check(self) -> None:
        """Whoever takes what it is sent holds its scope, no more and no less."""
        for each in self.connected:
            if each.is_ready:
                wanted = self.scope_of(each.phone.identity.user)
                assert {table: each.rows(table) for table in SCOPE} == wanted, each.phone.path.name

    def forget(self) -> None:
        for each in self.connected:
            each.heard.clear()
            each.alone = 0


@pytest.fixture
def room(office: Office) -> Room:
    return Room(office)


def heard(connected: Connected) -> bytes:
    return b"\n".join(connected.heard)


def test_one_change_is_read_once_and_told_to_all(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: the row frame is the same for everybody; begin and commit are each device's own."""
    everybody = [room.connect(user) for user in ("ann", "ben") * 10]
    room.forget()
    reads: list[int] = []
    read = room.office.source.read_delta

    async def count(*arguments: object) -> object:
        reads.append(1)
        return await read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(room.office.source, "read_delta", count)
    room.change("INSERT INTO notes VALUES('x', 'v-bo', 'for both')")
    room.tell()
    room.check()
    assert [each.alone for each in everybody] == [0] * 20
    assert len(reads) == 1
    assert all(len(each.heard) == 3 for each in everybody)
    assert len({each.heard[1] for each in everybody}) == 1


def test_what_does_not_concern_a_device_is_not_told_to_it(room: Room) -> None:
    """P8: and it is told the next thing that does, without having to ask."""
    ann, ben = room.connect("ann"), room.connect("ben")
    room.forget()
    for number in range(5):
        room.change(f"INSERT INTO notes VALUES('x{number}', 'v-cy', 'about Cy')")
        room.tell()
    assert ann.heard == [] and len(ben.heard) == 15
    room.change("INSERT INTO notes VALUES('y', 'v-ada', 'about Ada')")
    room.tell()
    room.check()
    assert (ann.alone, ben.alone) == (0, 0)
    assert b"about Ada" in heard(ann) and b"about Ada" not in heard(ben)


def test_a_revocation_and_a_new_row_in_one_transaction_never_part(room: Room) -> None:
    """P8, P9: the new note never reaches the nurse who lost the patient with it, and the one who got her has both."""
    losers, keepers = [room.connect("ann") for _ in range(15)], [room.connect("ben") for _ in range(15)]
    room.change(
        "INSERT INTO notes VALUES('secret', 'v-bo', 'canary-of-bo')",
        "DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'bo'",
    )
    room.tell()
    room.check()
    for loser in losers:
        assert b"canary-of-bo" not in heard(loser)
        assert b"canary-of-bo" not in loser.phone.bytes_on_disk()
        assert b'"drop_bucket"' in heard(loser)
    assert all(b"canary-of-bo" in heard(keeper) for keeper in keepers)


def test_whoever_loses_a_patient_is_told_with_all_others_and_whoever_gains_one_reads_alone(room: Room) -> None:
    """P9: one evaluation of the grants for all, in the snapshot of the changes."""
    losers, gainers = [room.connect("ann") for _ in range(5)], [room.connect("ben") for _ in range(5)]
    room.forget()
    room.change(
        "DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'ada'",
        "INSERT INTO assignments VALUES('ben', 'ada')",
        "INSERT INTO notes VALUES('new', 'v-ada', 'handed over')",
    )
    room.tell()
    room.check()
    assert [each.alone for each in losers] == [0] * 5
    assert all(each.alone == 1 and b"handed over" in heard(each) for each in gainers)
    assert not any(b"handed over" in heard(each) for each in losers)


def test_a_nurse_whose_change_was_corrected_reads_what_became_of_it(room: Room) -> None:
    """P10: the outcome comes with the cut that includes it; the others get the office's value with everybody."""
    ann, ben = room.connect("ann"), room.connect("ben")
    ann.phone.execute("UPDATE visits SET status = 'nonsense' WHERE id = 'v-bo'")
    ann.phone.execute("UPDATE visits SET summary = 'fine' WHERE id = 'v-ada'")
    room.forget()
    assert ann.phone.upload()
    room.office.checkpoint()
    room.tell()
    room.check()
    assert ann.alone == 1 and [each["code"] for each in ann.phone.rejections()] == ["check"]
    assert not ann.phone.file.state().has_pending
    assert ben.alone == 0


def test_a_nurse_whose_change_was_simply_taken_is_told_with_everybody(room: Room) -> None:
    """P2, P10."""
    ann, ben = room.connect("ann"), room.connect("ben")
    ann.phone.execute("UPDATE visits SET summary = 'seen' WHERE id = 'v-bo'")
    room.forget()
    assert ann.phone.upload()
    room.office.checkpoint()
    room.tell()
    assert (ann.alone, ben.alone) == (0, 0)
    assert not ann.phone.file.state().has_pending
    assert ben.phone.execute("SELECT summary FROM visits WHERE id = 'v-bo'") == [("seen",)]


def test_a_phone_that_does_not_read_holds_nobody_up_and_catches_up(room: Room) -> None:
    """P18, P19: nothing is kept for it but where it stands."""
    slow, others = room.connect("ben"), [room.connect("ben") for _ in range(5)]
    slow.is_ready = False
    room.forget()
    for number in range(20):
        room.change(f"INSERT INTO notes VALUES('x{number}', 'v-bo', 'note {number}')")
        room.tell()
    room.check()
    assert slow.heard == [] and all(each.alone == 0 for each in others)
    slow.is_ready = True
    room.tell()
    room.check()
    assert slow.alone == 1


def test_more_than_can_be_told_to_all_alike_is_left_to_each(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """P19: memory is bounded however much one transaction of the office's changes."""
    ann, ben = room.connect("ann"), room.connect("ben")
    room.forget()
    monkeypatch.setattr(limits, "LIVE_ROWS_MAX", 10)
    room.change(*[f"INSERT INTO notes VALUES('x{number}', 'v-cy', 'bulk')" for number in range(50)])
    room.change("INSERT INTO notes VALUES('y', 'v-ada', 'little')")
    room.tell()
    room.check()
    assert (ann.alone, ben.alone) == (0, 1)


def test_after_a_restart_of_the_sequencer_the_streams_go_on(room: Room) -> None:
    """P2: a new term that goes on from the old one costs nothing."""
    ann = room.connect("ann")
    room.forget()
    room.office.wait(room.office.source.end_term(room.office.term))
    room.office.term = "another"
    assert room.office.wait(room.office.source.begin_term("another"))
    room.change("INSERT INTO notes VALUES('x', 'v-ada', 'afterwards')")
    room.tell()
    room.check()
    assert ann.alone == 0


def test_a_cursor_of_a_lost_time_is_noticed(room: Room, dialect: Dialect) -> None:
    """P6: the history of terms was forgotten: nobody is told a step that starts from nowhere."""
    ann = room.connect("ann")
    room.forget()
    room.office.wait(room.office.source.end_term(room.office.term))
    room.office.execute(f"DELETE FROM {dialect.own_table('term')}")
    room.office.term = "new"
    assert room.office.wait(room.office.source.begin_term("new"))
    room.change("INSERT INTO notes VALUES('x', 'v-ada', 'afterwards')")
    room.tell()
    room.check()
    assert ann.alone == 1 and b'"reset":true' in heard(ann)


@pytest.mark.parametrize("packing", [frames.PLAIN, frames.GZIP])
def test_frames_that_are_compressed_are_compressed_once(room: Room, packing: int) -> None:
    """P1: phones that agreed on another packing get theirs."""
    plain, packed = room.connect("ben"), room.connect("ben")
    packed.packing = packing
    room.change(f"INSERT INTO notes VALUES('long', 'v-bo', '{'é' * 5000}')")
    room.tell()
    room.check()
    assert plain.heard[-2] == packed.heard[-2]


def test_a_shared_cut_says_what_a_cut_of_ones_own_says(room: Room) -> None:
    """The two ways to a device differ in cost only: the same frames with the same fields, in whatever order buckets
    come."""
    shared, own = room.connect("ben"), room.connect("ben")
    room.forget()
    own.is_ready = False
    room.change("UPDATE visits SET summary = 's' WHERE id = 'v-bo'", "DELETE FROM notes WHERE id = 'n-cy'")
    room.tell()
    own.is_ready = True
    room.tell()
    assert (shared.alone, own.alone) == (0, 1)
    told = [[frames.load(frame) for frame in phone.heard] for phone in (shared, own)]
    first, second = ([begin, *sorted(between, key=repr), commit] for begin, *between, commit in told)
    assert first == second


USERS = ("ann", "ben", "cleo")
STEPS: tuple[Callable[[Dialect, random.Random, int], str], ...] = (
    lambda sql, rng, n: sql.put(
        "notes", "id", f"'r{n}', '{rng.choice(('v-ada', 'v-bo', 'v-cy'))}', 'note {n}'", "visit_id", "body"
    ),
    lambda sql, rng, n: f"UPDATE visits SET patient_id = '{rng.choice(('ada', 'bo', 'cy'))}' WHERE id = 'v-bo'",
    lambda sql, rng, n: f"DELETE FROM assignments WHERE nurse = '{rng.choice(USERS)}' AND patient_id = 'bo'",
    lambda sql, rng, n: f"INSERT INTO assignments VALUES('{rng.choice(USERS)}', 'bo') ON CONFLICT DO NOTHING",
    lambda sql, rng, n: f"INSERT INTO assignments VALUES('{rng.choice(USERS)}', 'cy') ON CONFLICT DO NOTHING",
    lambda sql, rng, n: f"DELETE FROM assignments WHERE nurse = '{rng.choice(USERS)}' AND patient_id = 'cy'",
    lambda sql, rng, n: f"DELETE FROM notes WHERE id = 'r{rng.randrange(n + 1)}'",
    lambda sql, rng, n: f"UPDATE medications SET name = 'm{n}'",
    lambda sql, rng, n: f"UPDATE notes SET body = 'changed {n}' WHERE id = 'r{rng.randrange(n + 1)}'",
)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_everybody_holds_their_scope(room: Room, dialect: Dialect, seed: int) -> None:
    """P1, P8: transactions of several changes, several checkpoints at once, phones that come, lag and come back."""
    rng = random.Random(seed)
    for number in range(60):
        if rng.random() < 0.1 and len(room.connected) < 9:
            room.connect(rng.choice(USERS))
        for each in room.connected:
            if rng.random() < 0.2:
                each.is_ready = not each.is_ready
        room.change(*[rng.choice(STEPS)(dialect, rng, number) for _ in range(rng.randint(1, 4))])
        if rng.random() < 0.7:
            room.tell()
            room.check()
    for each in room.connected:
        each.is_ready = True
    room.tell()
    room.check()
    room.forget()
    for number in range(100, 110):
        room.change(f"INSERT INTO notes VALUES('r{number}', 'v-cy', 'calm')")
        room.tell()
        room.check()
    assert sum(each.alone for each in room.connected) == 0
