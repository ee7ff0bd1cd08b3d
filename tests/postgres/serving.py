"""The company of the integration tests on PostgreSQL: `syncline serve` as a process, signed in as a role that may do no
more than serving needs, over TCP with a password that nothing may print."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from tests.integration.company import CONFIGURATION, TABLES, Company, Server

from syncline.source.postgres.checkpoint_sql import LOCK_KEYS
from syncline.testing.postgres_server import PostgresServer

SERVICE = "syncline_service"
POSTGRES_TABLES = (
    TABLES.split("CREATE TRIGGER")[0].replace(
        "seq INTEGER PRIMARY KEY AUTOINCREMENT", "seq integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    )
    + """
CREATE FUNCTION visits_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
  $$BEGIN INSERT INTO public.audit(visit_id, added) VALUES(new.id, new.n - old.n); RETURN new; END$$;
CREATE TRIGGER visits_audit AFTER UPDATE OF n ON visits FOR EACH ROW EXECUTE FUNCTION visits_audit();
"""
    + TABLES[TABLES.index("INSERT INTO patients") :]
)
_HOLDER = (
    "SELECT a.pid, a.client_port FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = %s "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class PostgresCompany(Company):
    """On a server that is the test's alone. `execute` is the office's own SQL, as the tables' owner."""

    def __init__(self, folder: Path, server: PostgresServer, source: str = "", owner: str = "") -> None:
        """`source`: the service's address, where it is not that of the server."""
        self.server = server
        self.name = server.create_database().name
        server.create_role(SERVICE)
        self.password = server.password
        self._owner: psycopg.Connection[Any] | None = None
        self.owner_url = owner or server.address(self.name).url
        url = source.format(database=self.name) if source else self.service_url
        try:
            super().__init__(folder, POSTGRES_TABLES, CONFIGURATION.replace("sqlite:///clinic.db", url))
        except BaseException:
            self.hang_up()
            raise

    @property
    def service_url(self) -> str:
        place = f"127.0.0.1:{self.server.port}/{self.name}"
        return f"postgresql://{SERVICE}:{quote(self.password, safe='')}@{place}"

    def make(self, tables: str) -> None:
        self.execute(tables)

    def provision(self, *options: str) -> None:
        super().provision("--owner-url", self.owner_url, *options)

    # ------------------------------------------------------------ looking
    def execute(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        if self._owner is None or self._owner.closed:
            self._owner = psycopg.connect(self.owner_url, autocommit=True)
        cursor = self._owner.execute(sql.replace("?", "%s").encode(), parameters or None)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def holder(self) -> tuple[int, int] | None:
        """The backend and the port of the session of the active sequencer."""
        found = self.execute(_HOLDER, *LOCK_KEYS)
        return (found[0][0], found[0][1]) if found else None

    def active_process(self) -> int:
        """The process whose session that is; 0: none at the moment."""
        held = self.holder()
        return process_of_port(held[1]) if held else 0

    def hang_up(self) -> None:
        if self._owner is not None:
            self._owner.close()

    def close(self) -> None:
        super().close()
        self.hang_up()
        for server in self.servers:
            log = server.log()
            assert self.password not in log, "the password is in the log"
            assert "Traceback" not in log, log


def readiness(server: Server) -> dict[str, Any]:
    """What /readyz says."""
    try:
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            found = json.load(refused)
    return found


def fault(server: Server) -> str:
    return readiness(server)["fault"] or ""


def process_of_port(port: int) -> int:
    """The process of this machine that has this local TCP port; 0: none."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    sockets = {
        f"socket:[{fields[9]}]" for fields in map(str.split, lines) if int(fields[1].rpartition(":")[2], 16) == port
    }
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in sockets:
                return int(link.parts[2])
        except OSError:  # it has ended, or closed it
            continue
    return 0
