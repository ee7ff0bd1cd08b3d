"""Syncline: a local SQLite database for every device, kept in step with a database that is already there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from syncline.errors import (
    AuthError,
    ConfigError,
    LimitError,
    NotProvisionedError,
    OtherUserError,
    ProtocolError,
    Reject,
    ReplicaBusyError,
    ReplicaError,
    SchemaChangedError,
    ServerError,
    SourceBusyError,
    SourceError,
    SynclineError,
    SyncTimeoutError,
    UnreachableError,
)

if TYPE_CHECKING:
    from syncline.replica.api import Replica, SyncReport
    from syncline.replica.async_api import AsyncReplica
    from syncline.replica.receipt import Receipt
    from syncline.replica.status import Progress, Status
    from syncline.replica.verify_goal import TableDifference, VerifyReport

__version__ = "0.1.0"

__all__ = [
    "AsyncReplica",
    "AuthError",
    "ConfigError",
    "LimitError",
    "NotProvisionedError",
    "OtherUserError",
    "Progress",
    "ProtocolError",
    "Receipt",
    "Reject",
    "Replica",
    "ReplicaBusyError",
    "ReplicaError",
    "SchemaChangedError",
    "ServerError",
    "SourceBusyError",
    "SourceError",
    "Status",
    "SyncReport",
    "SyncTimeoutError",
    "SynclineError",
    "TableDifference",
    "UnreachableError",
    "VerifyReport",
]

_LAZY = {
    "AsyncReplica": "async_api",
    "Progress": "status",
    "Receipt": "receipt",
    "Replica": "api",
    "Status": "status",
    "SyncReport": "api",
    "TableDifference": "verify_goal",
    "VerifyReport": "verify_goal",
}


def __getattr__(name: str) -> Any:
    """The replica is imported when it is asked for: a server has no use for it, nor for its HTTP client."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"syncline.replica.{_LAZY[name]}"), name)
