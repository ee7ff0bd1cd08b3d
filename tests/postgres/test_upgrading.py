"""The database's own life: a new major version, and a dump that is loaded elsewhere, under a server of ours."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.conftest import INSTALLED, OLDEST
from tests.integration.company import PATIENCE_SECONDS, query, wait_for, wait_for_scope
from tests.postgres.serving import PostgresCompany

from syncline.testing.postgres_server import EMPTY, PostgresServer


@pytest.fixture
def servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """The oldest and the newest version that this machine has; the second one is empty and does not run."""
    if not OLDEST or "18" not in INSTALLED:
        pytest.skip("PostgreSQL: two versions are needed")
    old, new = PostgresServer(INSTALLED[OLDEST]), PostgresServer(INSTALLED["18"], initdb=("--no-data-checksums",))
    try:
        old.start()
        new.start()
        with psycopg.connect(new.address().url, autocommit=True) as db:
            db.execute(f"ALTER DATABASE {EMPTY} IS_TEMPLATE false".encode())
        new.drop_database(EMPTY)
        new.stop()
        yield old, new
    finally:
        new.close()
        old.close()


def test_pg_upgrade_keeps_everything(servers: tuple[PostgresServer, PostgresServer], tmp_path: Path) -> None:
    """P2, P3, P5: checkpoints go on in their numbers; a phone that was connected before goes on where it was."""
    old, new = servers
    company = PostgresCompany(tmp_path, old)
    try:
        first = company.serve()
        ann = company.live("ann")
        company.execute("UPDATE patients SET name = 'On the old version' WHERE id = 'ada'")
        wait_for_scope(company, "ann", ann.path)
        assert first.terminate() == 0
        company.execute("UPDATE patients SET name = 'While nobody served' WHERE id = 'ada'")
        [(head,)] = company.execute("SELECT head FROM syncline.checkpoint")
        company.hang_up()
        old.stop()
        upgrade(old, new)
        new.start()
        company.server, company.owner_url = new, new.address(company.name).url
        text = company.config.read_text(encoding="utf-8").replace(f":{old.port}/", f":{new.port}/")
        company.config.write_text(text, encoding="utf-8")
        query(ann.path, "INSERT INTO notes VALUES('n1', 'v-ada', 'meanwhile')")
        company.serve()
        ann.connectivity_changed(online=True)
        # what is under way may still be answered by a server that is not ready: then it pauses as after any failure
        wait_for(lambda: ann.status.pending == 0, "delivered to the new version", 3 * PATIENCE_SECONDS)
        wait_for_scope(company, "ann", ann.path)
        company.execute("UPDATE patients SET name = 'On the new version' WHERE id = 'ada'")
        wait_for_scope(company, "ann", ann.path)
        assert company.execute("SELECT min(head) > ? FROM syncline.checkpoint", head) == [(True,)]
        assert company.execute("SELECT count(*) FROM syncline.device") == [(1,)]
    finally:
        company.close()


def upgrade(old: PostgresServer, new: PostgresServer) -> None:
    programs = [server._reachable() for server in (old, new)]
    done = subprocess.run(  # type: ignore[call-overload]
        [str(programs[1] / "pg_upgrade"), "-U", "postgres", "-b", str(programs[0]), "-B", str(programs[1]),
         "-d", str(old.data), "-D", str(new.data), "-s", str(new.folder)],
        cwd=new.folder, text=True, capture_output=True, check=False, **new._as_user(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
