"""The table of DESIGN.md section 11: a module imports only from lower rows, and rows 0 to 2 are pure.

The rows are those of `.importlinter`, which also runs in `make check`; here, too, is what it cannot say.
"""

from __future__ import annotations

import ast
import configparser
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "syncline"


def read_rows() -> dict[str, int]:
    """Part of the package -> its row, 0 lowest."""
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter")
    lines = linter["importlinter:contract:layers"]["layers"].split("\n")
    layers = [re.findall(r"syncline\.(\w+)", line) for line in lines if line.strip()]
    return {part: row for row, parts in enumerate(reversed(layers)) for part in parts}


ROWS = read_rows()
APART = {("server", "replica"), ("replica", "server"), ("system", "source")}
"""Parts of one row of which the first must not know the second."""

IMPURE = {
    *(
        "asyncio",
        "concurrent",
        "http",
        "importlib",
        "io",
        "locale",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
    ),
    *("secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile"),
    *("threading", "time", "urllib", "uuid", "zoneinfo"),
}
IMPURE_CALLS = {"now", "utcnow", "today", "open", "input", "print", "__import__", "exec", "eval"}
ACCELERATORS = {("protocol", "zstandard")}


def base_dependencies() -> set[str]:
    """What the bare install brings: all that a phone has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {re.split(r"[<>=\[]", dependency)[0] for dependency in project["dependencies"]}


def imports_of(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Every imported name in full (`syncline.limits`, also for `from syncline import limits`), with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
            base = ".".join([*(above if node.level else []), *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "syncline" else [base]
            yield from ((name, node.lineno) for name in names)


def is_optional(tree: ast.AST, name: str) -> bool:
    """Whether every import of a module stands in a `try` that catches ImportError."""
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any("ImportError" in ast.dump(each) for each in node.handlers)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    return all(
        id(node) in guarded
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and name in {alias.name.partition(".")[0] for alias in node.names}
    )


def refuse_import(part: str, module: str, name: str, tree: ast.AST) -> str | None:
    """Why this module must not import that name, or None."""
    top, _, rest = name.partition(".")
    row = ROWS[part]
    if top == "syncline":
        other = rest.partition(".")[0]
        if other not in ROWS:  # `from syncline import Replica`
            return "the package's front door, which stands above the replica" if row <= ROWS["replica"] else None
        if other == "testing" and part != "testing" and not module.startswith("syncline.cli.simulate"):
            return "testing is for users; only cli/simulate imports it"
        if ROWS[other] > row:
            return f"{other} is in row {ROWS[other]}, above row {row}"
        return f"{part} must not know {other}" if (part, other) in APART else None
    if top in sys.stdlib_module_names:
        return "rows 0 to 2 do no I/O and look at no clock" if row <= 2 and top in IMPURE else None
    if (part, top) in ACCELERATORS:
        return None if is_optional(tree, top) else "an accelerator is optional"
    if row <= 2:
        return "rows 0 to 2 need nobody else's package"
    if part in ("replica", "system") and top not in base_dependencies() and not is_optional(tree, top):
        return "the replica runs on what the bare install brings"
    return None


def impure_statements(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield "async begins in row 3", node.lineno
        elif isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in IMPURE_CALLS:
                yield f"{name}() in rows 0 to 2", node.lineno


def violations(package: Path) -> list[str]:
    """Every breach of the table under `package`, as `file:line: what: why`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        part = relative.parts[0].removesuffix(".py")
        if part in ("__init__", "__main__"):
            continue
        if part not in ROWS:
            found.append(f"{relative}:1: {part}: has no row in .importlinter")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(["syncline", *relative.with_suffix("").parts]).removesuffix(".__init__")
        for name, line in imports_of(tree, module, path.stem == "__init__"):
            why = refuse_import(part, module, name, tree)
            if why:
                found.append(f"{relative}:{line}: {name}: {why}")
        if ROWS[part] <= 2:
            found += [f"{relative}:{line}: {what}" for what, line in impure_statements(tree)]
    return found


def test_the_rows_are_those_of_the_design() -> None:
    order = ["values", "protocol", "model", "source", "server", "testing", "cli"]
    assert [ROWS[part] for part in order] == list(range(7))
    assert ROWS["errors"] == ROWS["clock"] == ROWS["limits"] == ROWS["log"] == 0
    assert ROWS["system"] == ROWS["source"] and ROWS["server"] == ROWS["replica"]


def test_every_module_keeps_to_the_table() -> None:
    assert violations(PACKAGE) == []


PLANTED = {
    "upwards": ("protocol/bad.py", "from syncline.model import merge", "model is in row 2, above row 1"),
    "upwards inside a function": ("values.py", "def f():\n    import syncline.protocol.frames", "protocol is in row 1"),
    "upwards for types only": (
        "model/bad.py",
        "if TYPE_CHECKING:\n    from syncline.source import port",
        "source is in row 3",
    ),
    "upwards by a relative import": ("protocol/bad.py", "from ..server import app", "server is in row 4"),
    "upwards by a package's relative import": (
        "model/__init__.py",
        "from ..source.port import Head",
        "source is in row 3",
    ),
    "upwards by way of the root": ("model/bad.py", "from syncline import source", "source is in row 3"),
    "the front door": ("server/bad.py", "from syncline import Replica", "front door"),
    "server knows replica": ("server/bad.py", "import syncline.replica.apply", "server must not know replica"),
    "replica knows server": ("replica/bad.py", "from syncline.server.app import x", "replica must not know server"),
    "system knows source": ("system/bad.py", "from syncline.source import port", "system must not know source"),
    "testing in a verb": ("cli/serve.py", "from syncline.testing import simulator", "only cli/simulate"),
    "a clock": ("model/bad.py", "import time", "look at no clock"),
    "chance": ("values.py", "from random import random", "do no I/O"),
    "a thread": ("log.py", "import threading", "do no I/O"),
    "a socket": ("protocol/bad.py", "import socket", "do no I/O"),
    "an event loop": ("protocol/bad.py", "import asyncio", "do no I/O"),
    "a parent package": ("protocol/bad.py", "import urllib.request", "do no I/O"),
    "the time of day": ("clock.py", "from datetime import datetime\nx = datetime.now()", "now() in rows 0 to 2"),
    "today": ("model/bad.py", "import datetime\nx = datetime.date.today()", "today() in rows 0 to 2"),
    "a file": ("model/bad.py", "x = open('f')", "open() in rows 0 to 2"),
    "an import by name": ("model/bad.py", "__import__('time')", "__import__() in rows 0 to 2"),
    "async": ("model/bad.py", "async def f(): ...", "async begins in row 3"),
    "a package in row 0": ("values.py", "import msgspec", "nobody else's package"),
    "a package in protocol": ("protocol/bad.py", "import msgspec", "nobody else's package"),
    "a package in model": ("model/bad.py", "from sqlglot import parse", "nobody else's package"),
    "zstandard in model": ("model/bad.py", "import zstandard", "nobody else's package"),
    "zstandard where it is needed": ("protocol/bad.py", "import zstandard", "an accelerator is optional"),
    "a server's package on the phone": ("replica/bad.py", "import starlette", "what the bare install brings"),
    "no row": ("extras/bad.py", "", "has no row"),
}


def plant(folder: Path, name: str, code: str) -> list[str]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, encoding="utf-8")
    return violations(folder)


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_is_found(case: str, tmp_path: Path) -> None:
    name, code, why = PLANTED[case]
    found = plant(tmp_path, name, code)
    assert len(found) == 1, found
    assert found[0].startswith(f"{name}:") and why in found[0]


ALLOWED = {
    "downwards": ("server/good.py", "from syncline import limits\nfrom syncline.protocol import frames\nimport time"),
    "its own part": (
        "model/good.py",
        "from . import merge\nfrom .schema import Table\nfrom syncline.model import scopes",
    ),
    "its own row": ("values.py", "from syncline.errors import ProtocolError"),
    "the source's machine": ("source/sqlite/good.py", "from syncline.system.database import open_database"),
    "a package's own modules": ("model/__init__.py", "from .merge import Stamp"),
    "the accelerator": ("protocol/good.py", "try:\n    import zstandard\nexcept ImportError:\n    zstandard = None"),
    "a type of the date": ("model/good.py", "from datetime import datetime\nx = datetime(2026, 1, 1)"),
    "the replica's packages": ("replica/good.py", "import httpx\nimport websockets.sync.client\nimport sqlite3"),
    "the simulator's verb": ("cli/simulate.py", "from syncline.testing import simulator"),
    "the front door from above": ("cli/good.py", "from syncline import Replica"),
    "the front door itself": ("__init__.py", "from syncline.replica.api import Replica"),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_the_table_allows_is_not_reported(case: str, tmp_path: Path) -> None:
    assert plant(tmp_path, *ALLOWED[case]) == []
