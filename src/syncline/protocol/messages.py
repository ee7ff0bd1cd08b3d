"""Requests and answers. Each has `dump` (to a JSON object) and `load` (from one that nobody vouches for)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from syncline import limits
from syncline.errors import LimitError
from syncline.protocol import checks
from syncline.protocol.mutations import (
    Group,
    Mutation,
    Operation,
    are_halves,
    id_text,
    mutation_id,
    optional_id,
)

__all__ = [
    "Download",
    "Group",
    "Hello",
    "HelloAnswer",
    "Mutation",
    "Operation",
    "Stage",
    "Upload",
    "UploadAnswer",
    "are_halves",
    "id_text",
    "mutation_id",
    "optional_id",
]


@dataclass(frozen=True, slots=True)
class Hello:
    """`program` is the hash of the program in the file; `included` the device's last mutation in its applied cut."""

    protocol: int
    device: str | None
    nonce: str | None
    engine: str
    sqlite: str
    packings: tuple[str, ...]
    clock_us: int
    program: str | None = None
    schema_version: int | None = None
    included: int = 0
    cursor: str | None = None

    def dump(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "device": self.device,
            "nonce": self.nonce,
            "engine": self.engine,
            "sqlite": self.sqlite,
            "packings": list(self.packings),
            "clock": self.clock_us,
            "program": self.program,
            "schema_version": self.schema_version,
            "included": self.included,
            "cursor": self.cursor,
        }

    @classmethod
    def load(cls, message: dict[str, Any]) -> Hello:
        return cls(
            protocol=checks.integer(message, "protocol"),
            device=checks.optional_text(message, "device"),
            nonce=checks.optional_text(message, "nonce"),
            engine=checks.text(message, "engine"),
            sqlite=checks.text(message, "sqlite"),
            packings=tuple(checks.texts(message, "packings", 10)),
            clock_us=checks.wall(message, "clock"),
            program=checks.optional_text(message, "program"),
            schema_version=checks.optional_integer(message, "schema_version"),
            included=checks.integer(message, "included"),
            cursor=checks.optional_text(message, "cursor"),
        )


@dataclass(frozen=True, slots=True)
class HelloAnswer:
    """`last` is the device's last number that the source holds, `last_id` the id of that mutation if it is still known.

    `identity`: "known"; "new" (first contact, or the file was restored or copied: use `device` from now on, number
    the outbox afresh from 1 and offer it again, together with what was sent in the last days if `reoffer_sent`).
    `program` is the document of a program other than the one that the device named.
    """

    protocol: int
    device: str
    nonce: str
    identity: str
    user: str
    term: str
    head: int
    last: int
    received_us: int
    answered_us: int
    packing: str
    reoffer_sent: bool = False
    program: dict[str, Any] | None = None
    limits: dict[str, int] = field(default_factory=dict)
    last_id: bytes | None = None

    def dump(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "device": self.device,
            "nonce": self.nonce,
            "identity": self.identity,
            "user": self.user,
            "term": self.term,
            "head": self.head,
            "last": self.last,
            "received": self.received_us,
            "answered": self.answered_us,
            "packing": self.packing,
            "reoffer_sent": self.reoffer_sent,
            "program": self.program,
            "limits": self.limits,
            "last_id": id_text(self.last_id),
        }

    @classmethod
    def load(cls, message: dict[str, Any]) -> HelloAnswer:
        program = message.get("program")
        if program is not None and type(program) is not dict:
            raise checks.bad("program", "is not an object")
        given = message.get("limits", {})
        if type(given) is not dict or not all(type(value) is int for value in given.values()):
            raise checks.bad("limits", "is not an object of integers")
        identity = checks.text(message, "identity")
        if identity not in ("known", "new"):
            raise checks.bad("identity", 'is neither "known" nor "new"')
        return cls(
            protocol=checks.integer(message, "protocol"),
            device=checks.text(message, "device"),
            nonce=checks.text(message, "nonce"),
            identity=identity,
            user=checks.text(message, "user", 1_000),
            term=checks.text(message, "term"),
            head=checks.integer(message, "head"),
            last=checks.integer(message, "last"),
            received_us=checks.integer(message, "received"),
            answered_us=checks.integer(message, "answered"),
            packing=checks.text(message, "packing"),
            reoffer_sent=checks.boolean(message, "reoffer_sent"),
            program=program,
            limits=given,
            last_id=optional_id(message, "last_id"),
        )


@dataclass(frozen=True, slots=True)
class Upload:
    """`clock_us` is the device's raw clock as it sends; `offset_us` what it measured at `hello`, or None.

    `floor` is the least `included` that a waiting mutation was made at: outcomes below it are no longer needed.
    """

    device: str
    clock_us: int
    offset_us: int | None
    groups: tuple[Group, ...]
    floor: int = 0

    def dump(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "clock": self.clock_us,
            "offset": self.offset_us,
            "floor": self.floor,
            "groups": [
                {"marked": group.marked, "mutations": [mutation.dump() for mutation in group.mutations]}
                for group in self.groups
            ],
        }

    @classmethod
    def load(cls, message: dict[str, Any]) -> Upload:
        groups = []
        unmarked = 0
        for item in checks.items(message, "groups", limits.UPLOAD_MUTATIONS_MAX):
            if type(item) is not dict:
                raise checks.bad("groups", "holds something that is not an object")
            mutations = checks.items(item, "mutations", limits.MARKED_GROUP_MUTATIONS_MAX)
            if not mutations:
                raise checks.bad("mutations", "is empty")
            marked = checks.boolean(item, "marked")
            unmarked += 0 if marked else len(mutations)
            if unmarked > limits.UPLOAD_MUTATIONS_MAX:
                raise LimitError(f"An upload holds more than {limits.UPLOAD_MUTATIONS_MAX} mutations.")
            groups.append(Group(marked, tuple(Mutation.load(each) for each in mutations)))
        return cls(
            device=checks.text(message, "device"),
            clock_us=checks.wall(message, "clock"),
            offset_us=None if message.get("offset") is None else checks.wall(message, "offset"),
            groups=tuple(groups),
            floor=checks.integer(message, "floor"),
        )


@dataclass(frozen=True, slots=True)
class UploadAnswer:
    """A hint only: it moves the device's volatile upload position. Outcomes come with the checkpoint."""

    last: int
    gap: bool

    def dump(self) -> dict[str, Any]:
        return {"last": self.last, "gap": self.gap}

    @classmethod
    def load(cls, message: dict[str, Any]) -> UploadAnswer:
        return cls(checks.integer(message, "last"), checks.boolean(message, "gap"))


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a paged download has come: the `token` of the last `progress` that is durable on the device, and the
    digest of the buckets that the job brings, lost ones left out; their names where the server asked for them."""

    token: str
    digest: str
    buckets: tuple[str, ...] | None = None

    def dump(self) -> dict[str, Any]:
        return {
            "token": self.token,
            "digest": self.digest,
            "buckets": None if self.buckets is None else list(self.buckets),
        }

    @classmethod
    def load(cls, message: Any) -> Stage | None:
        if message is None:
            return None
        if type(message) is not dict:
            raise checks.bad("stage", "is not an object")
        named = message.get("buckets")
        return cls(
            token=checks.text(message, "token", limits.STAGE_TOKEN_CHARACTERS_MAX),
            digest=checks.text(message, "digest"),
            buckets=None if named is None else tuple(checks.texts(message, "buckets", limits.BUCKETS_PER_USER_MAX)),
        )


@dataclass(frozen=True, slots=True)
class Download:
    """What the device has: `apply_count` is its counter of applied cuts, echoed by `commit`.

    `digest` is that of the bucket names it holds; `buckets` the names themselves, sent when the server asked for them
    (error `buckets_needed`). `wait_seconds`: hold the answer until there is something, at most so long. `stage`: the
    paged download that is under way.
    """

    device: str
    cursor: str | None
    included: int
    apply_count: int
    digest: str
    buckets: tuple[str, ...] | None = None
    wait_seconds: float = 0.0
    stage: Stage | None = None

    def dump(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "cursor": self.cursor,
            "included": self.included,
            "apply_count": self.apply_count,
            "digest": self.digest,
            "buckets": None if self.buckets is None else list(self.buckets),
            "wait": self.wait_seconds,
            "stage": None if self.stage is None else self.stage.dump(),
        }

    @classmethod
    def load(cls, message: dict[str, Any]) -> Download:
        wait = message.get("wait", 0)
        if type(wait) not in (int, float) or not 0 <= wait <= limits.LONG_POLL_SECONDS_MAX:
            raise checks.bad("wait", f"is not a number from 0 to {limits.LONG_POLL_SECONDS_MAX}")
        named = message.get("buckets")
        return cls(
            device=checks.text(message, "device"),
            cursor=checks.optional_text(message, "cursor"),
            included=checks.integer(message, "included"),
            apply_count=checks.integer(message, "apply_count"),
            digest=checks.text(message, "digest"),
            buckets=None if named is None else tuple(checks.texts(message, "buckets", limits.BUCKETS_PER_USER_MAX)),
            wait_seconds=float(wait),
            stage=Stage.load(message.get("stage")),
        )
