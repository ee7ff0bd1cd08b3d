"""Behind a proxy that serves Syncline under a prefix, and passes paths on with it or without it."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send


class ForwardedPrefix:
    """Takes the prefix that `X-Forwarded-Prefix` names off the path, where the proxy has not done so itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            named = Headers(scope=scope).get("x-forwarded-prefix", "").strip("/")
            root = str(scope.get("root_path", ""))
            prefix = f"{root}/{named}"
            if named and scope["path"].startswith(f"{prefix}/"):
                scope = {**scope, "root_path": prefix}
        await self._app(scope, receive, send)
