"""The error tree: one picture, stable codes, something to do next."""

from __future__ import annotations

import re

import pytest

from syncline import errors
from syncline.errors import AuthError, LimitError, ProtocolError, Reject, ServerError, SynclineError, SyncTimeoutError


def children(kind: type[SynclineError]) -> list[type[SynclineError]]:
    return [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]


def tree(root: type[SynclineError], depth: int = 0) -> list[tuple[int, str]]:
    return [(depth, root.__name__)] + [line for kind in children(root) for line in tree(kind, depth + 1)]


def test_the_picture_shows_the_tree() -> None:
    lines = [re.match(r" {4}([│├└─ ]*)(\w+)", line) for line in (errors.__doc__ or "").splitlines()]
    assert [(len(line[1]) // 4, line[2]) for line in lines if line] == tree(SynclineError)


def kinds(root: type[SynclineError] = SynclineError) -> list[type[SynclineError]]:
    return [root, *(found for kind in children(root) for found in kinds(kind))]


def test_every_kind_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in kinds() if kind is not Reject]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)


def test_the_codes_stay() -> None:
    """Programs and runbooks look for them."""
    stable = {
        "SynclineError": "error",
        "ConfigError": "config",
        "SourceError": "source",
        "SourceBusyError": "source_busy",
        "NotProvisionedError": "not_provisioned",
        "SchemaChangedError": "schema_changed",
        "AuthError": "auth",
        "ProtocolError": "protocol",
        "LimitError": "limit",
        "ReplicaError": "replica",
        "ReplicaBusyError": "replica_busy",
        "ReplicaStorageError": "replica_storage",
        "OtherUserError": "other_user",
        "ServerError": "server",
        "UnreachableError": "unreachable",
        "SyncTimeoutError": "sync_timeout",
    }
    assert {name: getattr(errors, name).code for name in stable} == stable


def test_trying_again_helps_only_where_the_state_passes_by_itself() -> None:
    retried = {kind.__name__ for kind in kinds() if kind.retry}
    waits = {"SourceBusyError", "ReplicaBusyError", "ReplicaStorageError"}
    assert retried == waits | {"ServerError", "UnreachableError", "SyncTimeoutError"}


def test_an_error_says_what_happened_what_to_do_and_its_code() -> None:
    assert str(ProtocolError("A frame is damaged.")) == "A frame is damaged. [protocol]"
    assert str(ProtocolError("Too old.", hint="Update.", code="old")) == "Too old. Update. [old]"


@pytest.mark.parametrize(("given", "expected"), [(None, "limit"), ("bucket_limit", "bucket_limit")])
def test_a_narrower_code_is_the_errors_code(given: str | None, expected: str) -> None:
    error = LimitError("x", code=given)
    assert (error.code, error.error_code, LimitError.code) == (expected, expected, "limit")


def test_a_limit_passed_is_a_protocol_error() -> None:
    """P19: who catches ProtocolError has caught every hostile message."""
    assert issubclass(LimitError, ProtocolError)


def test_a_rejection_has_a_code_for_programs_and_a_reason_for_people() -> None:
    rejection = Reject("visit_closed", "This visit is closed.")
    assert (rejection.code, rejection.reason, rejection.message) == ("visit_closed", *["This visit is closed."] * 2)
    assert Reject.code == "error"


def test_what_an_error_carries() -> None:
    assert AuthError("no").status == 401
    assert AuthError("no", status=403).status == 403
    assert ServerError("busy").retry_after_seconds is None
    assert ServerError("busy", retry_after_seconds=2.5).retry_after_seconds == 2.5
    assert SyncTimeoutError("late", report="so far").report == "so far"


def test_wrong_configuration_exits_with_2_and_all_else_with_1() -> None:
    assert {kind.__name__ for kind in kinds() if kind.exit_status == 2} == {"ConfigError"}
