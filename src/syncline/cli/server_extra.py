"""The verbs of the office need `syncline[server]`; a device's install may not have it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from syncline.cli.output import print_note
from syncline.system.packages import needs_extra

if TYPE_CHECKING:
    from syncline.server.config import Settings
    from syncline.source.port import Source

T = TypeVar("T")


def server_extra() -> AbstractContextManager[None]:
    """Around the imports of a server verb."""
    return needs_extra(
        "server", 'This command needs the server part of Syncline, and the package "{package}" is not installed.'
    )


def load(config: Path) -> Settings:
    """The settings; ConfigError if they, or the packages to read them, are not there."""
    with server_extra():
        from syncline.server.config import load_settings
    return load_settings(config)


def with_source(
    settings: Settings,
    work: Callable[[Source], Awaitable[T]],
    *,
    owner_url: str | None = None,
    for_owner: bool = False,
) -> T:
    """Open the source, as its owner where `owner_url` is given, run `work` with it, close it whatever happens. What
    takes long is told on standard error."""
    with server_extra():
        from syncline.server.sources import open_source

    async def run() -> T:
        source = open_source(settings, owner_url=owner_url, for_owner=for_owner, tell=print_note)
        try:
            return await work(source)
        finally:
            await source.close()

    return asyncio.run(run())
