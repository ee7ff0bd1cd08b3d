"""The token of a paged download names keys that its device may not see: it is sealed with a key of the source's."""

from __future__ import annotations

import json

from syncline.server.seal import Seal
from syncline.testing.contract_downloads import Clinic

FOREIGN = tuple(f"v{number}" for number in (12, 13, 14, 16, 17, 18, 21, 22, 24))
"""Visits of patients that Ben does not have."""


class SealContract:
    """Give the fixture `clinic`, as `DownloadContract` does."""

    def test_no_frame_names_a_key_that_is_not_granted(self, clinic: Clinic) -> None:
        """P8: a page ends at whichever row was looked at last, and that may be of nobody's whom the device has."""
        ben = clinic.device("ben")
        ben.catch_up()
        clinic.happen("UPDATE visits SET n = n + 1")
        ben.catch_up()
        clinic.agrees(ben, "ben")
        sent = json.dumps(ben.seen, ensure_ascii=False)
        assert '"v11"' in sent and [key for key in FOREIGN if key in sent] == []
        seal = Seal(clinic.company.wait(clinic.source.seal_key()))
        places = "".join(seal.open(frame["token"]) or "" for frame in ben.progress)
        assert any(key in places for key in FOREIGN), "else there was nothing to hide"

    def test_a_changed_token_begins_the_download_anew(self, clinic: Clinic) -> None:
        ann = clinic.device()
        ann.ask()
        assert ann.ask()[0]["stage"] == "resume"
        assert ann.staged
        token = ann.staged.token
        ann.staged.token = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
        assert ann.ask()[0]["stage"] == "new"
        ann.catch_up()
        clinic.agrees(ann)

    def test_a_token_of_another_source_begins_the_download_anew(self, clinic: Clinic) -> None:
        ann = clinic.device()
        ann.ask()
        assert ann.staged
        opened = Seal(clinic.company.wait(clinic.source.seal_key())).open(ann.staged.token)
        ann.staged.token = Seal(bytes(64)).close(opened or "")
        assert ann.ask()[0]["stage"] == "new"

    def test_all_processes_of_a_source_have_one_key_that_stays(self, clinic: Clinic) -> None:
        company = clinic.company
        key = company.wait(clinic.source.seal_key())
        assert len(key) == 64 and key != bytes(64)
        assert company.wait(company.lab.open().seal_key()) == key
        company.wait(clinic.source.provision(company.plan))
        assert company.wait(clinic.source.seal_key()) == key
