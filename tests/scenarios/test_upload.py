"""A phone's file and the company's database are not each other."""

from __future__ import annotations

import pytest

from syncline.errors import ReplicaError
from syncline.replica.file import ReplicaFile
from syncline.testing.bench import Office


def test_the_companys_database_is_no_replica(office: Office) -> None:
    """P15."""
    with pytest.raises(ReplicaError, match="serves from"):
        ReplicaFile(office.database.path)
