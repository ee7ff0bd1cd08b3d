"""The server: an ASGI application beside the company's database.

create_app(config)            the application, to run or to mount
install(app, path, config)    as a part of a FastAPI or Starlette application
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncline.server.app import create_app
    from syncline.server.mount import install

__all__ = ["create_app", "install"]

_HOMES = {"create_app": "syncline.server.app", "install": "syncline.server.mount"}


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: most commands need only a small part of the server."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
