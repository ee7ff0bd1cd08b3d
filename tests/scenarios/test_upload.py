"""A phone's file and the company's database are not each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncline.errors import ReplicaError
from syncline.replica.file import ReplicaFile
from syncline.testing.bench import Office
from syncline.testing.company_database import SqliteDatabase
from syncline.testing.contract_clinic import CONFIG, clinic_tables
from syncline.testing.dialect import SQLITE


def test_the_companys_database_is_no_replica(tmp_path: Path) -> None:
    """P15."""
    database = SqliteDatabase(tmp_path)
    office = Office(tmp_path, clinic_tables(SQLITE), CONFIG, database=database)
    with pytest.raises(ReplicaError, match="serves from"):
        ReplicaFile(database.path)
    office.close()
    database.close()
