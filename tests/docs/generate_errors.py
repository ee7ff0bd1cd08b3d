"""docs/errors.md, written from the catalogue of errors: `python tests/docs/generate_errors.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
sys.path.insert(0, str(ROOT / "src"))

HEAD = """# Errors

Every error says what happened, to which thing, what to do next, and a code in brackets that stays the same across versions. In Python it is `error.code` of a `syncline.SynclineError`, and `error.retry` says whether it may pass by itself;
in an answer of the server `code`; in `status.reason` why a device waits. Commands print it on standard error and exit with 1, or with 2 where the use or the configuration was wrong.

*Again*: it may pass by itself, and Syncline tries again wherever it runs on its own. A device's agent goes on trying after every other error, too; `sync()` raises those at once. None of them costs a row: what was written stays in the file.
"""

CLOSING = """## Close codes
With what the server ends a live connection (`GET /v1/live`). Seen by who writes a client, or looks at a proxy's log.

| number | what it means | what the device does |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    from syncline.error_catalogue import CLOSE_CODES, SECTIONS

    yield HEAD
    for section in SECTIONS:
        yield f"## {section.title}"
        yield f"Seen by: {section.seen_by}.\n"
        for entry in section.entries:
            yield f"### {entry.code}"
            facts = []
            if entry.exit:
                facts.append(f"exit {' or '.join(map(str, entry.exit))}")
            if entry.http:
                facts.append(f"HTTP {' or '.join(map(str, entry.http))}")
            if entry.again:
                facts.append("again")
            told = f" *({', '.join(facts)})*" if facts else ""
            yield f"{entry.meaning}{told}  \n{entry.remedy}\n"
    yield CLOSING + "\n".join(f"| {each.number} | {each.meaning} | {each.again} |" for each in CLOSE_CODES)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
