"""What becomes of one mutation: authorised before and after, merged column by column, written, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from syncline.errors import Reject
from syncline.model import merge
from syncline.model.merge import Change, Stamp
from syncline.model.new_keys import is_new_key
from syncline.model.scopes import Plan, SyncedTable, bucket_scope
from syncline.protocol.messages import Mutation, are_halves
from syncline.server.parents import Parents
from syncline.source.port import Claims, ConflictRecord, DeviceRow, RowRead, SourceRefusedError, WriteTransaction
from syncline.values import Key, Value, same

_NEVER = Stamp(-(2**63))
"""Before every edit."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind`: applied, merged, rejected or duplicate; `code` tells gone and reborn among the merged."""

    kind: str
    code: str = ""
    reason: str = ""
    conflicts: tuple[ConflictRecord, ...] = ()


def _outside() -> Reject:
    said = "The row would not be, or would no longer be, among those you may change. "
    return Reject("scope", said + "The office has kept what you wrote.")


class GroupScopeError(Exception):
    """A marked group would leave a row outside the write scope: that of its mutation number `index`."""

    def __init__(self, index: int, refusal: Reject) -> None:
        super().__init__(refusal.reason)
        self.index = index
        self.refusal = refusal


@dataclass
class _Group:
    """`since`: its first stamp; `before`: what held its rows before it; `written`: the rows that it wrote, and by which
    mutation first; `doubtful`: the tables where one may have got another key, and which mutation wrote it."""

    since: Stamp
    before: dict[tuple[str, Key], frozenset[str]] = field(default_factory=dict)
    written: dict[tuple[str, Key], int] = field(default_factory=dict)
    doubtful: dict[str, int] = field(default_factory=dict)


class Judge:
    """Judges mutations inside one write transaction."""

    def __init__(self, tx: WriteTransaction, plan: Plan, claims: Claims, device: DeviceRow, horizon_us: int) -> None:
        self._tx = tx
        self._plan = plan
        self._claims = claims
        self._device = device
        self._horizon = Stamp(horizon_us)
        self._granted: frozenset[str] | None = None
        self._write_scopes: dict[str, frozenset[str]] = {}
        self._parents = Parents(plan)
        self._known: Mapping[bytes, str] = {}
        self._group: _Group | None = None
        self.place = 0
        """Of the mutation that is judged next in its group."""
        self.respelled: frozenset[int] = frozenset()
        """Numbers of mutations whose values the source would give back in other words than the device's."""
        self._grant_tables = frozenset(table for tables in plan.grant_reads.values() for table in tables)

    def forget_grants(self) -> None:
        """What they read may have changed, or been rolled back."""
        self._granted = None
        self._write_scopes.clear()

    async def look_up(self, ids: Iterable[bytes]) -> None:
        """Before mutations with these ids are judged: which of them were applied before."""
        self._known = await self._tx.known_ids(ids)

    # ------------------------------------------------------------ a marked group
    async def begin_group(self, mutations: Sequence[Mutation], since: Stamp) -> None:
        """Scope is judged for the group as a whole: by what held its rows before it, and what holds them after it."""
        group = _Group(since)
        for mutation in mutations:
            place = (mutation.table, mutation.key)
            table = self._plan.tables.get(mutation.table)
            if table is None or place in group.before or (mutation.operation == "I" and table.keys != "natural"):
                continue
            if mutation.key_columns == table.key:
                group.before[place] = await self._tx.buckets_of(mutation.table, mutation.key)
        self._group = group

    async def end_group(self) -> None:
        """GroupScopeError with the place of the first change whose row is outside the write scope in the end."""
        group, self._group = self._group or _Group(Stamp(0)), None
        for (name, key), index in group.written.items():
            try:
                await self._check_scope_after(self._plan.tables[name], key, group.before.get((name, key), ()))
            except Reject as refusal:
                row = await self._tx.read_row(name, key)
                if row.values is not None:
                    raise GroupScopeError(index, refusal) from refusal
                group.doubtful.setdefault(name, index)  # deleted; or a rule or a cascade gave it another key
        for name, index in group.doubtful.items():
            if any((name, key) not in group.written for key in await self._tx.made_since(name, group.since)):
                raise GroupScopeError(index, _outside())

    def leave_group(self) -> None:
        """It was given up."""
        self._group = None

    async def judge_next(self, stamped: Sequence[tuple[Mutation, Stamp]]) -> list[Verdict]:
        """Judges the first mutation, or the first two where they are the halves of a changed key."""
        (first, stamp), second = stamped[0], stamped[1][0] if len(stamped) > 1 else None
        if (
            second is not None
            and are_halves(first, second)
            and first.id not in self._known
            and second.id not in self._known
        ):
            table = self._table(first)
            self._table(second)
            row = await self._tx.read_row(table.name, first.key)
            if await self._may_see(table, first.key, row) and not (row.born and row.born > stamp):
                return [Verdict("applied"), await self._rename(table, first, second, stamped[1][1], row)]
        return [await self.judge(first, stamp)]

    async def judge(self, mutation: Mutation, stamp: Stamp) -> Verdict:
        """Reject or SourceRefusedError where it is refused; the caller rolls back."""
        if mutation.id in self._known:
            await self._tx.touch(mutation.table, mutation.key)
            return Verdict("duplicate")
        table = self._table(mutation)
        await self._refuse_dependent(table, mutation)
        row = await self._tx.read_row(table.name, mutation.key)
        if mutation.operation == "I":
            return await self._insert(table, mutation, stamp, row)
        if mutation.operation == "D":
            return await self._delete(table, mutation, stamp, row)
        return await self._update(table, mutation, stamp, row)

    # ------------------------------------------------------------ may it at all
    def _table(self, mutation: Mutation) -> SyncedTable:
        table = self._plan.tables.get(mutation.table)
        if table is None:
            raise Reject("unknown_table", "This table does not sync.")
        if mutation.key_columns != table.key:
            was, now = ", ".join(mutation.key_columns), ", ".join(table.key)
            raise Reject("column", f'The key of "{table.name}" has changed: it was ({was}) and is ({now}) now.')
        if None in mutation.key:
            raise Reject("invalid", "The key is not complete.")
        if not any(table.name in scope.writable for scope in self._plan.scopes.values()):
            raise Reject("read_only", f'"{table.name}" can only be changed by the office.')
        for column in mutation.changes:
            if column not in table.columns:
                raise Reject("column", "A column is not writable, or not there.")
            if column in table.generated and mutation.operation == "U":
                raise Reject("column", f'"{column}" is computed by the database and cannot be written.')
        return table

    async def _refuse_dependent(self, table: SyncedTable, mutation: Mutation) -> None:
        """A change that stands on an own refused insert would hit somebody else's row."""
        reason = "It stands on a row of yours that was refused."
        if mutation.insert and await self._tx.rejected_insert(
            self._device.device, table.name, mutation.key, mutation.insert - 1
        ):
            raise Reject("depends", reason)
        if mutation.operation == "D":
            return
        for parent, key in self._parents.named(table, mutation):
            if await self._tx.rejected_insert(self._device.device, parent, key, mutation.included):
                raise Reject("depends", reason)

    async def blame_parent(
        self, mutation: Mutation, group: Iterable[Mutation], refusal: Reject | SourceRefusedError
    ) -> Reject | SourceRefusedError:
        """A parent that is not there is answered like one outside the scope, or guessed keys of parents could be told
        apart. After the rollback. What the `group` makes itself is nobody's secret."""
        table = self._plan.tables.get(mutation.table)
        if not isinstance(refusal, SourceRefusedError) or refusal.code != "foreign_key" or table is None:
            return refusal
        named = self._parents.named_by_paths(table, mutation)
        made = {(each.table, each.key) for each in group if each.operation == "I"}
        for parent, key in named:
            if (parent, key) in made or await self._tx.buckets_of(parent, key) & await self._write_scope(table):
                return refusal
        return _outside() if named else refusal

    async def _write_scope(self, table: SyncedTable) -> frozenset[str]:
        if self._granted is not None and await self._tx.grants_moved():
            self.forget_grants()  # a rule of the company's did it
        if self._granted is None:
            self._granted = await self._tx.granted(self._claims)
        if table.name not in self._write_scopes:
            self._write_scopes[table.name] = frozenset(
                bucket for bucket in self._granted if self._plan.is_writable(bucket_scope(bucket), table.name)
            )
        return self._write_scopes[table.name]

    async def _may_see(self, table: SyncedTable, key: Key, row: RowRead) -> bool:
        """Whether the row is inside the write scope. One that the user may read and not write is refused as such."""
        scope = await self._write_scope(table)  # also for a row that is not there: the time taken must not tell
        if row.values is None:
            return False
        buckets = row.buckets
        if self._group:
            if (table.name, key) in self._group.written:
                return True
            buckets = self._group.before.get((table.name, key), buckets)
        if buckets & scope:
            return True
        if self._granted is not None and buckets & self._granted:
            raise Reject("read_only", "This row can only be changed by the office.")
        return False

    async def _write(
        self,
        table: SyncedTable,
        mutation: Mutation,
        values: dict[str, Value],
        stamp: Stamp,
        before: frozenset[str],
        operation: str,
    ) -> bool:
        changed = await self._tx.write_row(table.name, mutation.key, operation, values, stamp)
        if table.name in self._grant_tables:
            self.forget_grants()
        if changed and self._group and operation != "D":
            first = self._group.written.setdefault((table.name, mutation.key), self.place)
            if operation == "I" and first != self.place:
                self._group.doubtful.setdefault(table.name, first)
        elif changed and operation != "D":
            await self._check_scope_after(table, mutation.key, before)
        return changed

    async def _check_scope_after(self, table: SyncedTable, key: Key, before: Iterable[str]) -> None:
        """`before`: the buckets that held the row; none for a new one."""
        after = await self._tx.buckets_of(table.name, key)
        may_leave = any(self._plan.scopes[bucket_scope(bucket)].own_edit_may_leave for bucket in before)
        if not may_leave and not after & await self._write_scope(table):
            raise _outside()

    # ------------------------------------------------------------ the three operations
    async def _insert(self, table: SyncedTable, mutation: Mutation, stamp: Stamp, row: RowRead) -> Verdict:
        self._refuse_generated_key(table, mutation)
        if row.values is not None:
            if table.keys == "natural" and await self._may_see(table, mutation.key, row):
                return await self._update(table, mutation, stamp, row)
            raise Reject("key_exists", "This key is taken.")
        if row.died and row.died > stamp:
            return await self._gone(table, mutation, row)
        values: dict[str, Value] = {
            column: new
            for column, (new, _) in mutation.changes.items()
            if column not in table.generated and column not in table.key and table.policy(column) != "server"
        }
        written = await self._write(table, mutation, values, stamp, frozenset(), "I")
        return await self._finish(table, mutation, written)

    @staticmethod
    def _refuse_generated_key(table: SyncedTable, mutation: Mutation) -> None:
        if table.keys != "natural" and table.table.generated_key and not is_new_key(mutation.key):
            raise Reject(
                "generated_key",
                f'The office\'s database makes up the keys of "{table.name}"; the app has to ask for one (new_key).',
            )

    async def _rename(
        self, table: SyncedTable, left: Mutation, arrived: Mutation, stamp: Stamp, row: RowRead
    ) -> Verdict:
        """A changed key, done as one update: hidden columns, what hangs on the row, and what others changed stay."""
        await self._refuse_dependent(table, arrived)
        self._refuse_generated_key(table, arrived)
        taken = arrived.key != left.key and (await self._tx.read_row(table.name, arrived.key)).values is not None
        if taken:
            raise Reject("key_exists", "This key is taken.")
        changes = {
            column: (new, left.changes[column][1])
            for column, (new, _) in arrived.changes.items()
            if column in left.changes and not self._tx.same(table.name, column, new, left.changes[column][1])
        }
        sets, raised, conflicts = self._merge(table, changes, stamp, row, seen=True)
        renamed: dict[str, Value] = {**dict(zip(table.key, arrived.key, strict=True)), **sets}
        changed = await self._tx.write_row(table.name, left.key, "U", renamed, stamp)
        if table.name in self._grant_tables:
            self.forget_grants()
        if changed and self._group:
            self._group.before.setdefault((table.name, arrived.key), row.buckets)
            self._group.written.setdefault((table.name, arrived.key), self.place)
        elif changed:
            await self._check_scope_after(table, arrived.key, row.buckets)
        for since, columns in raised.items():
            await self._tx.touch(table.name, arrived.key, columns, since)
        await self._tx.touch(table.name, left.key)
        return await self._finish(table, arrived, changed, tuple(conflicts))

    async def _delete(self, table: SyncedTable, mutation: Mutation, stamp: Stamp, row: RowRead) -> Verdict:
        if not await self._may_see(table, mutation.key, row) or row.values is None:
            await self._tx.touch(table.name, mutation.key)
            return Verdict("merged", "gone")
        if row.born and row.born > stamp:
            await self._tx.touch(table.name, mutation.key)
            kept = ConflictRecord("", "reborn", "latest", None, None, None, row.values)
            return Verdict("merged", "reborn", "It was made again after you deleted it.", (kept,))
        unseen = [
            column
            for column, (_, was) in mutation.changes.items()
            if column in row.values
            and table.policy(column) not in ("add", "server")
            and not self._tx.same(table.name, column, row.values[column], was)
            and row.stamps.get(column, self._horizon).writer != stamp.writer
        ]
        conflicts = (ConflictRecord("", "delete", "delete_wins", None, None, None, row.values),) if unseen else ()
        written = await self._write(table, mutation, {}, stamp, row.buckets, "D")
        return await self._finish(table, mutation, written, conflicts)

    async def _update(self, table: SyncedTable, mutation: Mutation, stamp: Stamp, row: RowRead) -> Verdict:
        """Also an insert, where a natural key has met a row: of that the device has seen nothing."""
        if not await self._may_see(table, mutation.key, row) or row.values is None:
            return await self._gone(table, mutation, row)
        sets, raised, conflicts = self._merge(table, mutation.changes, stamp, row, seen=mutation.operation == "U")
        written = await self._write(table, mutation, sets, stamp, row.buckets, "U") if sets else True
        for since, columns in raised.items():
            await self._tx.touch(table.name, mutation.key, columns, since)
        exact = all(conflict.kind != "lost" for conflict in conflicts)
        spelled = sets or self._is_spelled_alike(table, mutation, row)
        if not sets and not (exact and spelled):
            await self._tx.touch(table.name, mutation.key)
        if not spelled and not conflicts:
            return Verdict("merged", "respelled", "The row held the same, in other words.")
        return await self._finish(table, mutation, written, tuple(conflicts))

    def _is_spelled_alike(self, table: SyncedTable, mutation: Mutation, row: RowRead) -> bool:
        """Whether what the device holds is what the row holds, to the letter, if nothing is written. Otherwise it has
        to be told."""
        if mutation.number in self.respelled:
            return False
        values = row.values or {}
        return not any(
            column in values
            and not same(new, values[column])
            and self._tx.same(table.name, column, new, values[column])
            for column, (new, _) in mutation.changes.items()
        )

    def _merge(
        self, table: SyncedTable, changes: Mapping[str, tuple[Value, Value]], stamp: Stamp, row: RowRead, *, seen: bool
    ) -> tuple[dict[str, Value], dict[Stamp, list[str]], list[ConflictRecord]]:
        """(columns to write, columns whose stamp alone rises, and to what, conflicts) of an update of a living row.
        `seen`: the device knew the row."""
        assert row.values is not None
        sets: dict[str, Value] = {}
        raised: dict[Stamp, list[str]] = {}
        conflicts: list[ConflictRecord] = []
        for column, (new, was) in changes.items():
            if column in table.key or column in table.generated:
                continue
            server = row.values[column]
            new, was = (server if self._tx.same(table.name, column, value, server) else value for value in (new, was))
            entry = merge.policy(table.policy(column))
            # No stamp: nobody has changed it within the retention (decision 33).
            unknown = _NEVER if seen and same(server, was) else self._horizon
            server_stamp = row.stamps.get(column, unknown)
            merged = entry.decide(Change(was=was, server=server, new=new, stamp=stamp, server_stamp=server_stamp))
            if not same(merged.value, server) or entry.rebase == "add":
                sets[column] = merged.value
            elif merged.raise_stamp:
                raised.setdefault(stamp if column in row.stamps else max(stamp, unknown), []).append(column)
            if merged.loser:
                kind = "won" if merged.loser == "server" else "lost"
                conflicts.append(ConflictRecord(column, kind, entry.name, was, server, new))
        return sets, raised, conflicts

    async def _finish(
        self, table: SyncedTable, mutation: Mutation, written: bool, conflicts: tuple[ConflictRecord, ...] = ()
    ) -> Verdict:
        if not written:  # a trigger of the company's swallowed it
            await self._tx.touch(table.name, mutation.key)
            return Verdict("merged", "ignored", "The database left the row as it is.", conflicts)
        return Verdict("merged" if conflicts else "applied", conflicts=conflicts)

    async def _gone(self, table: SyncedTable, mutation: Mutation, row: RowRead) -> Verdict:
        """Deleted, or outside the scope: the two answer alike. What the device wrote is kept for the office."""
        await self._tx.touch(table.name, mutation.key)
        conflicts = tuple(
            ConflictRecord(column, "gone", "delete_wins", was, None, new)
            for column, (new, was) in mutation.changes.items()
            if column not in table.key
        )
        return Verdict("merged", "gone", "The row is no longer there.", conflicts)
