"""Paged downloads, as any source must make them possible: pages hours apart, a world that goes on between them.

Pages are made tiny here, so that a clinic of forty rows takes a dozen of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncline import limits
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.protocol.cursor import parse_cursor
from syncline.server.downloads import CatchUpNeededError, Position
from syncline.server.job import Paging
from syncline.server.seal import Seal
from syncline.source.port import PageSize, Since, Walk
from syncline.testing.contract_lab import Company, SourceLab
from syncline.testing.paged_device import Frame, PagedDevice

PATIENTS = ("p1", "p2", "p3", "p4")
TABLES = (
    "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80), region VARCHAR(20))",
    "CREATE TABLE visits(id VARCHAR(20) PRIMARY KEY, patient_id VARCHAR(20) REFERENCES patients(id), n INTEGER)",
    "CREATE TABLE notes(visit_id VARCHAR(20), no INTEGER, body VARCHAR(80), PRIMARY KEY(visit_id, no))",
    "CREATE TABLE drugs(id INTEGER PRIMARY KEY, name VARCHAR(4000))",
    "CREATE TABLE assignments(nurse VARCHAR(20), patient_id VARCHAR(20))",
    "CREATE INDEX visits_of ON visits(patient_id)",
    *(f"INSERT INTO patients VALUES('{patient}', 'Name of {patient}', 'north')" for patient in PATIENTS),
    *(
        f"INSERT INTO visits VALUES('v{number}', '{PATIENTS[number % 4]}', {number})"
        for number in (11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 23, 24)
    ),
    *(f"INSERT INTO notes VALUES('v{number}', {no}, 'note')" for number in (11, 12, 13, 14) for no in (1, 2, 3)),
    *(f"INSERT INTO drugs VALUES({number}, 'drug {number}')" for number in range(1, 8)),
    *(f"INSERT INTO assignments VALUES('ann', '{patient}')" for patient in ("p1", "p2", "p3")),
    "INSERT INTO assignments VALUES('ben', 'p4')",
)
CONFIG = PlanConfig(
    (
        ScopeConfig(
            "caseload",
            {
                "visits": TableConfig((LinkConfig(parent="patients"),)),
                "notes": TableConfig((LinkConfig(parent="visits", on={"visit_id": "id"}),)),
            },
            root="patients",
            grant="SELECT patient_id FROM assignments WHERE nurse = :sub",
        ),
        ScopeConfig("formulary", {"drugs": TableConfig()}),
    )
)
TINY = Paging(PageSize(3, 100_000), progress_bytes=1, answer_seconds=1e9, answer_bytes=1)
"""Three rows a page, one page an answer."""
MINE = "SELECT patient_id FROM assignments WHERE nurse = '{nurse}'"
TRUTH = {
    "patients": "SELECT * FROM patients WHERE id IN ({mine})",
    "visits": "SELECT * FROM visits WHERE patient_id IN ({mine})",
    "notes": "SELECT n.* FROM notes n JOIN visits v ON v.id = n.visit_id WHERE v.patient_id IN ({mine})",
    "drugs": "SELECT * FROM drugs",
}
HAPPENINGS: dict[str, tuple[str, ...]] = {
    "rows change": ("UPDATE visits SET n = n + 100", "UPDATE notes SET body = 'changed'"),
    "a row moves to another bucket of the nurse": ("UPDATE visits SET patient_id = 'p2' WHERE id IN ('v12', 'v24')",),
    "a row moves away": ("UPDATE visits SET patient_id = 'p4' WHERE id IN ('v11', 'v21')",),
    "a row moves in": ("UPDATE visits SET patient_id = 'p1' WHERE patient_id = 'p4'",),
    "a row vanishes": ("DELETE FROM notes WHERE no = 2", "DELETE FROM drugs WHERE id IN (1, 7)"),
    "rows are new at both ends": (
        "INSERT INTO visits VALUES('a0', 'p1', 1), ('z9', 'p2', 2)",
        "INSERT INTO drugs VALUES(-5, 'first'), (99, 'last')",
    ),
    "a key changes": (
        "UPDATE notes SET no = no + 10 WHERE visit_id = 'v12'",
        "UPDATE drugs SET id = 50 WHERE id = 1",
        "UPDATE drugs SET id = 0 WHERE id = 6",
    ),
    "a row goes and comes back as another": (
        "DELETE FROM visits WHERE id = 'v13'",
        "INSERT INTO visits VALUES('v13', 'p3', 777)",
    ),
}


class Clinic:
    """The clinic, served in tiny pages."""

    def __init__(self, lab: SourceLab) -> None:
        self.company = Company(lab, TABLES, CONFIG)
        self.service = self.company.service
        self.source = self.company.source
        self.service.downloads.paging = TINY

    def device(self, nurse: str = "ann") -> PagedDevice:
        wait = self.company.wait
        device = wait(self.source.register(None, None, nurse, 0, {})).device
        return PagedDevice(self.service, self.company.plan, device, nurse, wait)

    def synced(self, nurse: str = "ann") -> PagedDevice:
        device = self.device(nurse)
        device.catch_up()
        return device

    def happen(self, *statements: str, checkpoint: bool = True) -> None:
        self.company.execute(*statements)
        if checkpoint:
            self.company.checkpoint()

    def agrees(self, device: PagedDevice, nurse: str = "ann") -> None:
        mine = MINE.format(nurse=nurse)
        for table, query in TRUTH.items():
            rows = [list(row) for row in self.company.lab.execute(query.format(mine=mine))]
            assert device.table(table) == sorted(rows, key=repr), table
        assert device.staged is None


def bucket(patient: str) -> str:
    return f'caseload["{patient}"]'


def named(frames: list[Frame]) -> set[str]:
    """The buckets whose rows came."""
    return {name for frame in frames if frame["t"] == "rows" for name in frame["buckets"]}


class DownloadContract:
    """Give the fixture `lab`."""

    @pytest.fixture
    def lab(self) -> SourceLab:
        raise NotImplementedError("give the fixture `lab`")

    @pytest.fixture
    def clinic(self, lab: SourceLab) -> Iterator[Clinic]:
        clinic = Clinic(lab)
        yield clinic
        clinic.company.close()

    # ------------------------------------------------------------ pages
    def test_a_first_sync_comes_in_pages_and_is_complete(self, clinic: Clinic) -> None:
        nurse = clinic.device()
        first = nurse.ask()
        assert [frame["t"] for frame in first[:2]] == ["begin", "stage"]
        assert first[0]["stage"] == "new" and first[-1] == {"t": "pause"}
        assert nurse.cursor is None and not nurse.rows, "nothing is applied before the commit"
        assert nurse.catch_up() > 5
        clinic.agrees(nurse)
        last = nurse.progress[-1]
        assert last["total_rows"] == len(nurse.rows) == last["rows"]
        assert [p["bytes"] for p in nurse.progress] == sorted(p["bytes"] for p in nurse.progress)

    def test_a_page_is_in_key_order_and_holds_no_more_than_it_may(self, clinic: Clinic) -> None:
        buckets = frozenset({bucket("p1"), bucket("p2"), "formulary[]"})
        walk, place, keys = Walk(buckets), None, []
        while True:
            page = clinic.company.wait(clinic.source.read_page({"sub": "ann"}, walk, place, (), PageSize(3, 100_000)))
            assert sum(rows.count for rows in page.rows) <= 3
            keys += [rows.place for rows in page.rows]
            walk = Walk(buckets, start=(page.survey.head.term, page.survey.head.checkpoint))
            place = page.next
            if place is None:
                break
        visits = [key for key in keys if "visits" in key]
        assert visits == sorted(visits)

    @pytest.mark.parametrize("sequenced", [True, False])
    @pytest.mark.parametrize("happening", HAPPENINGS)
    def test_what_happens_between_two_pages_is_in_the_download(
        self, clinic: Clinic, happening: str, sequenced: bool
    ) -> None:
        """Whichever two pages they are, and whether a checkpoint has taken it yet or not."""
        answers = clinic.device().catch_up()
        clinic.company.execute("CREATE TABLE kept_visits AS SELECT * FROM visits")
        clinic.company.execute("CREATE TABLE kept_notes AS SELECT * FROM notes")
        clinic.company.execute("CREATE TABLE kept_drugs AS SELECT * FROM drugs")
        for at in range(1, answers):
            nurse = clinic.device()
            for _ in range(at):
                nurse.ask()
            clinic.happen(*HAPPENINGS[happening], checkpoint=sequenced)
            nurse.catch_up()
            clinic.company.checkpoint()
            nurse.catch_up()
            clinic.agrees(nurse)
            for table in ("visits", "notes", "drugs"):
                clinic.happen(f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM kept_{table}")

    def test_a_transaction_is_never_half_there(self, clinic: Clinic) -> None:
        """One page saw it, an earlier one did not, and no checkpoint had taken it: the marker waits for that."""
        answers = clinic.device().catch_up()
        for at in range(1, answers):
            nurse = clinic.device()
            for _ in range(at):
                nurse.ask()
            clinic.happen(
                "BEGIN",
                *(f"UPDATE {table} SET {column} = '{at}'" for table, column in (("patients", "name"), ("visits", "n"))),
                *(f"UPDATE {table} SET {column} = '{at}'" for table, column in (("notes", "body"), ("drugs", "name"))),
                "COMMIT",
                checkpoint=False,
            )
            nurse.catch_up()
            values = {
                str(row[{"drugs": 1, "patients": 1, "visits": 2, "notes": 2}[at[0]]]) for at, row in nurse.rows.items()
            }
            assert values == {str(at)} or str(at) not in values
            clinic.company.checkpoint()

    def test_a_line_that_breaks_anywhere_goes_on_where_it_broke(self, clinic: Clinic) -> None:
        whole = clinic.device()
        whole.catch_up()
        frames_needed = len(whole.seen)
        for frames_max in range(1, 8):
            nurse = clinic.device()
            for _ in range(200):
                last = nurse.ask(frames_max=frames_max)[-1]
                if last["t"] == "commit":
                    break
                frames_max = frames_max if nurse.staged and last["t"] == "pause" else frames_max + 1
            clinic.agrees(nurse)
            rows = sum(len(frame["rows"]) for frame in nurse.seen if frame["t"] == "rows")
            assert rows <= len(nurse.rows) * 3, "it does not begin anew each time"
        assert frames_needed > 20

    def test_another_server_process_goes_on_with_it(self, clinic: Clinic) -> None:
        nurse = clinic.device()
        for _ in range(4):
            nurse.ask()
        token = nurse.staged and nurse.staged.token
        other = Clinic.__new__(Clinic)
        other.company = clinic.company
        source = clinic.company.lab.open()
        clinic.company.wait(source.attach(clinic.company.plan))
        service = type(clinic.service)(
            source, clinic.company.plan, clinic.company.clock, wait_for_marker=clinic.company._pass_marker
        )
        service.downloads.paging = TINY
        nurse.service = service
        assert nurse.ask()[0]["stage"] == "resume" and nurse.staged and nurse.staged.token != token
        nurse.catch_up()
        clinic.agrees(nurse)

    def test_a_small_new_bucket_comes_in_one_piece(self, clinic: Clinic) -> None:
        nurse = clinic.synced("ben")
        clinic.happen(
            "INSERT INTO patients VALUES('p9', 'New', 'south')", "INSERT INTO assignments VALUES('ben', 'p9')"
        )
        answer = nurse.ask()
        assert answer[0]["stage"] is None and answer[-1]["buckets"] == {"add": [bucket("p9")]}
        clinic.agrees(nurse, "ben")

    def test_a_stream_is_told_to_catch_up_where_pages_are_needed(self, clinic: Clinic) -> None:
        nurse = clinic.device()
        position = Position(None, frozenset(), 0, 0, is_reset=True)
        with pytest.raises(CatchUpNeededError):
            clinic.company.wait(clinic.service.next_cut(nurse.identity, "d", position))

    # ------------------------------------------------------------ grants
    def test_a_bucket_that_is_revoked_in_the_middle_is_lost_at_once_and_for_good(self, clinic: Clinic) -> None:
        answers = clinic.device().catch_up()
        for at in range(1, answers):
            nurse = clinic.device()
            for _ in range(at):
                nurse.ask()
            before = len(nurse.seen)
            clinic.happen("DELETE FROM assignments WHERE patient_id = 'p2'")
            nurse.ask()
            clinic.happen("INSERT INTO assignments VALUES('ann', 'p2')")
            told = nurse.progress[-1]["lost"] if nurse.staged else []
            assert bucket("p2") not in named(nurse.seen[before:])
            assert not nurse.staged or bucket("p2") not in nurse.staged.buckets or told == []
            nurse.catch_up()
            clinic.agrees(nurse)

    def test_a_bucket_that_is_granted_in_the_middle_comes_by_the_next_cut(self, clinic: Clinic) -> None:
        nurse = clinic.device()
        nurse.ask()
        clinic.happen("INSERT INTO assignments VALUES('ann', 'p4')")
        while (last := nurse.ask()[-1])["t"] != "commit":
            assert nurse.staged and bucket("p4") not in nurse.staged.buckets
        assert last["more"] and bucket("p4") not in last["buckets"]["add"]
        nurse.catch_up()
        clinic.agrees(nurse)

    def test_a_held_bucket_that_is_revoked_meanwhile_goes_at_once_and_the_rest_goes_on(self, clinic: Clinic) -> None:
        nurse = clinic.synced("ben")
        clinic.happen(*(f"INSERT INTO assignments VALUES('ben', '{patient}')" for patient in ("p1", "p2", "p3")))
        for _ in range(3):
            nurse.ask()
        cursor, staged = nurse.cursor, nurse.staged
        assert staged
        clinic.happen(
            "UPDATE visits SET n = 5 WHERE patient_id = 'p4'", "DELETE FROM assignments WHERE patient_id = 'p4'"
        )
        answer = nurse.ask()
        if answer[-1]["t"] == "pause":  # the page was under way when it was revoked
            answer = nurse.ask()
        assert answer[0]["stage"] == "keep" and answer[1] == {"t": "drop_bucket", "buckets": [bucket("p4")]}
        assert nurse.cursor == cursor and nurse.staged and not nurse.staged.reset
        assert not any(row[1] == "p4" for row in nurse.table("visits"))
        assert nurse.ask()[0]["stage"] == "resume"
        nurse.catch_up()
        clinic.agrees(nurse, "ben")

    def test_a_revocation_and_a_new_row_in_one_transaction(self, clinic: Clinic) -> None:
        """Never does that row reach the one who lost the patient: not by a page, not by a lap, not by the last cut."""
        answers = clinic.device().catch_up()
        for at in range(answers + 1):
            for sequenced in (True, False):
                nurse = clinic.device()
                for _ in range(at):
                    nurse.ask()
                secret = f"secret {at} {sequenced}"
                clinic.happen(
                    "BEGIN",
                    "DELETE FROM assignments WHERE nurse = 'ann' AND patient_id = 'p1'",
                    f"INSERT INTO notes VALUES('v12', {100 + 2 * at + sequenced}, '{secret}')",
                    "UPDATE visits SET n = n + 1000 WHERE patient_id = 'p1'",
                    f"UPDATE patients SET name = '{secret}' WHERE id = 'p1'",
                    "COMMIT",
                    checkpoint=sequenced,
                )
                nurse.catch_up()
                clinic.company.checkpoint()
                nurse.catch_up()
                clinic.agrees(nurse)
                assert secret not in repr(nurse.seen)
                clinic.happen("INSERT INTO assignments VALUES('ann', 'p1')")

    # ------------------------------------------------------------ long catch-ups
    def test_a_long_absence_is_caught_up_in_laps(self, clinic: Clinic) -> None:
        nurse = clinic.synced()
        clinic.happen("UPDATE visits SET n = n + 1", "UPDATE notes SET body = 'new'", "DELETE FROM drugs WHERE id < 5")
        assert nurse.ask()[0]["stage"] == "new"
        assert nurse.staged and not nurse.staged.buckets
        changes = iter(range(100, 106))

        def the_world_goes_on() -> None:
            if (number := next(changes, None)) is not None:
                clinic.happen(f"UPDATE visits SET n = {number} WHERE id IN ('v12', 'v{11 + number % 4}')")
                clinic.happen(f"UPDATE visits SET patient_id = 'p{number % 4 + 1}' WHERE id = 'v13'")

        assert nurse.catch_up(the_world_goes_on) > 4
        clinic.agrees(nurse)

    def test_a_lap_that_breaks_anywhere_goes_on_where_it_broke(self, clinic: Clinic) -> None:
        for frames_max in range(2, 7):
            nurse = clinic.synced()
            clinic.happen(f"UPDATE visits SET n = {frames_max}", "UPDATE drugs SET name = 'other'")
            for _ in range(200):
                if nurse.ask(frames_max=frames_max)[-1]["t"] == "commit":
                    break
                frames_max += not nurse.staged
            nurse.catch_up()
            clinic.agrees(nurse)

    def test_new_buckets_and_a_long_absence_come_together(self, clinic: Clinic) -> None:
        nurse = clinic.synced()
        clinic.happen("UPDATE visits SET n = n + 1", "INSERT INTO assignments VALUES('ann', 'p4')")
        nurse.ask()
        clinic.happen("UPDATE visits SET patient_id = 'p4' WHERE id IN ('v12', 'v13')", "UPDATE visits SET n = n + 1")
        nurse.catch_up()
        clinic.agrees(nurse)

    # ------------------------------------------------------------ lost times
    def test_a_cursor_of_a_lost_time_throws_away_what_is_staged(self, clinic: Clinic) -> None:
        nurse = clinic.synced()
        clinic.happen("UPDATE visits SET n = n + 1", "UPDATE notes SET body = 'x'")
        nurse.ask()
        assert nurse.staged
        nurse.cursor = "another.7"
        answer = nurse.ask()
        assert answer[0]["reset"] and answer[0]["stage"] == "new"
        nurse.catch_up()
        clinic.agrees(nurse)

    def test_a_token_of_a_lost_time_begins_the_download_anew(self, clinic: Clinic) -> None:
        nurse = clinic.device()
        for _ in range(3):
            nurse.ask()
        assert nurse.staged
        seal = Seal(clinic.company.wait(clinic.source.seal_key()))
        opened = seal.open(nurse.staged.token)
        assert opened and "term-1" in opened
        nurse.staged.token = seal.close(opened.replace("term-1", "another"))
        assert nurse.ask()[0]["stage"] == "new"
        nurse.catch_up()
        clinic.agrees(nurse)

    @pytest.mark.parametrize("token", ["", "null", "[1]", "{}", '["x"]', "[1,2,3]"])
    def test_a_token_that_is_none_begins_the_download_anew(self, clinic: Clinic, token: str) -> None:
        nurse = clinic.device()
        nurse.ask()
        assert nurse.staged
        nurse.staged.token = token
        nurse.staged.buckets = {'caseload["p4"]'}
        nurse.catch_up()
        clinic.agrees(nurse)

    def test_a_forged_token_gives_nobody_more_than_is_granted(self, clinic: Clinic) -> None:
        nurse = clinic.device()
        nurse.ask()
        assert nurse.staged
        nurse.staged.buckets |= {bucket("p4")}
        nurse.held |= {bucket("p4")}
        nurse.catch_up()
        assert bucket("p4") not in named(nurse.seen)

    # ------------------------------------------------------------ rows too large
    def test_a_row_that_no_frame_can_carry_stops_nobody(
        self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(limits, "ROW_BYTES_MAX", 2_000)
        monkeypatch.setattr(limits, "ROWS_FRAME_BYTES_TARGET", 1_000)
        large = "x" * 2_500
        clinic.happen(f"INSERT INTO drugs VALUES(3000, '{large}')", "INSERT INTO drugs VALUES(3001, 'after it')")
        for paging in (Paging(), TINY):
            clinic.service.downloads.paging = paging
            nurse = clinic.synced()
            assert len(nurse.table("drugs")) == 8 and large not in repr(nurse.seen)
            clinic.happen(f"UPDATE drugs SET name = '{large}' WHERE id = 4")
            nurse.catch_up()
            assert [4, "drug 4"] not in nurse.table("drugs"), "an old version is no longer true"
            clinic.happen("UPDATE drugs SET name = 'drug 4' WHERE id = 4")
            nurse.catch_up()
            assert [4, "drug 4"] in nurse.table("drugs")
        assert '[3000] of "drugs"' in caplog.text

    # ------------------------------------------------------------ replaced tables
    def test_a_table_whose_changes_were_missed_is_replaced(self, clinic: Clinic) -> None:
        for paging in (Paging(), TINY):
            clinic.service.downloads.paging = paging
            nurse = clinic.synced()
            cursor = parse_cursor(nurse.cursor)
            assert cursor
            self.miss_changes(clinic, "DELETE FROM visits WHERE id = 'v16'", "UPDATE visits SET n = 4 WHERE id = 'v12'")
            clinic.happen("UPDATE visits SET n = n + 1 WHERE id = 'v13'")
            nurse.catch_up()
            clinic.agrees(nurse)
            replaced = {frame["table"] for frame in nurse.seen if frame["t"] == "replace"}
            assert replaced == {"visits", "notes"}, "it, and the tables whose paths run through it"
            clinic.happen("INSERT INTO visits VALUES('v16', 'p1', 16)")

    def test_a_table_that_is_replaced_in_the_middle_of_a_download_begins_it_anew(self, clinic: Clinic) -> None:
        answers = clinic.device().catch_up()
        for at in range(1, answers):
            nurse = clinic.device()
            for _ in range(at):
                nurse.ask()
            self.miss_changes(clinic, f"UPDATE visits SET n = {at}", f"DELETE FROM notes WHERE no = {at}")
            nurse.catch_up()
            clinic.agrees(nurse)

    @staticmethod
    def miss_changes(clinic: Clinic, *statements: str) -> None:
        """As a migration does that takes our triggers off."""
        clinic.company.wait(clinic.source.suspend({"visits", "notes"}))
        clinic.company.execute(*statements)
        clinic.company.wait(clinic.source.provision(clinic.company.plan))
        clinic.company.wait(clinic.source.adopt(clinic.company.plan))
        clinic.company.checkpoint()

    # ------------------------------------------------------------ retention
    def test_what_is_older_than_the_retention_goes_and_a_device_behind_it_begins_anew(self, clinic: Clinic) -> None:
        late, current = clinic.synced(), clinic.synced()
        clinic.happen("UPDATE visits SET n = n + 1", "DELETE FROM drugs WHERE id = 2")
        current.catch_up()
        self.prune(clinic, days=-1)
        assert not late.ask()[0].get("reset"), "nothing is that old"
        late.catch_up()
        clinic.happen("UPDATE visits SET n = n + 1", "DELETE FROM drugs WHERE id = 3")
        current.catch_up()
        self.prune(clinic, days=1)
        assert self.entries(clinic, "ann") == 0
        clinic.happen("UPDATE visits SET n = n + 1 WHERE id = 'v12'")
        assert not current.ask()[0]["reset"], "it stands at the horizon"
        assert late.ask()[0]["reset"], "it stands behind it"
        for nurse in (late, current):
            nurse.catch_up()
            clinic.agrees(nurse)

    def test_a_download_that_takes_longer_than_the_retention_begins_anew(self, clinic: Clinic) -> None:
        nurse = clinic.device()
        for _ in range(5):
            nurse.ask()
        clinic.happen("UPDATE visits SET n = n + 1")
        self.prune(clinic, days=1)
        assert nurse.ask()[0]["stage"] == "new"
        nurse.catch_up()
        clinic.agrees(nurse)

    def test_only_the_active_sequencer_prunes(self, clinic: Clinic) -> None:
        assert not clinic.company.wait(clinic.source.prune("another", 0))

    @staticmethod
    def prune(clinic: Clinic, days: int) -> None:
        before = clinic.company.clock.now_us() + days * 86_400_000_000
        while clinic.company.wait(clinic.source.prune("term-1", before)):
            pass

    @staticmethod
    def entries(clinic: Clinic, nurse: str) -> int:
        """How many the feed holds for a nurse, whoever asks."""
        wait, claims = clinic.company.wait, {"sub": nurse}
        granted = wait(clinic.source.granted(claims))
        cut = wait(clinic.source.read_cut("none", claims, frozenset(), None, 0, Since(granted, 0)))
        return sum(len(entries.keys) + len(entries.removed) for entries in cut.entries)
