"""Every error Syncline raises, in one tree.

    SynclineError
    ├── ConfigError          syncline.toml or the command is wrong: nothing was tried
    ├── SourceError          the company's database
    │   ├── SourceBusyError      somebody else holds it; trying again helps
    │   ├── NotProvisionedError  capture is not installed
    │   └── SchemaChangedError   the captured tables are not what provisioning saw
    ├── AuthError            who is asking, and may they
    ├── ProtocolError        a message that is not as docs/protocol.md says
    │   └── LimitError           too large, too deep, too many
    ├── ReplicaError         the file on the device
    │   ├── ReplicaBusyError     another sync agent has the file
    │   ├── ReplicaStorageError  its disk is full, read-only or failing; mended, it goes on by itself
    │   └── OtherUserError       the file belongs to somebody else
    ├── ServerError          the server answered with an error of its own
    ├── UnreachableError     no answer; the engine tries again by itself
    ├── SyncTimeoutError     sync() ran out of time; carries the report so far
    └── Reject               raised by a hook or a rule: this mutation is refused

Each error has a stable `code`, says whether trying again helps (`retry`), and what to do next (`hint`). What each code
means is in `syncline.error_catalogue`, and on docs/errors.md.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SynclineError(Exception):
    """`message` says what happened to which thing; `hint` what to do next; `code` is stable across versions.

    A class has the code of its kind; an error may have a narrower one, also as `error_code`.
    """

    code: str = "error"
    retry: ClassVar[bool] = False
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = self.error_code = code or type(self).code

    def __str__(self) -> str:
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.message}{hint} [{self.error_code}]"


class ConfigError(SynclineError):
    code = "config"
    exit_status = 2


class SourceError(SynclineError):
    code = "source"


class SourceBusyError(SourceError):
    code = "source_busy"
    retry = True


class NotProvisionedError(SourceError):
    code = "not_provisioned"


class SchemaChangedError(SourceError):
    code = "schema_changed"


class AuthError(SynclineError):
    """`status` is the HTTP status that carries it: 401 (who are you) or 403 (you may not)."""

    code = "auth"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, status: int = 401) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class ProtocolError(SynclineError):
    code = "protocol"


class LimitError(ProtocolError):
    code = "limit"


class ReplicaError(SynclineError):
    code = "replica"


class ReplicaBusyError(ReplicaError):
    code = "replica_busy"
    retry = True


class ReplicaStorageError(ReplicaError):
    code = "replica_storage"
    retry = True


class OtherUserError(ReplicaError):
    code = "other_user"


class ServerError(SynclineError):
    """`retry_after_seconds` is what the server asked for, or None."""

    code = "server"
    retry = True

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_seconds = retry_after_seconds


class UnreachableError(SynclineError):
    code = "unreachable"
    retry = True


class SyncTimeoutError(SynclineError):
    """`report` is the SyncReport of what was done until the time ran out."""

    code = "sync_timeout"
    retry = True

    def __init__(self, message: str, *, report: Any, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.report = report


class Reject(SynclineError):  # noqa: N818 - a verb on purpose: `raise Reject("visit_closed", "…")`
    """Refuses one mutation: `code` for programs, `reason` for the person who made the change."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason, code=code)
        self.reason = reason
