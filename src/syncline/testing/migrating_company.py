"""The home-care company that changes its schema while a sequencer runs, and the phones of its nurses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from syncline.errors import SchemaChangedError, SynclineError
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig
from syncline.server.service import Service
from syncline.source.port import Checkpoint
from syncline.testing.bench import Phone
from syncline.testing.contract_lab import Company, SourceLab
from syncline.testing.plans import plan_for

TABLES = (
    "CREATE TABLE patients(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80), ssn VARCHAR(20))",
    "CREATE TABLE visits(id VARCHAR(20) PRIMARY KEY, patient_id VARCHAR(20) REFERENCES patients(id), "
    "status VARCHAR(20), summary VARCHAR(80))",
    "CREATE TABLE notes(id VARCHAR(20) PRIMARY KEY, visit_id VARCHAR(20) REFERENCES visits(id), body VARCHAR(80))",
    "CREATE TABLE medications(id VARCHAR(20) PRIMARY KEY, name VARCHAR(80))",
    "CREATE TABLE assignments(caregiver VARCHAR(20), patient_id VARCHAR(20), remark VARCHAR(20))",
    "CREATE INDEX by_patient ON visits(patient_id)",
    "CREATE INDEX by_visit ON notes(visit_id)",
    "INSERT INTO patients VALUES('ada', 'Ada', '1'), ('bo', 'Bo', '2'), ('cy', 'Cy', '3')",
    "INSERT INTO visits VALUES('v-ada', 'ada', 'planned', 'a'), ('v-bo', 'bo', 'planned', 'b'), "
    "('v-cy', 'cy', 'planned', 'c')",
    "INSERT INTO notes VALUES('n-ada', 'v-ada', 'sleeps well'), ('n-cy', 'v-cy', 'canary-of-cy')",
    "INSERT INTO medications VALUES('m1', 'Aspirin')",
    "INSERT INTO assignments VALUES('ann', 'ada', ''), ('ann', 'bo', ''), ('ben', 'cy', '')",
)
ASSIGNED = "SELECT patient_id FROM assignments WHERE caregiver = 'ann'"
ANNS = {
    "patients": f"id IN ({ASSIGNED})",
    "visits": f"patient_id IN ({ASSIGNED})",
    "notes": f"visit_id IN (SELECT id FROM visits WHERE patient_id IN ({ASSIGNED}))",
    "medications": "1 = 1",
}
CASELOAD = ScopeConfig(
    "caseload",
    {
        "visits": TableConfig((LinkConfig(parent="patients"),), where="status <> 'hidden'"),
        "notes": TableConfig((LinkConfig(parent="visits", on={"visit_id": "id"}),)),
    },
    root="patients",
    grant="SELECT patient_id FROM assignments WHERE caregiver = :sub",
)
CONFIG = PlanConfig(
    (CASELOAD, ScopeConfig("formulary", {"medications": TableConfig()}, read_only=True)), hide={"patients": ("ssn",)}
)


class MigratingCompany(Company):
    """One whose sequencer makes its plan anew when the schema has changed, as the service's loop does."""

    def __init__(self, lab: SourceLab, config: PlanConfig = CONFIG) -> None:
        super().__init__(lab, TABLES, config)
        self.config = config
        self.service = Service(
            self.source, self.plan, self.clock, wait_for_marker=self._pass_marker, load_plan=self._load_plan
        )
        self.frames: list[dict[str, Any]] = []
        self._term = "term-1"

    async def _load_plan(self) -> Any:
        self.plan = await plan_for(self.source, self.config)
        return self.plan

    def checkpoint(self) -> Checkpoint | None:
        """One more attempt where the schema has changed."""
        try:
            return self.take_checkpoint()
        except SchemaChangedError:
            self.wait(self.service.replan())
            return self.take_checkpoint()

    def take_checkpoint(self) -> Checkpoint | None:
        return self.wait(self.source.take_checkpoint(self._term))

    def agrees(self, phone: Phone, wanted: Mapping[str, str] | None = None, **more: str) -> None:
        """Once the sequencer has noticed what the company did; until then a phone is asked to come again."""
        self.checkpoint()
        super().agrees(phone, wanted, **more)

    def waits(self) -> None:
        """The schema fits nothing: no checkpoint is taken, and the plan cannot be made anew."""
        with pytest.raises(SynclineError):
            self.checkpoint()

    def restart(self) -> None:
        """The server ends, and another process serves the same configuration."""
        self.wait(self.source.end_term(self._term))
        self.wait(self.source.close())
        self.source = self.lab.open()
        self.wait(self._load_plan())
        self.service = Service(
            self.source, self.plan, self.clock, wait_for_marker=self._pass_marker, load_plan=self._load_plan
        )
        try:
            self.wait(self.source.attach(self.plan))
        except SchemaChangedError:
            self.wait(self.service.replan())
        self._term = f"{self._term}+"
        assert self.wait(self.source.begin_term(self._term))
        for phone in self._phones:
            phone.office = self

    async def _pass_marker(self) -> None:
        await self.source.put_marker()
        await self.source.take_checkpoint(self._term)

    def phone(self, user: str) -> Phone:
        """All frames that it gets are kept in `frames`."""
        phone = super().phone(user)
        receive = phone.file.receive

        def listen(frame: dict[str, Any]) -> Any:
            self.frames.append(frame)
            return receive(frame)

        phone.file.receive = listen  # type: ignore[method-assign]
        return phone

    def said(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["t"] == kind]

    def nothing_was_taken_away(self) -> None:
        """No frame removed a row, dropped a bucket, or began anew; only `replaced` tables came whole."""
        assert [*self.said("remove"), *self.said("drop_bucket")] == []
        assert not any(frame["reset"] for frame in self.said("begin"))

    def replaced(self) -> set[str]:
        return {frame["table"] for frame in self.said("replace")}
