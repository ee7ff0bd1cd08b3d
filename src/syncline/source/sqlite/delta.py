"""What one checkpoint changed, read once for all connected devices instead of once for each."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence

from syncline.errors import AuthError
from syncline.model.scopes import Scope
from syncline.source.port import Claims, Delta, Entries
from syncline.source.sqlite.feed import FeedReader, bind_claims
from syncline.source.sqlite.layout import GRANT_PREFIX


class DeltaReader(FeedReader):
    """`read` is one read transaction."""

    def read(
        self,
        cursor: tuple[str, int],
        wanted: Container[str],
        connected: Mapping[str, int],
        users: Sequence[Claims],
        rows_max: int,
    ) -> Delta:
        with self._snapshot() as head:
            if not self._is_known(cursor, head) or self._was_raised(cursor[1]):
                return Delta(head, valid=False)
            after = cursor[1]
            rows = self._new_rows(after)
            held = [bucket for bucket in rows if bucket in wanted]
            large = frozenset(bucket for bucket in held if rows[bucket] > rows_max)
            included = self._newly_included(after, connected)
            return Delta(
                head=head,
                rows=rows,
                entries=self._new_entries([bucket for bucket in held if bucket not in large], after),
                large=large,
                included=included,
                spoken=frozenset(
                    device for device, (upto, _) in included.items() if self._speaks(device, connected[device], upto)
                ),
                granted={scope.name: self._granted_to(scope, users) for scope in self._touched_scopes(after)},
            )

    def _was_raised(self, after: int) -> bool:
        """A table has to be sent whole: to each by a cut of its own."""
        found = self._db.execute("SELECT 1 FROM syncline_generation WHERE checkpoint > ?1 LIMIT 1", (after,))
        return found.fetchone() is not None

    def _new_rows(self, after: int) -> dict[str, int]:
        return dict(
            self._db.execute(
                "SELECT bucket, count(*) FROM syncline_entry INDEXED BY syncline_entry_newest WHERE checkpoint > ?1 "
                "GROUP BY bucket",
                (after,),
            ).fetchall()
        )

    def _new_entries(self, buckets: Collection[str], after: int) -> tuple[Entries, ...]:
        return tuple(self._entries(frozenset(buckets), after)) if buckets else ()

    def _newly_included(self, after: int, connected: Mapping[str, int]) -> dict[str, tuple[int, bytes | None]]:
        rows = self._db.execute(
            "SELECT i.device, i.number, o.id FROM syncline_included i "
            "LEFT JOIN syncline_outcome o ON o.device = i.device AND o.number = i.number WHERE i.checkpoint > ?1",
            (after,),
        ).fetchall()
        return {device: (number, id_) for device, number, id_ in rows if connected.get(device, number) < number}

    def _speaks(self, device: str, after: int, upto: int) -> bool:
        found = self._db.execute(
            "SELECT 1 FROM syncline_outcome WHERE device = ?1 AND number > ?2 AND number <= ?3 "
            "AND (kind <> 'applied' OR conflicts IS NOT NULL) LIMIT 1",
            (device, after, upto),
        ).fetchone()
        return found is not None

    # ------------------------------------------------------------ grants
    def _touched_scopes(self, after: int) -> list[Scope]:
        """Those whose grants read a table that changed."""
        rows = self._db.execute(
            "SELECT substr(name, ?1) FROM syncline_meta WHERE name GLOB ?2 AND value > ?3",
            (len(GRANT_PREFIX) + 1, f"{GRANT_PREFIX}*", after),
        )
        touched = {scope for (table,) in rows.fetchall() for scope in self._sql.grant_scopes.get(table, ())}
        return [scope for scope in self._sql.plan.scopes.values() if scope.name in touched]

    def _granted_to(self, scope: Scope, users: Sequence[Claims]) -> tuple[frozenset[str] | None, ...]:
        """One evaluation for all whose claims are equal as far as the grant reads them."""
        known: dict[str, frozenset[str]] = {}
        found: list[frozenset[str] | None] = []
        for claims in users:
            try:
                named = repr(bind_claims(scope.grant or "", claims, scope.name))
            except AuthError:
                found.append(None)
                continue
            if named not in known:
                known[named] = self.granted_in(scope, claims)
            found.append(known[named])
        return tuple(found)
