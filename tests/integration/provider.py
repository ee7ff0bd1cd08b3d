"""A tiny identity provider on this machine: it signs tokens, publishes its keys, rotates them, and may be down."""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://login.example.org/"
AUDIENCE = "syncline"


class Provider:
    """`asked` counts how often its keys were read. `is_down`: it answers 500."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_down = False
        self._generation = 0
        self.rotate()
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                body = json.dumps({"keys": [provider.published]}).encode()
                self.send_response(500 if provider.is_down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/.well-known/jwks.json"

    def rotate(self) -> None:
        """Another key; the one before is withdrawn at once."""
        self._generation += 1
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._name = f"key-{self._generation}"
        self.published = {**json.loads(RSAAlgorithm.to_jwk(self._key.public_key())), "kid": self._name, "use": "sig"}

    def token(self, user: str, seconds: float = 3600, **claims: Any) -> str:
        content = {"sub": user, "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + seconds, **claims}
        return jwt.encode(content, self._key, algorithm="RS256", headers={"kid": self._name})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
