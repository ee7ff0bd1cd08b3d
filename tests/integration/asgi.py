"""An application server for a host of Syncline: `python -m tests.integration.asgi MODULE:NAME`.

Plain uvicorn on a free port, as a company would run its own application; only the port is told on standard output.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import uvicorn


class Server(uvicorn.Server):
    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            print(f"listening on http://127.0.0.1:{port}", flush=True)


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    server = Server(uvicorn.Config(sys.argv[1], port=0, log_config=None, timeout_graceful_shutdown=5))
    asyncio.run(server.serve())


if __name__ == "__main__":
    main()
