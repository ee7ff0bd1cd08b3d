"""Authentication by the application that Syncline is mounted into, in place of JWTs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from syncline.errors import AuthError, SynclineError
from syncline.log import logger
from syncline.server.auth import Identity, identity_of, needed_claims, require_current
from syncline.server.config_settings import Settings

_log = logger("auth")

Claims: TypeAlias = Mapping[str, Any]
Authenticate: TypeAlias = Callable[[HTTPConnection], "Claims | Awaitable[Claims | None] | None"]
"""From a request, or the WebSocket of the live stream, to the user's claims; None, or an exception: nobody.

A plain function runs in a thread of its own, so that it may ask a database. The claim `exp`, if there is one (seconds
since 1970), ends an open stream; from then on nothing is answered.
"""


class HostAuthenticator:
    """Asks the host's function for each request."""

    def __init__(self, authenticate: Authenticate, settings: Settings) -> None:
        self._authenticate = authenticate
        self._is_async = inspect.iscoroutinefunction(authenticate) or inspect.iscoroutinefunction(
            getattr(authenticate, "__call__", None)  # noqa: B004 - an object with an async __call__
        )
        self._user_claim = settings.auth.user_claim
        self._needed = needed_claims(settings)
        self._lists = settings.is_postgres

    def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def identify(self, connection: HTTPConnection) -> Identity:
        claims = await self._claims(connection)
        if not isinstance(claims, Mapping):
            raise _nobody()
        return require_current(identity_of(claims, self._user_claim, self._needed, lists=self._lists))

    async def _claims(self, connection: HTTPConnection) -> Claims | None:
        try:
            if self._is_async:
                answer = self._authenticate(connection)
            else:
                answer = await run_in_threadpool(self._authenticate, connection)
            return await answer if inspect.isawaitable(answer) else answer
        except SynclineError:
            raise
        except HTTPException as error:
            if error.status_code not in (401, 403):
                _log.warning("authenticate raised %s", error)
            raise AuthError(str(error.detail), code="not_authenticated", status=_status(error)) from error
        except Exception as error:
            _log.warning("authenticate raised an exception: the request is taken for nobody's", exc_info=error)
            raise _nobody() from error


def _status(error: HTTPException) -> int:
    return 403 if error.status_code == 403 else 401


def _nobody() -> AuthError:
    return AuthError("The application knows nobody by this request.", hint="Sign in.", code="not_authenticated")
