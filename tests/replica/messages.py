"""What a server sends, made by hand."""

from __future__ import annotations

from typing import Any

from syncline.model.program import Program
from syncline.model.resolving import resolve
from syncline.model.schema import Schema, Table
from syncline.model.scopes import Plan, PlanConfig, ScopeConfig, TableConfig
from syncline.protocol.messages import HelloAnswer
from syncline.replica.apply import AppliedCut
from syncline.replica.file import ReplicaFile
from syncline.values import Row, Value, encode_value

BUCKET = "all[]"


def plan_of(*tables: Table, merge: dict[str, dict[str, str]] | None = None, read_only: bool = False) -> Plan:
    """All tables in one global scope."""
    scope = ScopeConfig("all", {table.name: TableConfig() for table in tables}, read_only=read_only)
    schema = Schema({table.name: table for table in tables})
    return resolve(PlanConfig(scopes=(scope,), merge=merge or {}), schema, {}, {})


def encoded(row: Row | list[Value]) -> list[Any]:
    return [encode_value(value) for value in row]


def put(table: str, *rows: Row, bucket: str = BUCKET, layout: int = 1) -> dict[str, Any]:
    listed = [encoded(row) for row in rows]
    return {"t": "rows", "table": table, "layout": layout, "buckets": [bucket], "rows": listed}


def remove(table: str, *keys: Row, bucket: str = BUCKET) -> dict[str, Any]:
    return {"t": "remove", "table": table, "bucket": bucket, "keys": [encoded(key) for key in keys]}


def drop(*buckets: str) -> dict[str, Any]:
    return {"t": "drop_bucket", "buckets": list(buckets)}


def outcome(
    number: int,
    kind: str,
    table: str,
    key: Row,
    code: str = "",
    state: Row | str | None = None,
    conflicts: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """`state`: a row, "absent", or None for not said."""
    frame = {
        "t": "outcome",
        "n": number,
        "kind": kind,
        "code": code,
        "reason": code and f"because of {code}",
        "table": table,
        "key": encoded(key),
        "conflicts": conflicts or [],
    }
    if state is not None:
        frame["state"] = {"row": None if state == "absent" else encoded(state)}  # type: ignore[arg-type]
    return frame


class Bench:
    """A file and a server that exists only in the test: it numbers cuts and says what it is told to."""

    def __init__(self, file: ReplicaFile, program: Program) -> None:
        self.file = file
        self.program = program
        self.checkpoint = 0

    def hello(self, identity: str | None = None, **changes: Any) -> HelloAnswer:
        request = self.file.hello_request()
        known = identity or ("known" if request["device"] else "new")
        answer = HelloAnswer(
            protocol=2,
            device=changes.pop("device", request["device"] or "device-1"),
            nonce="nonce",
            identity=known,
            user=changes.pop("user", "nurse-17"),
            term="term",
            head=self.checkpoint,
            last=changes.pop("last", request["included"]),
            received_us=request["clock"] + 1000,
            answered_us=request["clock"] + 1000,
            packing="gzip",
            program=None if request["program"] == self.program.hash else self.program.dump(),
            **changes,
        )
        return self.file.accept_hello(answer.dump(), request["clock"], request["clock"] + 2000)

    def cut(
        self,
        *frames: dict[str, Any],
        included: int | None = None,
        reset: bool = False,
        expected: int = 0,
        apply_count: int | None = None,
        more: bool = False,
    ) -> AppliedCut | None:
        request = self.file.download_request()
        self.checkpoint += 1
        count = request["apply_count"] if apply_count is None else apply_count
        self.file.receive({"t": "begin", "apply_count": count, "reset": reset, "rows": expected})
        for frame in frames:
            assert self.file.receive(frame) is None
        return self.file.receive(
            {
                "t": "commit",
                "cursor": f"term.{self.checkpoint}",
                "checkpoint": self.checkpoint,
                "buckets": {"add": [frame["buckets"][0] for frame in frames if frame["t"] == "rows"]},
                "included": request["included"] if included is None else included,
                "time": 1_000_000 * self.checkpoint,
                "apply_count": count,
                "more": more,
            }
        )

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.file.store.connection.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall()

    def mutations(self) -> list[dict[str, Any]]:
        """All that waits, as it would be uploaded."""
        self.file.offer_again()
        request = self.file.upload_request()
        return [] if request is None else [each for group in request["groups"] for each in group["mutations"]]

    def brief(self) -> list[tuple[Any, ...]]:
        """(number, operation, key, {column: (new, was)}) of each."""
        return [
            (
                each["n"],
                each["op"],
                *each["key"],
                {c: (n, w) for c, n, w in zip(each["columns"], each["new"], each["was"], strict=True)},
            )
            for each in self.mutations()
        ]
