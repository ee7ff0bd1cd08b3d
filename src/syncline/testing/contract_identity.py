"""Whose file is this: lost answers, phones that are restored, copied, reinstalled, or handed to somebody else."""

from __future__ import annotations

import pytest

from syncline.errors import AuthError
from syncline.replica.identity import CopiedFileError
from syncline.source.port import RecordFilter
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import ClinicFixtures, synced
from syncline.testing.dialect import Dialect

ROUNDS_MAX = 10
DRIVE = "UPDATE visits SET kilometres = kilometres + {} WHERE id = 'v-ada'"


def settle(*phones: Phone) -> None:
    """Each in turn goes on as the agent does: who finds that another copy has spoken for it says hello again."""
    resting = 0
    for _ in range(ROUNDS_MAX):
        for phone in phones:
            try:
                phone.sync()
                resting += 1
            except CopiedFileError:
                resting = 0
            except AuthError as refused:
                assert refused.error_code == "device_cloned"
                resting = 0
        if resting >= 2 * len(phones):
            return
    raise AssertionError("the phones do not come to rest")


def work_on(phone: Phone) -> None:
    """A stretch of a long session: uploads and downloads, without another hello."""
    while phone.upload():
        pass
    phone.office.checkpoint()
    phone.download()


def driven(office: Office) -> float:
    return float(office.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'")[0][0])


def devices(office: Office) -> list[str]:
    return [each["device"] for each in office.wait(office.source.devices())]


def bodies(office: Office) -> list[str]:
    return [body for (body,) in office.execute("SELECT body FROM notes WHERE visit_id = 'v-ada' ORDER BY body")]


class IdentityContract(ClinicFixtures):
    """A part of `SourceContract`."""

    # ------------------------------------------------------------ answers that never arrive
    def test_a_nurse_in_a_tunnel_whose_hellos_go_unanswered_keeps_her_identity(self, office: Office) -> None:
        """P5: the server has issued nonces that nobody received."""
        ann = synced(office)
        ann.execute(DRIVE.format(1))
        for _ in range(3):
            request = ann.file.hello_request()
            office.wait(office.service.hello(ann.identity, request, office.clock.now_us()))
        assert ann.hello() == "known"
        ann.sync()
        assert driven(office) == 1
        assert len(devices(office)) == 1

    def test_a_hello_that_the_network_brings_twice_costs_the_nurse_nothing(self, office: Office) -> None:
        """P5: the second one comes late, when the answer to the first has arrived."""
        ann = synced(office)
        ann.execute(DRIVE.format(1))
        request = ann.file.hello_request()
        answer = office.wait(office.service.hello(ann.identity, request, office.clock.now_us()))
        ann.file.accept_hello(answer.dump(), office.clock.now_us(), office.clock.now_us())
        office.wait(office.service.hello(ann.identity, request, office.clock.now_us()))
        assert ann.hello() == "known"
        ann.sync()
        assert driven(office) == 1
        assert len(devices(office)) == 1

    def test_a_new_phone_whose_first_answer_is_lost_is_registered_again_and_works(self, office: Office) -> None:
        ann = office.phone("ann")
        office.wait(office.service.hello(ann.identity, ann.file.hello_request(), office.clock.now_us()))
        ann.sync()
        ann.execute(DRIVE.format(2))
        ann.sync()
        assert driven(office) == 2
        assert len(devices(office)) == 2

    def test_an_upload_whose_answer_is_lost_counts_once_after_the_phone_was_switched_off(self, office: Office) -> None:
        """P3, P5: the next hello says what has arrived."""
        ann = synced(office)
        ann.execute(DRIVE.format(3))
        request = ann.file.upload_request()
        assert request
        office.wait(office.service.upload(ann.identity, request))
        ann.restart()
        ann.sync()
        assert driven(office) == 3
        assert ann.file.pending() == 0
        assert len(devices(office)) == 1

    # ------------------------------------------------------------ restored
    def test_a_phone_restored_in_the_middle_of_a_long_session_loses_nothing_it_wrote_since(
        self, office: Office
    ) -> None:
        """P3, P5: the copy has the newest nonce, and its next numbers were used by what it does not know of."""
        ann = synced(office)
        ann.hello()
        backup = ann.copy()
        ann.execute(DRIVE.format(10))
        work_on(ann)
        ann.restart(backup)
        ann.execute(DRIVE.format(100))
        ann.execute("INSERT INTO notes VALUES('after', 'v-ada', 'after the restore')")
        settle(ann)
        assert driven(office) == 110
        assert bodies(office) == ["after the restore", "sleeps well"]
        assert ann.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(110.0,)]
        assert len(devices(office)) == 2

    def test_a_phone_restored_with_work_that_had_arrived_since_is_told_that_it_is_a_duplicate(
        self, office: Office, dialect: Dialect
    ) -> None:
        """P5: the backup holds changes that the office has; the office answers them by their ids."""
        ann = synced(office)
        ann.execute(DRIVE.format(1))
        ann.execute("INSERT INTO notes VALUES('n1', 'v-ada', 'once')")
        ann.hello()
        backup = ann.copy()
        work_on(ann)
        ann.execute(DRIVE.format(10))
        work_on(ann)
        ann.restart(backup)
        ann.execute(DRIVE.format(100))
        settle(ann)
        assert driven(office) == 111
        assert bodies(office) == ["once", "sleeps well"]
        assert ann.rejections() == []
        outcomes = dialect.own_table("outcome")
        kinds = office.execute(f"SELECT kind, count(*) FROM {outcomes} GROUP BY kind ORDER BY kind")
        assert dict(kinds)["duplicate"] == 2

    def test_a_restored_phone_whose_upload_of_old_work_goes_unanswered_offers_it_again(self, office: Office) -> None:
        """P2: the last number that the office has of it is a duplicate's, of which no id is kept."""
        ann = synced(office)
        ann.execute(DRIVE.format(1))
        ann.hello()
        backup = ann.copy()
        work_on(ann)
        ann.execute(DRIVE.format(10))
        work_on(ann)
        ann.restart(backup)
        with pytest.raises(CopiedFileError):
            ann.hello()
        assert ann.hello() == "new"
        assert ann.upload()
        ann.file.offer_again()
        ann.execute(DRIVE.format(100))
        settle(ann)
        assert driven(office) == 111
        assert ann.file.pending() == 0

    def test_a_phone_restored_to_before_work_that_it_no_longer_knows_gives_no_number_twice(
        self, office: Office
    ) -> None:
        """P5: nothing waits in the backup, so only the office knows that the numbers are used."""
        ann = synced(office)
        ann.hello()
        backup = ann.copy()
        for kilometres in (1, 2, 4):
            ann.execute(DRIVE.format(kilometres))
        work_on(ann)
        ann.restart(backup)
        settle(ann)
        ann.execute(DRIVE.format(8))
        settle(ann)
        assert driven(office) == 15
        assert ann.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(15.0,)]

    # ------------------------------------------------------------ copied
    def test_two_phones_from_one_copied_file_both_deliver_everything_once_under_two_ids(self, office: Office) -> None:
        """P3, P5: both write before and after; what both had before the copy counts once."""
        ann = synced(office)
        ann.execute(DRIVE.format(1))
        twin = office.phone("ann")
        twin.restart(ann.copy())
        ann.execute(DRIVE.format(10))
        twin.execute(DRIVE.format(100))
        settle(ann, twin)
        ann.execute(DRIVE.format(1000))
        twin.execute(DRIVE.format(10000))
        settle(twin, ann)
        assert driven(office) == 11111
        for phone in (ann, twin):
            assert phone.execute("SELECT kilometres FROM visits WHERE id = 'v-ada'") == [(11111.0,)]
            assert phone.rejections() == []
        names = {phone.file.state().device for phone in (ann, twin)}
        assert len(names) == 2
        copied = [each for each in office.wait(office.source.devices()) if each["replaces"]]
        assert {each["device"] for each in copied} & names, "the office sees which device came of which"

    @pytest.mark.parametrize("first", ["original", "copy"])
    def test_a_copy_does_not_take_the_other_ones_upload_for_its_own(self, office: Office, first: str) -> None:
        """P3: both are in the middle of one session, use the same number, and neither says hello."""
        ann = synced(office)
        ann.hello()
        twin = office.phone("ann")
        twin.restart(ann.copy())
        ann.execute("INSERT INTO notes VALUES('a', 'v-ada', 'by the original')")
        twin.execute("INSERT INTO notes VALUES('t', 'v-ada', 'by the copy')")
        early, late = (ann, twin) if first == "original" else (twin, ann)
        work_on(early)
        with pytest.raises(CopiedFileError):
            late.download()  # the cut includes its number, and means the other one's change
        assert late.file.pending() == 1
        with pytest.raises(AuthError) as refused:
            late.upload()
        assert refused.value.error_code == "device_cloned"
        settle(ann, twin)
        assert bodies(office) == ["by the copy", "by the original", "sleeps well"]

    def test_a_copy_that_has_sent_more_shared_work_does_not_hide_what_the_other_wrote_after_it(
        self, office: Office
    ) -> None:
        """P5: one upload begins with changes that both made, and ends with one that only this phone made."""
        ann = synced(office)
        for number in range(3):
            ann.execute(f"INSERT INTO notes VALUES('s{number}', 'v-ada', 'shared {number}')")
        twin = office.phone("ann")
        twin.restart(ann.copy())
        twin.execute("INSERT INTO notes VALUES('t', 'v-ada', 'by the copy')")
        ann.execute("INSERT INTO notes VALUES('a', 'v-ada', 'by the original')")
        ann.hello()
        offered = ann.file.upload_request()
        twin.hello()
        work_on(twin)
        with pytest.raises(AuthError) as refused:
            office.wait(office.service.upload(ann.identity, offered or {}))
        assert refused.value.error_code == "device_cloned"
        settle(ann, twin)
        assert bodies(office) == ["by the copy", "by the original", "shared 0", "shared 1", "shared 2", "sleeps well"]

    # ------------------------------------------------------------ another user, another installation
    def test_a_colleague_who_signs_in_on_the_nurses_phone_gets_nothing_and_sends_nothing(self, office: Office) -> None:
        """P8: for every call; and what the nurse had pending still reaches the office as hers."""
        ann = synced(office)
        ann.execute(DRIVE.format(5))
        hers, ann.identity = ann.identity, type(ann.identity)("ben", {"sub": "ben"})
        for call in (ann.hello, ann.upload, ann.download):
            with pytest.raises(AuthError) as refused:
                call()
            assert refused.value.error_code == "other_user"
        assert driven(office) == 0
        ann.identity = hers
        ann.sync()
        assert driven(office) == 5

    def test_a_reinstalled_app_is_a_new_device_with_the_same_rows(self, office: Office) -> None:
        """What had arrived before is not repeated; the old device stays in the office's list."""
        ann = synced(office)
        ann.execute(DRIVE.format(7))
        ann.sync()
        held = ann.execute("SELECT id FROM patients ORDER BY id")
        ann.restart(b"")
        ann.sync()
        assert ann.execute("SELECT id FROM patients ORDER BY id") == held
        ann.execute(DRIVE.format(70))
        ann.sync()
        assert driven(office) == 77
        assert len(devices(office)) == 2
        assert office.wait(office.source.rejections(RecordFilter())) == []
