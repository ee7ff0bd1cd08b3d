"""`install`: Syncline as a part of an application that a company already has."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

from syncline.errors import ConfigError
from syncline.server.app import SynclineApp, create_app
from syncline.server.config_settings import Settings
from syncline.server.host_auth import Authenticate


def install(
    app: Starlette,
    path: str,
    config: str | Path | Settings = "syncline.toml",
    *,
    authenticate: Authenticate | None = None,
) -> Starlette:
    """Serve devices below `path` of a Starlette or FastAPI application, as long as it runs.

    It joins the host's lifespan: the host's own start-up comes first, its shutdown last. The host's routes cannot
    shadow it; the host's middleware stands in front of it. `authenticate` takes the place of JWTs (see `create_app`).
    Answers the mounted application. ConfigError at once if the configuration is wrong.
    """
    prefix = path.rstrip("/")
    if not prefix.startswith("/"):
        raise ConfigError(
            f'"{path}" is no path to mount Syncline at.', hint='For example install(app, "/sync").', code="mount_path"
        )
    mounted = create_app(config, authenticate=authenticate)
    app.router.routes.insert(0, Mount(prefix, app=mounted))
    _join_lifespan(app, mounted.state.syncline)
    return mounted


def _join_lifespan(app: Starlette, application: SynclineApp) -> None:
    hosts = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(host: Any) -> AsyncIterator[Any]:
        async with hosts(host) as state, application.runtime.lifespan():
            yield state

    app.router.lifespan_context = lifespan
