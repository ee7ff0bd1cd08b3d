"""SQLite of a chosen version as a shared library, for a Python of its own process.

The source comes out of the npm package better-sqlite3, which carries SQLite's amalgamation, and is compiled once into
the user's cache folder.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Build:
    """`sha512` is what the registry says of the package, in base64."""

    version: str
    package: str
    sha512: str


OLDEST = Build(
    "3.38.2",
    "better-sqlite3@7.5.1",
    "+i6tH1y9KEIol1iYpZJrqDwBDQZGHioDENU49Rnidorp3bSXvw/QTYDjQGq9+TFF7RX4q0YV1sEOIRq4vDZdRg==",
)
NEWEST = Build(
    "3.54.1",
    "better-sqlite3@13.2.0",
    "Z8Q/9x/uNyKxA1v4FNodyItRVRw1TeKBrmj32JhxhR0ceNcBY+wMobt/Bv7M7TzwPAXjnZRtNaEsATnUZSKWZQ==",
)
OPTIONS = ("THREADSAFE=1", "ENABLE_COLUMN_METADATA", "ENABLE_LOAD_EXTENSION", "ENABLE_FTS5", "ENABLE_RTREE")


class NoBuildError(Exception):
    """Why it cannot be had on this machine."""


def folder_of(build: Build) -> Path:
    """Where the library is; made where it is not. NoBuildError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncline-tests"
    folder = cache / f"sqlite-{build.version}"
    if not (folder / "libsqlite3.so.0").exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            _compile(_source(build, Path(made)), Path(made))
            folder.mkdir(exist_ok=True)
            (Path(made) / "libsqlite3.so.0").replace(folder / "libsqlite3.so.0")
    return folder


def environment_of(build: Build) -> dict[str, str]:
    """For a Python that is to use it. NoBuildError where it would use another one all the same."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder_of(build))}
    asked = [sys.executable, "-c", "import sqlite3; print(sqlite3.sqlite_version)"]
    found = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60).stdout.strip()
    if found != build.version:
        raise NoBuildError(f"this Python brings its own SQLite ({found}), and uses no other")
    return environment


def _source(build: Build, place: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise NoBuildError("there is no npm, which SQLite's source is fetched with")
    try:
        subprocess.run(
            [npm, "pack", "--silent", build.package], cwd=place, capture_output=True, check=True, timeout=120
        )
        (package,) = place.glob("*.tgz")
    except (subprocess.SubprocessError, ValueError) as error:
        raise NoBuildError(f"{build.package} could not be fetched: {error}") from error
    found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    assert found == build.sha512, f"{build.package} is not what it was"
    with tarfile.open(package) as archive:
        for name in ("sqlite3.c", "sqlite3.h"):
            content = archive.extractfile(f"package/deps/sqlite3/{name}")
            assert content is not None
            (place / name).write_bytes(content.read())
    return place / "sqlite3.c"


def _compile(source: Path, place: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        raise NoBuildError("SQLite is compiled for Linux only, with cc, gcc or clang")
    options = [f"-DSQLITE_{option}" for option in OPTIONS]
    command = [compiler, "-O1", "-fPIC", "-shared", *options, str(source), "-o", "libsqlite3.so.0"]
    done = subprocess.run(
        [*command, "-lpthread", "-ldl", "-lm"], cwd=place, capture_output=True, text=True, timeout=280
    )
    if done.returncode:
        raise NoBuildError(f"SQLite {source} does not compile here: {done.stderr[-500:]}")
