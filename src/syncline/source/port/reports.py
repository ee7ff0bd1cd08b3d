"""What a person is told of a source, and of the devices at it."""

from __future__ import annotations

from dataclasses import dataclass, field

from syncline.errors import ConfigError
from syncline.source.port.downloads import Claims


class ReadsUnseenError(ConfigError):
    """A query works, but the database does not let its reader see what it reads."""

    code = "query_fails"


@dataclass(frozen=True)
class ProvisionReport:
    """`created`: tables newly under capture; `unchanged`: those that already were; `statements`: the script; `anew`:
    those that every device gets whole with the next checkpoint."""

    created: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    statements: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with an installation, what to do about it, and a stable code. With `is_note` nothing is wrong:
    it is good to know."""

    what: str
    remedy: str
    code: str
    is_note: bool = False


@dataclass(frozen=True)
class ExampleDownload:
    """What one user's first download of a scope brings: `bytes` of rows as JSON, before compression."""

    claims: Claims
    buckets: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Removal:
    """What `deprovision` found. `left`: rights that a script gave, and who has them: for whoever gave them to take
    back."""

    found: bool
    left: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.found


@dataclass(frozen=True)
class ScopeReport:
    """What `check` says of one scope. `keyless_rows`: table -> rows whose key holds NULL, which sync to nobody.
    `example` is None where no user was found or named whom the grant knows. `estimated`: tables too large to be
    counted, of which the database's own estimate of all rows stands in `tables`; `largest_bucket` is not known then.
    `warnings`: what kept it from being told. `unread`: tables that the role may not read; nothing was counted then."""

    scope: str
    tables: dict[str, int]
    buckets: int
    largest_bucket: str | None = None
    largest_rows: int = 0
    keyless_rows: dict[str, int] = field(default_factory=dict)
    example: ExampleDownload | None = None
    estimated: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registration:
    """What `hello` decides about a device (DESIGN.md section 7, identity)."""

    device: str
    number: int
    nonce: str
    identity: str
    last: int
    reoffer_sent: bool
    last_id: bytes | None = None


@dataclass(frozen=True)
class RecordFilter:
    user: str | None = None
    device: str | None = None
    limit: int = 1000
