"""What one checkpoint changed, read once for all connected devices instead of once for each."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from syncline.errors import AuthError
from syncline.model.scopes import Scope
from syncline.source.entries import group_entries
from syncline.source.port import Claims, Delta, Entries
from syncline.source.postgres.claims import Bound, ask, grant_of
from syncline.source.postgres.feed import ALL_ROWS, NEW_ENTRIES, FeedReader

_NEW_ROWS = """
SELECT bucket, count(*) FROM (
  SELECT bucket FROM syncline.entry WHERE checkpoint > $1 ORDER BY checkpoint OFFSET 0) AS e GROUP BY bucket
"""
_NEWLY_INCLUDED = """
SELECT i.device, i.number, o.id FROM syncline.included i
LEFT JOIN syncline.outcome o ON o.device = i.device AND o.number = i.number WHERE i.checkpoint > $1
"""
_SPOKEN = """
SELECT c.device FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS c(device, after, upto) WHERE EXISTS (
  SELECT FROM syncline.outcome o WHERE o.device = c.device AND o.number > c.after AND o.number <= c.upto
  AND (o.kind <> 'applied' OR o.conflicts IS NOT NULL))
"""
_TOUCHED = "SELECT table_name FROM syncline.grant_touch WHERE checkpoint > $1"


class DeltaReader(FeedReader):
    async def read(
        self,
        cursor: tuple[str, int],
        wanted: Container[str],
        connected: Mapping[str, int],
        users: Sequence[Claims],
        rows_max: int,
    ) -> Delta:
        standing = await self._standing([cursor])
        after = cursor[1]
        if not standing.knows or standing.generation > after:
            return Delta(standing.head, valid=False)
        told = {scope.name: await self._granted_to(scope, users) for scope in await self._touched_scopes(after)}
        await self._by_index()
        rows = dict(await self._db.fetch(_NEW_ROWS, after))
        held = [bucket for bucket in rows if bucket in wanted]
        large = frozenset(bucket for bucket in held if rows[bucket] > rows_max)
        included = await self._newly_included(after, connected)
        return Delta(
            head=standing.head,
            rows=rows,
            entries=await self._new_entries([bucket for bucket in held if bucket not in large], after),
            large=large,
            included=included,
            spoken=await self._spoken(included, connected),
            granted=told,
        )

    async def _new_entries(self, buckets: Sequence[str], after: int) -> tuple[Entries, ...]:
        if not buckets:
            return ()
        found = await self._db.fetch(NEW_ENTRIES, buckets, after, ALL_ROWS, ALL_ROWS)
        return tuple(group_entries([tuple(row)[:6] for row in found], self._sql.tables))

    async def _newly_included(self, after: int, connected: Mapping[str, int]) -> dict[str, tuple[int, bytes | None]]:
        rows = await self._db.fetch(_NEWLY_INCLUDED, after)
        return {device: (number, id_) for device, number, id_ in rows if connected.get(device, number) < number}

    async def _spoken(
        self, included: Mapping[str, tuple[int, bytes | None]], connected: Mapping[str, int]
    ) -> frozenset[str]:
        """Those of the newly included devices that an outcome has to be told to."""
        if not included:
            return frozenset()
        devices = list(included)
        rows = await self._db.fetch(
            _SPOKEN, devices, [connected[device] for device in devices], [included[device][0] for device in devices]
        )
        return frozenset(row[0] for row in rows)

    # ------------------------------------------------------------ grants
    async def _touched_scopes(self, after: int) -> list[Scope]:
        """Those whose grants read a table that changed."""
        rows = await self._db.fetch(_TOUCHED, after)
        touched = {scope for (table,) in rows for scope in self._sql.grant_scopes.get(table, ())}
        return [scope for scope in self._sql.plan.scopes.values() if scope.name in touched]

    async def _granted_to(self, scope: Scope, users: Sequence[Claims]) -> tuple[frozenset[str] | None, ...]:
        """One query for all; one line of it for all whose claims are equal as far as the grant reads them. None to
        whom nothing can be said."""
        if scope.name in self._sql.plan.unfit_grants:
            return (None,) * len(users)
        grant = await grant_of(self._db, self._sql, scope)
        bound: list[Bound | None] = []
        missing: set[int] = set()
        for number, claims in enumerate(users):
            try:
                bound.append(grant.bind(claims))
            except AuthError:
                bound.append(None)
                missing.add(number)
        different = list(dict.fromkeys(each for each in bound if each is not None))
        told = dict(zip(different, await ask(self._db, self._sql.plan, grant, different), strict=True))
        return tuple(
            None if number in missing else told[each] if each is not None else frozenset()
            for number, each in enumerate(bound)
        )
