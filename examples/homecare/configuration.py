"""The clinic's syncline.toml, and the folder that the demonstration keeps its files in."""

from __future__ import annotations

import secrets
from pathlib import Path
from string import Template

from examples.homecare.company import Size, build_company

MARK = "# Made by `python -m examples.homecare`: the whole folder is made anew at every run.\n"
SOURCE = "clinic.db"
CONFIG = "syncline.toml"

GRANT = "SELECT patient_id FROM assignments WHERE nurse_id = :sub AND ended_at IS NULL"
HIDDEN = {"patients": ("ssn",)}

TEMPLATE = Template(
    MARK
    + """
[source]
url = "sqlite:///$source"

[auth]
secret = "$secret"              # development only; a company's own identity provider takes its place
user_claim = "sub"

# One bucket per patient: what belongs to a patient is on the devices of the nurses who care for him or her, today.
[scope.caseload]
root = "patients"
grant = "$grant"

[scope.caseload.tables]
visits = { parent = "patients" }
notes = { parent = "visits" }
prescriptions = { parent = "patients" }
facilities = { referenced_by = "patients", read_only = true }

# The same for everybody.
[scope.formulary]
tables = ["medications"]
read_only = true

[columns]
patients = { hide = ["ssn"] }   # never leaves the clinic

[merge.visits]
kilometres = "add"              # what two people drove is added up
updated_at = "server"           # the clinic's own trigger writes it
"""
)


class FolderError(Exception):
    """The folder holds something that this demonstration did not make."""


def is_ours(folder: Path) -> bool:
    """Whether an earlier run made the folder: then it may be made anew."""
    config = folder / CONFIG
    return config.exists() and config.read_text(encoding="utf-8").startswith(MARK)


def is_complete(folder: Path) -> bool:
    """Whether one can go on with what the last run left."""
    return is_ours(folder) and (folder / SOURCE).exists()


def make_folder(folder: Path, size: Size) -> None:
    """The company's files, new; those of the last run are removed. FolderError: the folder is somebody else's."""
    if folder.exists() and any(folder.iterdir()) and not is_ours(folder):
        raise FolderError(f"{folder} is not empty, and not from this demonstration. Name another one with --folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("clinic.db*", "nurse-*.db*", "*.log"):
        for file in folder.glob(pattern):
            file.unlink()
    # The configuration first: a run that is interrupted while the data is made leaves a folder that is still ours.
    (folder / CONFIG).write_text(
        TEMPLATE.substitute(source=SOURCE, secret=secrets.token_hex(32), grant=GRANT), encoding="utf-8"
    )
    unfinished = folder / f"{SOURCE}.unfinished"
    build_company(unfinished, size)
    unfinished.rename(folder / SOURCE)
