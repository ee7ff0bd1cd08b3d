"""The servers that the tests themselves stand on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from syncline.testing.postgres_run import begin_run
from syncline.testing.postgres_server import PostgresServer, installed


def test_a_database_is_reached_by_socket_and_by_port(postgres: Any, postgres_version: str) -> None:
    assert postgres.execute("SHOW server_version")[0][0].startswith(postgres_version)
    with psycopg.connect(postgres.tcp_url) as db:
        assert db.execute("SELECT current_database()").fetchall() == [(postgres.name,)]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.tcp_url.replace(postgres.server.password, "wrong"))


def test_a_database_in_another_encoding(make_postgres: Callable[..., Any]) -> None:
    database = make_postgres(encoding="LATIN1")
    assert database.execute("SHOW server_encoding") == [("LATIN1",)]


def test_a_server_that_is_restarted_keeps_its_databases(own_postgres: Callable[..., PostgresServer]) -> None:
    server = own_postgres({"max_prepared_transactions": 5})
    name = server.create_database().name
    server.restart("immediate")
    with psycopg.connect(server.address(name).url) as db:
        assert db.execute("SHOW max_prepared_transactions").fetchall() == [("5",)]


def test_processes_of_a_run_share_one_server_and_a_killed_run_leaves_none(postgres_version: str) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from syncline.testing.postgres_run import begin_run, SharedServers\n"
        "from syncline.testing.postgres_server import installed\n"
        "run = begin_run(Path(sys.argv[2])); installation = installed()[sys.argv[1]]\n"
        "first = run.server(installation); second = SharedServers(run.folder).server(installation)\n"
        "assert first.process == second.process and first.address() == second.address()\n"
        "print(run.folder, flush=True); os._exit(9)"
    )
    root = Path(tempfile.mkdtemp(prefix="syncline-test-", dir="/tmp"))
    root.chmod(0o711)
    try:
        command = [sys.executable, "-c", script, postgres_version, str(root)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode == 9, killed.stderr
        folder = Path(killed.stdout.strip())
        left = PostgresServer(installed()[postgres_version], folder / postgres_version).attach()
        with psycopg.connect(left.address().tcp_url):
            pass
        begin_run(root).close()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(left.address().tcp_url)
        assert list(root.iterdir()) == []
    finally:
        shutil.rmtree(root)


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts servers as another user")
def test_programs_in_a_folder_that_is_closed_to_the_servers_user_are_copied(tmp_path: Path) -> None:
    wheel = installed()["18"]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in wheel.parts:
        if (wheel.home / part).exists():
            (closed / part).parent.mkdir(exist_ok=True)
            (closed / part).symlink_to(wheel.home / part)
    there = replace(wheel, home=closed, programs=closed / wheel.programs.relative_to(wheel.home))
    with PostgresServer(there) as server, psycopg.connect(server.address().url) as db:
        assert db.execute("SHOW data_directory").fetchall() == [(str(server.data),)]
        assert (server.folder / "installation").exists()
