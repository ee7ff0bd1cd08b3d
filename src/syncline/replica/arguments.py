"""What `Replica(…)` refuses to be given."""

from __future__ import annotations

import math

from syncline.errors import ConfigError, ReplicaError
from syncline.replica.file import ReplicaFile
from syncline.replica.transport import Token
from syncline.replica.wipe import wipe_file


def check_arguments(token: Token, schema_version: int | None, verify_hours: float | None) -> None:
    """ConfigError for what would be noticed only later, on the sync thread."""
    if not isinstance(token, str) and not callable(token):
        raise ConfigError(
            f"A token is text, or a function that returns it, not {type(token).__name__}.", code="token_missing"
        )
    if schema_version is not None and (type(schema_version) is not int or not 0 <= schema_version < 2**53):
        raise ConfigError(f"schema_version is a number from 0 on, not {schema_version!r}.", code="schema_version")
    if verify_hours is not None and not (
        type(verify_hours) in (int, float) and math.isfinite(verify_hours) and verify_hours > 0
    ):
        raise ConfigError(
            f"verify_hours is a number of hours above 0, or None, not {verify_hours!r}.", code="verify_hours"
        )


def empty_for_another_user(file: ReplicaFile) -> None:
    """`replace_user`. ReplicaError while changes wait: whoever made them has to send them."""
    pending = file.pending()
    if pending:
        raise ReplicaError(
            f'"{file.path}" still holds {pending} changes that have not reached the office.',
            hint="Sync once more as the user who made them.",
            code="pending_changes",
        )
    wipe_file(file.store, None)
