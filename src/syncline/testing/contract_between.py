"""States that were so only between two checkpoints, and that a page of a download has seen all the same."""

from __future__ import annotations

from syncline.testing.contract_downloads import Clinic, DownloadContract


class BetweenContract(DownloadContract):
    """Give the fixture `lab`."""

    def test_a_row_that_was_in_a_bucket_only_between_two_checkpoints_leaves_those_who_read_it(
        self, clinic: Clinic
    ) -> None:
        """P1, P8: a note is written into Ann's visit, a page of hers is read, and the visit moves to somebody else's
        patient, all before the next checkpoint: whichever page it is."""
        answers = clinic.device().catch_up()
        for at in range(1, answers):
            nurse = clinic.device()
            for _ in range(at):
                nurse.ask()
            note = 1000 + at
            clinic.happen(f"INSERT INTO notes VALUES('v12', {note}, 'between')", checkpoint=False)
            while nurse.staged and not _has_read(nurse.seen, note):
                nurse.ask()
            clinic.happen("UPDATE visits SET patient_id = 'p4' WHERE id = 'v12'", checkpoint=False)
            nurse.catch_up()
            clinic.company.checkpoint()
            nurse.catch_up()
            clinic.agrees(nurse)
            clinic.happen("UPDATE visits SET patient_id = 'p1' WHERE id = 'v12'")


def _has_read(frames: list[dict[str, object]], note: int) -> bool:
    return any(str(note) in str(frame) for frame in frames)
