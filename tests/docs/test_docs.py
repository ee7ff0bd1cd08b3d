"""What the documentation says is so: commands, options, links, codes, modules, tests and configurations exist."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.docs import generate

from syncline.cli.main import app
from syncline.server.config import load_plan, parse_settings
from syncline.server.config_options import OPTIONS
from syncline.source.sqlite.source import SqliteSource

ROOT = generate.ROOT
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
RELIABILITY = (DOCS / "reliability.md").read_text(encoding="utf-8")
CONCEPTS = (DOCS / "concepts.md").read_text(encoding="utf-8")
HEADER = '[source]\nurl = "sqlite:///clinic.db"\n\n[auth]\nsecret = "thirty-two bytes or more for the tests"\n\n'


def blocks(language: str) -> Iterator[Any]:
    """Every fenced block of that language, named by its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, found.start()) + 1
            yield pytest.param(found[1], id=f"{page.relative_to(ROOT)}:{line}")


# ---------------------------------------------------------------- promises
@pytest.mark.parametrize("promise", generate.PROMISES)
def test_every_promise_has_its_section_and_its_state(promise: str) -> None:
    assert re.search(rf"^## {promise}$", RELIABILITY, re.MULTILINE)
    row = re.search(
        rf"^\| \[{promise}\]\(#{promise.lower()}\) \| .+ \| (kept|partly|not yet) \|$", RELIABILITY, re.MULTILINE
    )
    assert row
    section = RELIABILITY.split(f"\n## {promise}\n")[1].split("\n## ")[0]
    assert "Enforced: " in section
    assert row[1] == "kept" or "Limits: " in section or promise == "P21"
    assert row[1] != "kept" or generate.read_promises()[promise], f"{promise} is called kept, and no test names it"


@pytest.mark.parametrize("promise", generate.PROMISES)
def test_the_tests_of_a_promise_are_those_that_name_it(promise: str) -> None:
    found = re.search(rf"<!-- tests of {promise} -->\n(.*?)<!-- end -->", RELIABILITY, re.DOTALL)
    assert found and found[1] == generate.promise_lists()[f"tests of {promise}"], "run: python tests/docs/generate.py"


def test_the_state_tables_are_those_of_the_code() -> None:
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    for name, content in generate.parts().items():
        if name.startswith("session "):
            assert f"<!-- {name} -->\n{content}<!-- end -->" in text, "run: python tests/docs/generate.py"


def test_every_test_that_a_page_names_exists() -> None:
    known = {name for path in generate.test_files() for name, _ in generate.tests_of(path)}
    for page in PAGES:
        named = set(re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")))
        assert named <= known, f"{page.name}: {sorted(named - known)}"


# ---------------------------------------------------------------- what can be run
@pytest.mark.parametrize("block", [*blocks("python")])
def test_python_parses(block: str) -> None:
    ast.parse(block)


@pytest.mark.parametrize("block", [*blocks("toml")])
def test_toml_is_a_configuration(block: str, tmp_path: Path) -> None:
    """Fragments with scopes are completed; sections that a scope must hold are loaded as they are."""
    tomllib.loads(block)
    text = block if "[source]" in block else HEADER + block
    assert parse_settings(text, folder=tmp_path, environment={}).plan_config.scopes


@pytest.mark.parametrize("block", [found for found in blocks("toml") if "concepts.md" in (found.id or "")])
def test_the_examples_of_scopes_fit_the_example_database(block: str, tmp_path: Path) -> None:
    schema = re.search(r"^```sql\n(.*?)^```$", CONCEPTS, re.DOTALL | re.MULTILINE)
    assert schema
    database = tmp_path / "clinic.db"
    connection = sqlite3.connect(database)
    connection.executescript(schema[1])
    connection.close()
    settings = parse_settings(HEADER + block, folder=tmp_path, environment={})

    async def plan() -> None:
        source = SqliteSource(database, inline=True)
        try:
            assert (await load_plan(settings, source)).tables
        finally:
            await source.close()

    asyncio.run(plan())


def command_lines() -> Iterator[Any]:
    """`syncline …` in shell blocks and in running text."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
        found = re.findall(r"^syncline .+$", shell, re.MULTILINE)
        found += re.findall(
            r"`(syncline [a-z][^`]*)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        )
        for line in dict.fromkeys(found):
            yield pytest.param(line, id=f"{page.name}: {line}")


@pytest.mark.parametrize("line", [*command_lines()])
def test_every_command_that_is_named_exists_with_its_options(line: str) -> None:
    words = shlex.split(line.partition(">")[0].replace("&", ""), comments=True)[1:]
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert command.name not in (None, "syncline"), "no such command"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    assert {word for word in words if word.startswith("-") and word != "--"} <= known


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE))
        missing = named - targets
        assert not missing or (page.name == "README.md" and missing <= {"bench"}), f"{page.name}: {missing}"


def test_what_the_readme_calls_missing_is_missing() -> None:
    """The list of what does not work yet is looked at when one of these arrives."""
    import syncline
    from syncline import Replica
    from syncline.model import merge
    from syncline.server import config_models

    missing = (ROOT / "README.md").read_text(encoding="utf-8").split("## What does not work yet")[1].split("\n## ")[0]
    commands = set(getattr(typer.main.get_command(app), "commands", {}))
    for name in ("migrate", "admin", "explain", "verify", "simulate", "doctor"):
        assert (name in commands) != (f"`{name}`" in missing), name
    for name in ("watch", "retry", "new_key"):
        assert hasattr(Replica, name) != (f"`{name}`" in missing), name
    assert hasattr(syncline, "AsyncReplica") != ("`AsyncReplica`" in missing)
    for name in ("device", "reject", "text", "union", "yjs"):
        assert (name in merge._policies) != (f"`{name}`" in missing), name
    assert (("hooks",) in config_models.NOT_YET) == ("No hooks" in missing)
    assert (("forward",) in config_models.NOT_YET) == ("no forwarding" in missing)
    assert (("auth", "jwks_url") in config_models.NOT_YET) == ("JWKS" in missing)


# ---------------------------------------------------------------- what is named
def test_every_relative_link_leads_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            found = (page.parent / name).resolve() if name else page
            assert found.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(found), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rejection_codes() -> set[str]:
    """Every code that a rejection may carry, as the sources write it."""
    found: set[str] = set()
    for name in (
        "server/judge.py",
        "server/uploads.py",
        "model/merge.py",
        "source/sqlite/upload.py",
        "source/sqlite/source.py",
        *(f"source/postgres/{path.name}" for path in (ROOT / "src/syncline/source/postgres").glob("*.py")),
    ):
        for node in ast.walk(ast.parse((ROOT / "src" / "syncline" / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                called = getattr(node.func, "id", "")
                place = {"Reject": 0, "SourceRefusedError": 0}.get(called)
                if called == "Verdict" and getattr(node.args[0], "value", "") == "rejected":
                    place = 1
                if place is not None and isinstance(node.args[place], ast.Constant):
                    found.add(node.args[place].value)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                names = [getattr(each, "id", "") for each in getattr(node.targets[0], "elts", [])]
                if names[:1] == ["code"] and isinstance(node.value.elts[0], ast.Constant):
                    found.add(node.value.elts[0].value)
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("_told"):
                found |= first_constants(node)
    return found


def first_constants(function: ast.FunctionDef) -> set[str]:
    """Of the pairs that it returns."""
    pairs = [node for node in ast.walk(function) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    first = [pair.elts[0] for pair in pairs if isinstance(pair.ctx, ast.Load)]
    codes = {each.value for each in first if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return {code for code in codes if re.fullmatch(r"[a-z_]+", code)}


def test_every_rejection_code_is_explained_and_no_other() -> None:
    codes = rejection_codes()
    assert {"scope", "key_exists", "group", "unique", "refused", "out_of_range"} <= codes
    table = CONCEPTS.split("## Rejections")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == codes


def test_every_conflict_kind_and_policy_is_explained() -> None:
    from syncline.model import merge

    kinds = {"won", "lost", "gone", "reborn", "delete"}
    judge = (ROOT / "src" / "syncline" / "server" / "judge.py").read_text(encoding="utf-8")
    assert all(f'"{kind}"' in judge for kind in kinds)
    table = CONCEPTS.split("## Conflicts")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == kinds
    merging = CONCEPTS.split("## Merging")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", merging, re.MULTILINE)) == {"latest", "server", "add"}
    assert {"latest", "server", "add"} <= set(merge._policies)


def test_every_file_and_table_that_a_page_names_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:src|tests|examples|docs)/[\w/.\-]+)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_architecture_names_every_package_and_every_table_of_ours() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "syncline"
    for folder in package.iterdir():
        if folder.is_dir() and (folder / "__init__.py").exists():
            assert f"`src/syncline/{folder.name}/`" in text, folder.name
    source = (package / "source" / "sqlite" / "tables.sql").read_text(encoding="utf-8")
    from syncline.model.program_base import BOOTSTRAP

    for name in re.findall(r"(?:TABLE|VIEW) IF NOT EXISTS (syncline_\w+)", source + "".join(BOOTSTRAP)):
        assert f"`{name}`" in text, name


def test_every_section_of_the_configuration_is_known_to_the_concepts() -> None:
    assert {option.section for option in OPTIONS} == {"source", "auth", "serve", "retention"}
    for section in ("[scope.", "[columns]", "[table.", "[merge."):
        assert section in CONCEPTS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp|Users|opt)/", text)
