"""What a verification found, and somebody who waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from syncline.replica.goal import Goal


@dataclass(frozen=True, slots=True)
class TableDifference:
    """A table of a bucket that is not on the device as it is in the source. `bucket` None: rows that no bucket holds,
    and that should not be there. `repaired`: it was sent anew, and is the same since."""

    table: str
    bucket: str | None
    rows_here: int
    rows_there: int
    repaired: bool = False

    def in_words(self) -> str:
        """`visits of caseload["ada"]: 3 rows here, 4 in the source`."""
        where = self.bucket if self.bucket is not None else "no bucket"
        here = f"{self.rows_here:,} row{'s' * (self.rows_here != 1)}"
        if self.rows_here == self.rows_there:
            return f"{self.table} of {where}: {here} here and in the source, with other values"
        return f"{self.table} of {where}: {here} here, {self.rows_there:,} in the source"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """`tables` and `rows` that were compared; `pending`: rows left out, for they have changes that the server does not
    know yet; `changed`: tables of buckets that changed in the source meanwhile, of which nothing is said;
    `not_compared`: tables of which nothing could be said at all."""

    tables: int
    rows: int
    pending: int
    changed: int
    not_compared: tuple[str, ...]
    differences: tuple[TableDifference, ...]

    @property
    def repaired(self) -> int:
        return sum(each.repaired for each in self.differences)

    @property
    def is_whole(self) -> bool:
        """Nothing differs, or not any more."""
        return all(each.repaired for each in self.differences)


@dataclass
class VerifyGoal(Goal):
    """`repair`: what differs is to be sent anew."""

    repair: bool = False
    verified: VerifyReport | None = None

    @property
    def is_fulfilled(self) -> bool:
        return self.verified is not None
