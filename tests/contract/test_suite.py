"""The contract suite is one class of many bases: a name used twice would hide a test."""

from __future__ import annotations

from syncline.testing.source_contract import SourceContract


def test_no_test_of_the_suite_hides_another() -> None:
    owners: dict[str, list[str]] = {}
    for base in SourceContract.__mro__:
        for name in vars(base):
            if name.startswith("test_"):
                owners.setdefault(name, []).append(base.__name__)
    assert owners
    assert {name: bases for name, bases in owners.items() if len(bases) > 1} == {}
