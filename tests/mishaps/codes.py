"""Which codes the sources can show, and how, read from their syntax trees."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import syncline
from syncline.errors import AuthError, LimitError, ProtocolError, SynclineError

PACKAGE = Path(syncline.__file__).parent
NOT_SHOWN = ("testing", "error_catalogue")


@dataclass(frozen=True)
class Use:
    """`kind`: the class that is raised, "rejection", "finding", or "" where it only passes through. `http`: the status
    that a server's answer would have."""

    code: str
    place: str
    kind: str
    http: int | None = None


@cache
def trees() -> dict[Path, ast.Module]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if not set(NOT_SHOWN) & set(path.parts)]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


@cache
def classes() -> dict[str, type[SynclineError]]:
    """Every error class of the product by its name."""
    for path, tree in trees().items():
        if any(isinstance(node, ast.ClassDef) and node.name.endswith("Error") for node in ast.walk(tree)):
            importlib.import_module(".".join(("syncline", *path.relative_to(PACKAGE).with_suffix("").parts)))
    return {kind.__name__: kind for kind in _descendants(SynclineError)}


def _descendants(kind: type[SynclineError]) -> Iterator[type[SynclineError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("syncline."):
            yield from _descendants(child)


@cache
def uses() -> tuple[Use, ...]:
    return tuple(_all_uses())


def _all_uses() -> Iterator[Use]:
    positions = _positions()
    for path, tree in trees().items():
        place = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(tree):
            for code, kind, http in _of_node(node, positions):
                yield Use(code, f"{place}:{node.lineno}", kind, http)


def _positions() -> dict[str, int]:
    """Function or class -> at which place it takes a `code`."""
    found = {}
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__":
                names = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
            elif isinstance(node, ast.ClassDef):
                names = _constructor(node)
            else:
                continue
            if "code" in names:
                found[node.name] = names.index("code")
    return found


def _constructor(node: ast.ClassDef) -> list[str]:
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return [argument.arg for argument in each.args.args][1:]
    return [
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]


def _of_node(node: ast.AST, positions: dict[str, int]) -> Iterator[tuple[str, str, int | None]]:
    if isinstance(node, ast.Call):
        yield from _of_call(node, positions)
    elif isinstance(node, ast.ClassDef) and node.name in classes():
        for each in node.body:
            target = each.targets[0] if isinstance(each, ast.Assign) else getattr(each, "target", None)
            value = getattr(each, "value", None)
            if getattr(target, "id", "") == "code" and isinstance(value, ast.expr):
                yield from ((code, node.name, None) for code in _constants(value))
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "code":
                yield from ((code, "", None) for code in _constants(value))
    elif isinstance(node, ast.Assign):
        yield from _of_assignment(node)


def _of_call(node: ast.Call, positions: dict[str, int]) -> Iterator[tuple[str, str, int | None]]:
    called = getattr(node.func, "id", getattr(node.func, "attr", ""))
    given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
    place = positions.get(called)
    if place is not None and place < len(node.args):
        given.append(node.args[place])
    if called == "Verdict" and getattr(node.args[0], "value", "") != "rejected":
        return  # how a change was merged: the kinds of conflicts, not codes
    if not given and called in classes() and called != "Reject":
        yield classes()[called].code, called, _status(node, called)
    for value in given:
        yield from ((code, _kind(called), _status(node, called)) for code in _constants(value))


def _kind(called: str) -> str:
    if called in ("Reject", "SourceRefusedError", "Verdict"):
        return "rejection"
    if called in ("problem", "refusal"):
        return "ConfigError"
    return "finding" if called == "Finding" else called if called in classes() else ""


def _status(node: ast.Call, called: str) -> int | None:
    """As `syncline.server.answers.status_of` has it."""
    if called not in classes():
        return None
    kind = classes()[called]
    if issubclass(kind, AuthError):
        told = [keyword.value for keyword in node.keywords if keyword.arg == "status"]
        return told[0].value if told and isinstance(told[0], ast.Constant) else 401  # type: ignore[return-value]
    return 413 if issubclass(kind, LimitError) else 400 if issubclass(kind, ProtocolError) else 503


def _of_assignment(node: ast.Assign) -> Iterator[tuple[str, str, int | None]]:
    """`code, said = "unique", "…"` in what tells a constraint's failure, and `code = "…"`."""
    for target in node.targets:
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = (
            node.value.elts if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) else [node.value]
        )
        for name, value in zip(names, values, strict=False):
            if getattr(name, "id", "") == "code":
                yield from ((code, "", None) for code in _constants(value))


def _constants(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from _constants(value.body)
        yield from _constants(value.orelse)
    elif isinstance(value, ast.BoolOp):
        for each in value.values:
            yield from _constants(each)


def used_codes() -> dict[str, list[Use]]:
    """Code -> where it is raised or told, tables of (…, code) included."""
    found: dict[str, list[Use]] = defaultdict(list)
    for use in uses():
        found[use.code].append(use)
    for use in _tabled():
        found[use.code].append(use)
    return dict(found)


def _tabled() -> Iterator[Use]:
    """Codes that stand in a table beside what they are for, and are looked up there."""
    from syncline.replica import storage, transport

    for _, code, _ in transport._OBSTACLES:
        yield Use(code, "replica/transport.py", "UnreachableError")
    for _, _, code in storage._STORAGE.values():
        yield Use(code, "replica/storage.py", "ReplicaStorageError")


def kinds_of(found: list[Use]) -> list[type[Any]]:
    return [classes()[use.kind] for use in found if use.kind in classes()]
