"""Syncline inside other applications: the snippets of docs/mounting.md as they stand there, each as a process."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.integration.company import SECRET, Company, Server, token, wait_for, wait_for_scope

from syncline import Replica
from syncline.errors import AuthError, ConfigError
from syncline.protocol import frames
from syncline.server import install
from syncline.system.lock import FileLock

PAGE = Path(__file__).parents[2] / "docs" / "mounting.md"
SETTINGS = """
SECRET_KEY = "django-of-the-tests-0123456789-0123456789-0123456789"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "office.urls"
MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", "django.middleware.common.CommonMiddleware"]
"""


def write_snippets(folder: Path) -> None:
    """Every Python block of the page under the file name that its first line gives."""
    for name, code in re.findall(r"^```python\n# ([\w/]+\.py)[^\n]*\n(.*?)^```$", PAGE.read_text(), re.S | re.M):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code, encoding="utf-8")


def serve(company: Company, application: str, code: str = "") -> Server:
    """`uvicorn APPLICATION`; with `code`, of a file of that content."""
    if code:
        (company.folder / f"{application.partition(':')[0]}.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "tests.integration.asgi", application]
    server = Server(command, company.folder, company.folder / f"server-{len(company.servers)}.log")
    company.servers.append(server)
    return server


def check_both_ways(company: Company, server: Server, badge: str) -> Replica:
    """Ann connects, gets what is hers, and hears and is heard at once; nobody gets in without her badge."""
    replica = Replica(company.folder / "ann.device.db", f"{server.url}/sync", badge)
    company._replicas.append(replica)
    replica.start()
    wait_for(lambda: replica.status.state == "live", "Ann is live")
    wait_for_scope(company, "ann", replica.path)
    company.execute("UPDATE patients SET name = 'Ada Lovelace' WHERE id = 'ada'")
    with contextlib.closing(sqlite3.connect(replica.path, isolation_level=None)) as db:
        db.execute("INSERT INTO notes VALUES('by-ann', 'v-ada', 'from the car')")
    wait_for_scope(company, "ann", replica.path)
    wait_for(lambda: company.execute("SELECT body FROM notes WHERE id = 'by-ann'") == [("from the car",)], "her note")
    path = company.folder / "nobody.device.db"
    with Replica(path, f"{server.url}/sync", "forged") as nobody, pytest.raises(AuthError):
        nobody.sync(timeout=20)
    return replica


def is_sequenced(company: Company) -> bool:
    """Somebody takes the checkpoints."""
    lock = FileLock(f"{company.path}-syncline-lock")
    try:
        return not lock.acquire()
    finally:
        lock.release()


def ended_in_order(server: Server) -> bool:
    status = server.terminate()
    return status in (0, -signal.SIGTERM) and "Traceback" not in server.log() and "destroyed" not in server.log()


# ---------------------------------------------------------------- the page
def test_fastapi_with_the_companys_own_sign_in_and_middleware(company: Company) -> None:
    """P1, P15: install(app, "/sync", "syncline.toml", authenticate=claims_of), GZip and CORS in front."""
    write_snippets(company.folder)
    server = serve(company, "main:app")
    assert httpx.get(server.url, headers={"Origin": "https://app.example.org"}).json() == {"company": "Home care"}
    assert httpx.get(f"{server.url}/sync/readyz").json()["ready"], "it runs before any device has come"
    check_both_ways(company, server, "badge-of-ann")
    assert ended_in_order(server)


def test_a_plain_mount_starts_at_the_first_request_and_ends_with_its_host(company: Company) -> None:
    """app.mount("/sync", create_app("syncline.toml")): nothing runs its lifespan."""
    write_snippets(company.folder)
    server = serve(company, "plain:app")
    assert not is_sequenced(company)
    check_both_ways(company, server, token("ann"))
    assert is_sequenced(company)
    assert ended_in_order(server)


def test_django_under_asgi(company: Company) -> None:
    """Django signs the tokens and serves everything else."""
    write_snippets(company.folder)
    (company.folder / "office" / "__init__.py").touch()
    (company.folder / "office" / "settings.py").write_text(SETTINGS, encoding="utf-8")
    server = serve(company, "office.asgi:application")
    badge = httpx.get(f"{server.url}/sync-token", headers={"X-User": "ann"})
    assert badge.status_code == 200
    check_both_ways(company, server, badge.text)
    assert httpx.get(f"{server.url}/nowhere").status_code == 404
    assert ended_in_order(server)


# ---------------------------------------------------------------- what stands in front
MIDDLEWARE = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from syncline.server import install
from syncline.system.lock import FileLock


async def stamp(request, call_next):
    response = await call_next(request)
    response.headers["X-Host"] = "office"
    return response


app = Starlette(middleware=[
    Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"]),
    Middleware(CORSMiddleware, allow_origins=["*"]),
    Middleware(GZipMiddleware, minimum_size=1),
    Middleware(BaseHTTPMiddleware, dispatch=stamp),
])
install(app, "/sync", "syncline.toml")
"""


def hello_of(url: str, user: str = "ann", **headers: str) -> httpx.Response:
    said = {"protocol": 2, "device": None, "nonce": None, "engine": "hand", "sqlite": "3", "packings": ["gzip"]}
    rest = {"clock": 0, "program": None, "schema_version": None, "included": 0, "cursor": None}
    body = frames.pack(frames.dump({**said, **rest}), frames.PLAIN)
    return httpx.post(f"{url}/v1/hello", content=body, headers={"Authorization": f"Bearer {token(user)}", **headers})


def test_middleware_in_front_neither_compresses_twice_nor_holds_a_stream_back(company: Company) -> None:
    server = serve(company, "stacked:app", MIDDLEWARE)
    answer = hello_of(f"{server.url}/sync", **{"Accept-Encoding": "gzip, br"})
    assert (answer.status_code, answer.headers["X-Host"]) == (200, "office")
    assert answer.headers["Content-Encoding"] == "identity"
    assert "no-transform" in answer.headers["Cache-Control"]
    told = frames.load(frames.unpack(answer.content))
    request = {"device": told["device"], "cursor": None, "included": 0, "apply_count": 0, "digest": "", "buckets": None}

    def download(**more: Any) -> list[dict[str, Any]]:
        reader = frames.FrameReader()
        headers = {"Authorization": f"Bearer {token('ann')}", "Accept-Encoding": "gzip"}
        body = frames.pack(frames.dump({**request, "packing": "gzip", **more}), frames.PLAIN)
        with httpx.stream("POST", f"{server.url}/sync/v1/download", content=body, headers=headers, timeout=30) as got:
            assert (got.status_code, got.headers["Content-Encoding"]) == (200, "identity")
            return [frames.load(frames.unpack(packed)) for chunk in got.iter_raw() for packed in reader.feed(chunk)]

    first = download()
    assert first[-1]["t"] == "commit"
    check_both_ways(company, server, token("ann"))


def test_a_proxy_may_leave_its_prefix_on_or_take_it_off(company: Company) -> None:
    server = company.serve()
    assert hello_of(server.url).status_code == 200
    assert hello_of(server.url, **{"X-Forwarded-Prefix": "/care/sync"}).status_code == 200
    assert hello_of(f"{server.url}/care/sync", **{"X-Forwarded-Prefix": "/care/sync/"}).status_code == 200
    assert hello_of(f"{server.url}/care/sync").status_code == 404
    other = hello_of(f"{server.url}/other", **{"X-Forwarded-Prefix": "/care/sync"})
    assert (other.status_code, other.json()["code"]) == (404, "not_found")


# ---------------------------------------------------------------- lifespans
def run_lifespan(app: Starlette) -> None:
    async def run() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(run())


def test_the_hosts_own_lifespan_comes_first_and_ends_last(company: Company) -> None:
    seen: list[tuple[str, bool]] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        seen.append(("host up", runtime.service is not None))
        yield {"pool": "open"}
        seen.append(("host down", runtime.service is not None))

    app = Starlette(lifespan=lifespan)
    runtime = install(app, "/sync/", company.config).state.syncline.runtime

    async def run() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state == {"pool": "open"}
            assert runtime.service is not None
            seen.append(("running", True))

    asyncio.run(run())
    assert seen == [("host up", False), ("running", True), ("host down", False)]
    assert not is_sequenced(company)


def test_a_host_does_not_start_with_a_database_that_is_not_provisioned(company: Company) -> None:
    with contextlib.closing(sqlite3.connect(company.folder / "empty.db")) as db:
        db.execute("CREATE TABLE patients(id TEXT PRIMARY KEY)")
    config = company.folder / "empty.toml"
    config.write_text(f'source.url = "sqlite:///empty.db"\nauth.secret = "{SECRET}"\nscope.all.tables = ["patients"]\n')
    app = Starlette()
    install(app, "/sync", config)
    from syncline.errors import NotProvisionedError

    with pytest.raises(NotProvisionedError):
        run_lifespan(app)


def test_what_is_wrong_with_the_mount_is_told_at_once(company: Company) -> None:
    with pytest.raises(ConfigError) as caught:
        install(Starlette(), "sync", company.config)
    assert caught.value.error_code == "mount_path"
    with pytest.raises(ConfigError):
        install(Starlette(), "/sync", company.folder / "none.toml")


def test_a_plain_mount_that_cannot_start_says_so_and_tries_again(company: Company) -> None:
    """In one loop: not provisioned, then provisioned; and once the loop is gone nothing is held."""
    from syncline.cli import main
    from syncline.server import create_app

    assert main.run(["deprovision", "--yes", "--config", str(company.config)]) == 0
    application = create_app(company.config).state.syncline.runtime

    async def run() -> None:
        for _ in range(2):
            with pytest.raises(Exception, match="syncline provision"):
                await application.running()
        assert await asyncio.to_thread(main.run, ["provision", "--config", str(company.config)]) == 0
        services = await asyncio.gather(*(application.running() for _ in range(5)))
        assert len({id(service) for service in services}) == 1
        await asyncio.to_thread(wait_for, lambda: is_sequenced(company), "checkpoints are taken")

    asyncio.run(run())
    assert application.service is None
    assert not is_sequenced(company), "the end of the loop closed the service"


# ---------------------------------------------------------------- authenticate


def test_a_host_route_does_not_shadow_the_mount(company: Company) -> None:
    async def everything(request: HTTPConnection) -> PlainTextResponse:
        return PlainTextResponse("host")

    app = Starlette(routes=[Route("/{path:path}", everything)])
    install(app, "/sync", company.config)

    async def ask() -> tuple[str, Any]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            return (await client.get("/x")).text, (await client.get("/sync/healthz")).json()

    assert asyncio.run(ask()) == ("host", {"ok": True})
