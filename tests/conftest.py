"""The PostgreSQL servers that tests share, and fixtures for databases on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncline.testing.postgres_run import Run, SharedServers, begin_run
from syncline.testing.postgres_server import PostgresServer, installed, named, short_folder

FOLDER = "TEST_SERVERS_OF_SYNCLINE"
"""The environment variable by which worker processes find the servers of their run."""
INSTALLED = installed()
NAMED = tuple(version for version in named() if version != "18")
OLDEST = min((version for version in INSTALLED if version not in ("18", *NAMED)), key=int, default="")
VERSIONS = (OLDEST or "an older version", "18", *(version for version in NAMED if version != OLDEST))

_run = pytest.StashKey[Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--newest", action="store_true", help="on PostgreSQL 18 only, and not on the older one, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if _is_older(item)] if config.getoption("--newest") else []
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_older(item)]


def _is_older(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("postgres_version") not in (None, "18")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(short_folder()))  # tmp_path in memory, where there is enough
        config.stash[_run] = begin_run()
        os.environ[FOLDER] = str(config.stash[_run].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(_run, None)
    if run:
        run.close()


@pytest.fixture(scope="session")
def postgres_servers() -> SharedServers:
    return SharedServers(Path(os.environ[FOLDER]))


@pytest.fixture(params=VERSIONS, ids=[f"pg{version.replace(' ', '-')}" for version in VERSIONS])
def postgres_version(request: pytest.FixtureRequest) -> str:
    """Each major version that the tests are for and this machine has."""
    version: str = request.param
    if version not in INSTALLED:
        pytest.skip(f"PostgreSQL: {version} is not installed")
    return version


@pytest.fixture
def postgres_server(postgres_servers: SharedServers, postgres_version: str) -> PostgresServer:
    """The server that all tests of the run share: leave its settings alone."""
    return postgres_servers.server(INSTALLED[postgres_version])


@pytest.fixture
def own_postgres(postgres_version: str) -> Iterator[Callable[..., PostgresServer]]:
    """`own_postgres({"max_prepared_transactions": 5})`: a running server that is the test's alone, to restart, to
    crash, to follow. More arguments are PostgresServer's."""
    made: list[PostgresServer] = []

    def make(settings: dict[str, object] | None = None, **more: object) -> PostgresServer:
        made.append(PostgresServer(INSTALLED[postgres_version], settings=settings, **more))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.close()
