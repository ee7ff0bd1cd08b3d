"""The server's application below the sockets: every call, as an attacker with a good token would make it.

Ann attacks. She has Ada and Bo; Cy's rows, everybody's hidden columns and the tables that do not sync must neither reach
her nor change, whatever she sends.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from tests.hostile.mutations import CANARY, text_of
from tests.hostile.watching import Logs, require
from tests.integration.company import CONFIGURATION

from syncline.clock import CallableClock
from syncline.error_catalogue import CATALOGUE
from syncline.errors import SynclineError
from syncline.protocol import frames
from syncline.protocol.cursor import digest_of
from syncline.server.app import SynclineApp
from syncline.server.config import parse_settings
from syncline.server.service import Service
from syncline.testing.bench import Office, Phone
from syncline.testing.contract_clinic import CONFIG, clinic_tables
from syncline.testing.dialect import SQLITE

FOREIGN = "foreign-9b31"
"""In every value that Ann may not have."""
PATIENCE_SECONDS = 5

SECRETS = (
    f"UPDATE patients SET ssn = 'x{FOREIGN}'",
    f"UPDATE patients SET name = '{FOREIGN} Cy', phone = '{FOREIGN}' WHERE id = 'cy'",
    f"UPDATE visits SET summary = '{FOREIGN}' WHERE id = 'v-cy'",
    f"UPDATE notes SET body = '{FOREIGN}' WHERE id = 'n-cy'",
    f"UPDATE facilities SET name = '{FOREIGN}' WHERE id IN ('f2', 'f3')",
    f"INSERT INTO notes VALUES('n-far', 'v-cy', '{FOREIGN}')",
    f"INSERT INTO tickets(patient_id, body) VALUES('cy', '{FOREIGN}')",
)
OUTSIDE = (
    "SELECT id, name, ssn, facility_id, phone FROM patients WHERE id = 'cy' ORDER BY 1",
    "SELECT DISTINCT ssn FROM patients",
    "SELECT * FROM visits WHERE patient_id = 'cy' ORDER BY 1",
    "SELECT * FROM notes WHERE visit_id IN (SELECT id FROM visits WHERE patient_id = 'cy') ORDER BY 1",
    "SELECT * FROM tickets WHERE patient_id = 'cy' ORDER BY 1",
    "SELECT * FROM facilities ORDER BY 1",
    "SELECT * FROM medications ORDER BY 1",
    "SELECT * FROM assignments ORDER BY 1, 2",
)
"""What no upload of Ann's may change. (A patient of hers may be deleted: her own rows are hers.)"""

WRITTEN = {
    "U visits": {"table": "visits", "op": "U", "key": ["v-ada"], "columns": ["summary"], "new": [CANARY], "was": [None]},
    "I notes": {"table": "notes", "op": "I", "key": ["n-x"], "columns": ["visit_id", "body"], "new": ["v-ada", CANARY],
                "was": [None, None]},
    "D notes": {"table": "notes", "op": "D", "key": ["n-ada"], "columns": ["visit_id", "body"], "new": [None, None],
                "was": ["v-ada", "sleeps well"]},
    "U km": {"table": "visits", "op": "U", "key": ["v-bo"], "columns": ["kilometres", "status"], "new": [["f", "5.0"], "done"],
             "was": [["f", "0.0"], "planned"]},
    "I tickets": {"table": "tickets", "op": "I", "key": [2**40], "columns": ["patient_id", "body"], "new": ["bo", CANARY],
                  "was": [None, None]},
    "U patients": {"table": "patients", "op": "U", "key": ["bo"], "columns": ["phone"], "new": ["1"], "was": ["2"]},
    "U cy": {"table": "visits", "op": "U", "key": ["v-cy"], "columns": ["summary"], "new": [CANARY], "was": [None]},
    "I far": {"table": "notes", "op": "I", "key": ["n-y"], "columns": ["visit_id", "body"], "new": ["v-cy", CANARY],
              "was": [None, None]},
}  # fmt: skip


class ServerTarget:
    """A case is {"path", "packing", "body"}, or bytes that are no JSON, sent as a body to a call that is drawn."""

    name = "server"
    words = (
        *(
            "ada",
            "bo",
            "cy",
            "v-ada",
            "v-bo",
            "v-cy",
            "n-cy",
            "n-nobody",
            "patients",
            "visits",
            "notes",
            "tickets",
            "ssn",
        ),
        *(
            "assignments",
            "medications",
            "facilities",
            "sqlite_schema",
            "syncline_device",
            "rowid",
            "patient_id",
            "I",
            "D",
        ),
        *(
            'caseload["cy"]',
            'caseload["ada"]',
            "formulary[]",
            "/v1/hello",
            "/v1/upload",
            "/v1/download",
            "plain",
            "zstd",
        ),
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._worlds = 0
        self._office: Office | None = None
        self._loop = asyncio.new_event_loop()
        self.renew()
        self.seeds = [frames.dump(case) for case in self._cases()]

    # ------------------------------------------------------------ the world
    def renew(self) -> None:
        self._leave()
        self._worlds += 1
        folder = self._folder / f"server-{self._worlds}"
        folder.mkdir()
        self._office = office = Office(folder, clinic_tables(SQLITE), CONFIG)
        office.database.execute("PRAGMA synchronous = OFF")
        for statement in SECRETS:
            office.execute(statement)
        self.ann, self.ben = office.phone("ann"), office.phone("ben")
        for phone in (self.ann, self.ben):
            phone.sync()
        settings = parse_settings(CONFIGURATION, folder=folder, environment={})
        clock = CallableClock(wall=office.clock.now_us, steady=office.clock.monotonic_seconds)
        self._app = SynclineApp(settings, clock, _claims)
        self._app.runtime.service = office.service
        self._calls = self._calls_of(self._app)
        _never_wait(office.service, office)
        self._outside = self._look()
        self._last = 0
        self._logs = Logs(CANARY, FOREIGN)
        self._logs.__enter__()

    def close(self) -> None:
        self._leave()
        self._loop.close()

    def _leave(self) -> None:
        if self._office is not None:
            self._logs.__exit__(None, None, None)
            self._office.close()
            self._office = None

    @property
    def office(self) -> Office:
        assert self._office is not None
        return self._office

    @staticmethod
    def _calls_of(app: SynclineApp) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """Every call that the application has, as it is guarded there."""
        found = {}
        for route in app.routes():
            handler = getattr(app, "_" + str(getattr(route, "path", "")).rpartition("/")[2], None)
            if handler is not None and "POST" in (getattr(route, "methods", None) or ()):
                found[str(route.path)] = app._call(handler)  # type: ignore[attr-defined]
        return found

    def _look(self) -> list[Any]:
        return [self.office.database.execute(statement) for statement in OUTSIDE]

    def _cases(self) -> list[dict[str, Any]]:
        hello = {**_request(self.ann.file.hello_request()), "clock": 1}
        download = _request(self.ann.file.download_request())
        named = _request(self.ann.file.download_request(with_buckets=True))
        stage = {"token": "x" * 60, "digest": digest_of(()), "buckets": []}
        base = {"n": 1, "id": "", "key_columns": ["id"], "wall": 1, "seen": 0, "base": 0, "insert": 0, "included": 0}
        device = {"device": self._device(self.ann), "clock": 1, "offset": 0, "floor": 0}
        mutations = [{**base, **written} for written in WRITTEN.values()]
        groups = [[{"marked": marked, "mutations": [each]}] for each in mutations for marked in (False, True)]
        groups += [[{"marked": True, "mutations": mutations[:3]}], [{"marked": False, "mutations": mutations}]]
        bodies = [
            *(("/v1/hello", body) for body in (hello, {**hello, "device": None, "nonce": None})),
            *(
                ("/v1/download", body)
                for body in (download, named, {**download, "cursor": None}, {**named, "stage": stage})
            ),
            ("/v1/download", {**named, "device": self._device(self.ben), "wait": 5}),
            *(("/v1/upload", {**device, "groups": group}) for group in groups),
        ]
        other = {"device": self._device(self.ann), "cursor": download["cursor"], "digest": download["digest"], "table": "visits",
                 "buckets": named["buckets"], "after": None, "findings": []}  # fmt: skip
        known = {path for path, _ in bodies}
        bodies += [(path, other) for path in self._calls if path not in known]
        return [{"path": path, "packing": 0, "body": body} for path, body in bodies]

    @staticmethod
    def _device(phone: Phone) -> str:
        return str(phone.file.state().device)

    # ------------------------------------------------------------ one case
    def run(self, content: bytes, rng: random.Random) -> str:
        path, packed = self._packed(content, rng)
        status, body = self._loop.run_until_complete(self._ask(path, packed))
        told = self._answered(path, status, body)
        if path == "/v1/upload" and status == 200:
            self._last = int(json.loads(body[1:]).get("last", self._last))
            require(self._look() == self._outside, "a row outside the scope has changed")
            if rng.random() < 0.1:
                self.office.checkpoint()
        leaked, self._logs.leaked = self._logs.leaked, []
        require(not leaked, f"a value is in the log: {leaked[:1]}")
        return told

    def _packed(self, content: bytes, rng: random.Random) -> tuple[str, bytes]:
        try:
            case = json.loads(content)
            path, packing, body = case["path"], case["packing"], case["body"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return rng.choice(list(self._calls)), rng.choice((b"", b"\0", b"\1", b"\2", b"\7")) + content
        if path == "/v1/upload":
            self._number(body, rng)
        if type(path) is not str or path not in self._calls:
            path = rng.choice(list(self._calls))
        packing = packing if type(packing) is int and packing in (0, 1, 2) else 0
        return path, frames.pack(text_of(body), packing)

    def _number(self, body: Any, rng: random.Random) -> None:
        """Mostly the numbers and ids that come next: what is not in order is never judged."""
        if rng.random() < 0.1 or type(body) is not dict or type(body.get("groups")) is not list:
            return
        number = self._last
        for group in body["groups"]:
            listed = group.get("mutations") if type(group) is dict else None
            for mutation in listed if type(listed) is list else ():
                if type(mutation) is dict:
                    number += 1
                    mutation["n"] = number
                    if rng.random() < 0.95:
                        mutation["id"] = base64.b64encode(rng.randbytes(16)).decode()

    async def _ask(self, path: str, packed: bytes) -> tuple[int, bytes]:
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [(b"x-user", b"ann")]}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": packed, "more_body": False}

        response = await self._calls[path](Request(scope, receive))
        body = getattr(response, "body", None)
        if body is None:
            try:
                body = b"".join([chunk async for chunk in response.body_iterator])  # type: ignore[attr-defined]
            except SynclineError as error:  # in the middle of a stream: the connection breaks off
                require(error.error_code in CATALOGUE, f"the code {error.error_code} is in no catalogue")
                body = b""
        return response.status_code, bytes(body)

    def _answered(self, path: str, status: int, body: bytes) -> str:
        require(status < 500 or status == 503, f"status {status}: {body[:300]!r}")
        plain = body
        if status == 200:
            reader = frames.FrameReader()
            single = path in ("/v1/hello", "/v1/upload", "/v1/verified")
            packed = [body] if single else list(reader.feed(body))
            plain = b"\n".join(frames.unpack(each) for each in packed)
            require(FOREIGN.encode() not in plain, "a value of another patient was answered")
            return f"{path} 200 {len(packed) > 2}"
        error = json.loads(body)
        require(set(error) == {"t", "code", "message", "hint", "retry", "retry_after"}, "an error has other fields")
        require(error["code"] in CATALOGUE, f"the code {error['code']} is in no catalogue")
        require(CANARY not in body.decode() and FOREIGN not in body.decode(), "an error repeats a value")
        return f"{path} {status} {error['code']}"


async def _claims(request: Any) -> dict[str, Any]:
    return {"sub": request.headers["x-user"]}


def _request(message: dict[str, Any]) -> dict[str, Any]:
    return frames.load(frames.dump(message))


def _never_wait(service: Service, office: Office) -> None:
    """A long poll is over at once: time is virtual."""

    async def next_checkpoint(seconds: float, published: int | None = None) -> None:
        office.clock.advance(int(max(seconds, PATIENCE_SECONDS) * 1e6))

    service.hub.next_checkpoint = next_checkpoint  # type: ignore[method-assign,assignment]
