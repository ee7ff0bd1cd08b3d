"""Bugs of server and file, to be planted: what devices, requests and processes can show, whatever a session does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from syncline.model import merge
from syncline.protocol.messages import Group
from syncline.replica import apply, digests, file, outbox, stage, store
from syncline.server import cut_frames, downloads, fanout, job_token, uploads, verify
from syncline.source.sqlite import feed, generations, laid_out, pages, registry, retention, sequencer, upload
from syncline.source.stamps import RowStamps
from syncline.values import key_text, same


async def _nothing(*_: Any, **__: Any) -> None:
    """In place of a step that a planted bug leaves out."""


async def _never_a_repeat(self: Any, tx: Any, device: Any, group: Any, last: int) -> Any:
    return group.mutations


def _acknowledge_at_once(self: Any, device: str) -> int:
    row = self._db.execute("SELECT last FROM syncline_device WHERE device = ?", (device,)).fetchone()
    return int(row[0]) if row else 0


def _last_frames_first(staged: Any, cut: Any) -> Iterator[Any]:
    yield from reversed([frame for _, frame in staged.frames()] if cut.is_paged else cut.tail.frames)


def _only_the_names(self: Any, names: Any) -> None:
    rows = [(name,) for name in names]
    self._store.connection.executemany("DELETE FROM syncline_job_bucket WHERE name = ?", rows)


def _one_key_further(place: str | None, keys: Any, _parse: Callable[..., Any] = pages.parse_page_place) -> Any:
    at = _parse(place, keys)
    if at is None or not at[1]:
        return at
    table, (key,) = at
    return table, (key[:-1] + chr(ord(key[-1]) + 1),)


def _drop_and_move_on(
    self: Any, position: Any, dropped: Any, survey: Any, _drop: Any = downloads.Downloads._drop_only, **named: Any
) -> Any:
    head = (survey.head.term, survey.head.checkpoint)
    return _drop(self, replace(position, cursor=head), dropped, survey, stage=None)


def _nobody_lost_anything(
    self: Any, delta: Any, users: Any, _concerned: Any = fanout.FanOut._concerned
) -> tuple[Any, Any, Any]:
    news, _, alone = _concerned(self, delta, users)
    return news, {}, alone


async def _never_a_clone(self: Any, tx: Any, device: Any, group: Any, last: int) -> Any:
    return tuple(mutation for mutation in group.mutations if mutation.number > last)


@contextmanager
def _each_statement_for_itself(connection: Any) -> Iterator[None]:
    yield


async def _finish_later(self: Any, *arguments: Any, _finish: Any = upload.SqliteWrite.finish_device) -> None:
    self._db.execute("COMMIT")
    self._db.execute("BEGIN IMMEDIATE")
    await _finish(self, *arguments)


def _head_first(connection: Any, checkpoint: int, _write: Any = laid_out.write_down) -> None:
    connection.execute("UPDATE syncline_checkpoint SET head = ?1", (checkpoint,))
    _write(connection, checkpoint)


def _empty_the_log_first(self: Any, batch: Any, *arguments: Any, _write: Any = sequencer.SqliteSequencer._write) -> Any:
    for name, newest in batch.taken.items():
        self._db.execute(f"DELETE FROM {self._sql.captures[name].changelog} WHERE id <= ?1", (newest,))
    return _write(self, batch, *arguments)


def _device_wins(name: str, _policy: Callable[..., Any] = merge.policy) -> Any:
    found = _policy(name)
    if name != "latest":
        return found
    return replace(found, decide=lambda change: merge.Merged(change.new, raise_stamp=True))


def _any_nonce(self: Any, device: Any, nonce: Any, user: str, included: int, details: Any) -> Any:
    row = self._db.execute("SELECT nonce_issued FROM syncline_device WHERE device = ?", (device,)).fetchone()
    return _register(self, device, row[0] if row else nonce, user, included, details)


_register = registry.Registry.register


async def _no_gap(self: Any, tx: Any, device: Any, group: Any, last: int, _fresh: Any = uploads._Run._fresh) -> Any:
    found = await _fresh(self, tx, device, group, last)
    return tuple(each for each in group.mutations if each.number > last) if found is None else found


def _with_policy(wanted: str, **changes: Any) -> Callable[[str], Any]:
    def policy(name: str, _policy: Callable[..., Any] = merge.policy) -> Any:
        found = _policy(name)
        return replace(found, **changes) if name == wanted else found

    return policy


def _unseen_is_unchanged(change: merge.Change) -> merge.Merged:
    if same(change.server, change.was):
        return merge.Merged(change.new, raise_stamp=True)
    return merge.merge_latest(change)


def _equal_is_nothing(change: merge.Change) -> merge.Merged:
    return replace(merge.merge_latest(change), raise_stamp=not same(change.server, change.new))


def _sequenced_stamps(self: Any, entry: Any, key: Any) -> RowStamps:
    sql = "SELECT stamps FROM syncline_row_state WHERE table_name = ?1 AND key = ?2"
    row = self._db.execute(sql, (entry.synced.name, key_text(key))).fetchone()
    return RowStamps.parse(row[0] if row else None)


def _whatever_state(store: Any, cut: Any, commit: Any, _apply: Any = apply.apply_cut, **named: Any) -> Any:
    now = store.state().apply_count - cut.pages
    return _apply(store, cut, replace(commit, apply_count=now), **named)


def _without_secure_delete(self: Any, *arguments: Any, _open: Any = store.Store.__init__, **named: Any) -> None:
    _open(self, *arguments, **named)
    self.connection.execute("PRAGMA secure_delete = OFF")


def _unmarked(marked: bool, mutations: Any) -> Group:
    return Group(False, mutations)


Plant = tuple[tuple[Any, str, Any], ...]
PLANTED: dict[str, Plant] = {
    "the server does not touch what it refused or did not take": ((upload.SqliteWrite, "touch", _nothing),),
    "a downloaded row overwrites pending columns": ((apply._Apply, "_rebase", lambda *_: None),),
    "the server applies whatever arrives": ((uploads._Run, "_fresh", _never_a_repeat),),
    "a download reads the last mutation live instead of the cut's": (
        (feed.FeedReader, "_included", _acknowledge_at_once),
    ),
    "removes are not sent": ((cut_frames, "_pieces", lambda rows: iter(())),),
    "the last frames of a paged download are applied before what was staged": ((apply, "body_of", _last_frames_first),),
    "what was staged of a bucket that was lost stays in the file": ((stage.Stage, "forget_buckets", _only_the_names),),
    "a page goes on one row too late": ((pages, "parse_page_place", _one_key_further),),
    "a token is kept without its page": ((stage.Stage, "_keep", lambda *_: None),),
    "a paged download goes on although a table was raised": (
        (job_token.JobToken, "fits", lambda self, survey: survey.valid),
    ),
    "only the changed table is sent anew, not those whose paths run through it": tuple(
        (module, "raised_by", lambda plan, tables: frozenset(tables) & frozenset(plan.tables))
        for module in (generations, sequencer)
    ),
    "a cut that only drops moves the cursor": ((downloads.Downloads, "_drop_only", _drop_and_move_on),),
    "cursors behind the horizon are taken": ((feed, "read_horizon", lambda _: 0),),
    "a cut is applied statement by statement": ((apply, "immediate", _each_statement_for_itself),),
    "a checkpoint is written statement by statement, the head first": (
        (sequencer, "write_transaction", _each_statement_for_itself),
        (laid_out, "write_down", _head_first),
    ),
    "changes leave the log before their checkpoint is written": (
        (sequencer.SqliteSequencer, "_write", _empty_the_log_first),
    ),
    "an upload's effect is committed apart from its number": ((upload.SqliteWrite, "finish_device", _finish_later),),
    "whoever arrives last wins": ((merge, "policy", _device_wins),),
    "what lost is not recorded": ((upload, "conflict_lines", lambda *_: iter(())),),
    "nothing is ever forgotten": ((retention, "SWEEPS", ()),),
    "two copies of a file are one device": (
        (registry.Registry, "register", _any_nonce),
        (uploads._Run, "_fresh", _never_a_clone),
        *((module, "refuse_another_copy", lambda *_: None) for module in (apply, file)),
    ),
    "the fan-out goes on telling one who has lost the bucket": ((fanout.FanOut, "_concerned", _nobody_lost_anything),),
    "outcomes do not travel with the cut": ((feed.FeedReader, "_outcomes", lambda *_: []),),
    "a gap in the numbers is not noticed": ((uploads._Run, "_fresh", _no_gap),),
    "a device's clock is believed": ((uploads, "evaluate_offset", lambda *_: 0),),
    "who finds what he saw wins": ((merge, "policy", _with_policy("latest", decide=_unseen_is_unchanged)),),
    "an equal value raises no stamp": ((merge, "policy", _with_policy("latest", decide=_equal_is_nothing)),),
    "what waits for a checkpoint has no stamp yet": ((upload.SqliteWrite, "_stamps", _sequenced_stamps),),
    "a count is set to what a device has": (
        (merge, "policy", _with_policy("add", decide=lambda change: merge.Merged(change.new, raise_stamp=True))),
    ),
    "a pending count is put back as a value": ((merge, "policy", _with_policy("add", rebase="set")),),
    "a cut for another state of the file is applied": ((file, "apply_cut", _whatever_state),),
    "deleted rows stay in free pages": ((store.Store, "__init__", _without_secure_delete),),
    "the log keeps what has left the file": ((store.Store, "truncate_log", lambda self: True),),
    "marked groups are taken apart": ((outbox, "Group", _unmarked),),
    "what differs is named, and not sent anew": ((downloads.Downloads, "_is_repair", lambda *_: False),),
    "both sides take digests in their own way": (
        (digests, "hash_of_values", lambda values: 0),
        (verify, "hash_of_image", lambda image: 1),
    ),
}
"""By what is broken: whose attribute is what else instead."""
