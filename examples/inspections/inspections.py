"""The app of the inspectors: what is due, and what was found. It knows a file, and nothing of networks."""

from __future__ import annotations

from contextlib import closing

from syncline import Replica


class Inspections:
    """What the app's screens show and do."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def due(self) -> list[tuple[str, str]]:
        """(inspection, address), the next first."""
        with closing(self._replica.connect()) as db:
            return db.execute(
                "SELECT i.id, l.address FROM inspections i JOIN lifts l ON l.id = i.lift_id "
                "WHERE i.result IS NULL ORDER BY i.due"
            ).fetchall()

    def finish(self, inspection: str, result: str, *, remark: str = "", minutes: int = 0) -> None:
        with self._replica.transaction() as db:
            db.execute(
                "UPDATE inspections SET result = ?, remark = ?, minutes = minutes + ? WHERE id = ?",
                (result, remark, minutes, inspection),
            )

    def complaints(self) -> list[str]:
        """What the office refused, for the inspector to put right."""
        return [f"{each['key']['id']}: {each['reason']}" for each in self._replica.rejections()]
