"""Bugs of a session, to be planted: each is one that only a device with a session of its own can have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncline.model.identifiers import quote
from syncline.model.program import ProgramTable
from syncline.protocol import frames
from syncline.replica import install, session_waiting
from syncline.replica.file import ReplicaFile
from syncline.replica.session import TABLE, Do, Event, Facts, Session, State, Step
from syncline.replica.store import Store
from syncline.server.fanout import FanOut
from syncline.server.live import LiveConnection
from syncline.source.sqlite import suspending
from syncline.source.sqlite.registry import Registry


def no_timer_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(session: Session, facts: Facts, _wait: Any = session_waiting.wait) -> Step:
        session, effects = _wait(session, facts)
        return session, tuple(effect for effect in effects if effect.do is not Do.TIMER)

    monkeypatch.setattr(session_waiting, "wait", wait)


def an_upload_whose_answer_is_lost_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was offered once counts as offered, whatever a hello says."""

    def upload_request(self: ReplicaFile, _build: Any = ReplicaFile.upload_request) -> Any:
        request = _build(self)
        self._position = self.state().seq
        return request

    def accept_hello(self: ReplicaFile, *arguments: Any, _accept: Any = ReplicaFile.accept_hello) -> Any:
        before = self._position
        told = _accept(self, *arguments)
        self._position = max(self._position, before)
        return told

    monkeypatch.setattr(ReplicaFile, "upload_request", upload_request)
    monkeypatch.setattr(ReplicaFile, "accept_hello", accept_hello)
    monkeypatch.setattr(ReplicaFile, "offer_again", lambda self: None)


def a_failed_upload_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(session: Session, facts: Facts) -> Step:
        return replace(session, state=State.LIVE if session.stream else State.IDLE), ()

    monkeypatch.setitem(TABLE[State.UPLOADING], Event.FAILED, failed)
    monkeypatch.setitem(TABLE[State.UPLOADING], Event.UNREACHABLE, failed)


def offline_is_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(session: Session, facts: Facts) -> Step:
        return replace(session, state=State.OFFLINE, offline=True, stream=False), session_waiting.closing(session)

    for handlers in TABLE.values():
        if handlers[Event.OFFLINE] is session_waiting.go_offline:
            monkeypatch.setitem(handlers, Event.OFFLINE, offline)


def nobody_who_is_connected_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FanOut, "publish", lambda self, checkpoint: None)


def every_hello_gets_another_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    def register(self: Registry, *arguments: Any, _register: Any = Registry.register) -> Any:
        found = _register(self, *arguments)
        if found.identity == "known":
            found = replace(found, nonce=self._draw())
            sql = "UPDATE syncline_device SET nonce_issued = ?2 WHERE device = ?1"
            self._db.execute(sql, (found.device, found.nonce))
        return found

    monkeypatch.setattr(Registry, "register", register)


def a_heartbeat_that_was_not_taken_counts_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(self: LiveConnection) -> None:
        beat: dict[str, Any] = {"t": "heartbeat", "head": self._head, "time": self._service.clock.now_us()}
        if self._service.fan_out.is_standing(self):
            self.position = self._moved_quietly(beat)
        packed = frames.pack(frames.dump(beat), frames.PLAIN)
        if self._wire is not None:
            self._wire.send_now([packed])
        else:
            self._start(self._send_cut([packed], None))

    monkeypatch.setattr(LiveConnection, "_send_beat", send)


def what_was_missed_before_a_migration_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspending, "_note_missed", lambda table: "SELECT 1")


def a_table_goes_with_its_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """All its rows leave the file until the next download, not only those that waiting changes are about."""

    def begin_anew(store: Store, table: ProgramTable, _begin: Any = install._begin_outbox_anew) -> None:
        _begin(store, table)
        store.connection.execute(f"DELETE FROM {quote(table.name)}")
        store.connection.execute(f"DELETE FROM {quote(f'syncline_held_{table.name}')}")

    monkeypatch.setattr(install, "_begin_outbox_anew", begin_anew)
