"""What a document has to be to be a program."""

from __future__ import annotations

from typing import Any

import pytest

from syncline.errors import ProtocolError
from syncline.model.program import Program


@pytest.mark.parametrize("version", [99, "x" * 10_000, ["a value"], 10**400, None])
def test_a_program_of_another_version_is_refused_without_repeating_what_it_says(version: Any) -> None:
    """P19: it may be as long as a frame, and hold anything (found by the fuzzing)."""
    with pytest.raises(ProtocolError) as caught:
        Program.load({"tables": {}, "version": version})
    assert caught.value.error_code == "program_version"
    assert len(str(caught.value)) < 200
    assert "a value" not in str(caught.value)
    assert ("99" in str(caught.value)) == (version == 99)
