"""The parts of the documentation that are read out of the code: `python tests/docs/generate.py` writes them anew.

They stand between `<!-- NAME -->` and `<!-- end -->`. A test compares them.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "src"))

PROMISES = tuple(f"P{number}" for number in range(1, 23))
_NUMBER = re.compile(r"\bP(?:[1-9]|1\d|2[0-2])\b")
_PART = re.compile(r"(<!-- (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def test_files() -> list[Path]:
    """Where tests stand: below tests/, and the contract suite that is shipped."""
    own = ROOT / "tests" / "docs"
    found = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if own not in path.parents]
    shipped = ROOT / "src" / "syncline" / "testing"
    return [*found, *sorted(shipped.glob("contract_*.py")), shipped / "source_contract.py"]


def tests_of(path: Path) -> Iterator[tuple[str, str]]:
    """Every test function with its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def read_promises() -> dict[str, dict[str, list[str]]]:
    """Promise -> file -> the tests whose docstring names it."""
    found: dict[str, dict[str, list[str]]] = {promise: {} for promise in PROMISES}
    for path in test_files():
        for name, told in tests_of(path):
            for promise in dict.fromkeys(_NUMBER.findall(told)):
                found[promise].setdefault(path.relative_to(ROOT).as_posix(), []).append(name)
    return found


def promise_lists() -> dict[str, str]:
    lists = {}
    for promise, files in read_promises().items():
        lists[f"tests of {promise}"] = _folded(files) if files else "No test names it yet.\n"
    return lists


def _folded(files: dict[str, list[str]]) -> str:
    """Whoever wants to read them opens them."""
    count = sum(map(len, files.values()))
    lines = [f"- `{file}`: {', '.join(f'`{name}`' for name in names)}" for file, names in files.items()]
    summary = f"<summary>{count} test{'s' * (count > 1)} in {len(files)} file{'s' * (len(files) > 1)}</summary>"
    return "\n".join(["<details>", summary, "", *lines, "", "</details>"]) + "\n"


def server_table() -> str:
    """State × event of the server's side; what is not told leaves all as it is."""
    from syncline.server.session import TRANSITIONS, Event, State

    def cell(state: State, event: Event) -> str:
        after, effects = TRANSITIONS[state, event]
        if after is state and not effects:
            return "·"
        return " ".join([str(after), *(f"**{effect}**" for effect in effects)])

    return _table([*State], [*Event], cell)


def device_table() -> str:
    from syncline.replica.session import TABLE, Event, State, ignore

    def cell(state: State, event: Event) -> str:
        handler = TABLE[state][event]
        return "·" if handler is ignore else handler.__name__.replace("_", " ")

    return _table([*State], [*Event], cell)


def device_steps() -> str:
    from syncline.replica.session import TABLE, ignore

    handlers = {
        handler.__name__: handler for row in TABLE.values() for handler in row.values() if handler is not ignore
    }
    lines = ["| step | what it does |", "|---|---|"]
    for name, handler in sorted(handlers.items()):
        lines.append(f"| {name.replace('_', ' ')} | {' '.join((handler.__doc__ or '').split())} |")
    return "\n".join(lines) + "\n"


def _table(states: list, events: list, cell) -> str:  # type: ignore[no-untyped-def, type-arg]
    lines = ["| event | " + " | ".join(f"`{state}`" for state in states) + " |", "|---" * (len(states) + 1) + "|"]
    for event in events:
        lines.append(f"| `{event}` | " + " | ".join(cell(state, event) for state in states) + " |")
    return "\n".join(lines) + "\n"


def parts() -> dict[str, str]:
    """Name of a part -> what stands there."""
    protocol = {"session server": server_table(), "session device": device_table(), "session steps": device_steps()}
    return {**promise_lists(), **protocol}


def rewritten(text: str) -> str:
    known = parts()
    return _PART.sub(lambda found: found[1] + known[found["name"]] + found[3], text)


def main() -> None:
    for name in ("reliability.md", "protocol.md"):
        path = DOCS / name
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
