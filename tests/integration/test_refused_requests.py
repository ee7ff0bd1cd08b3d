"""What the application refuses by itself: it has the product's own form, whatever a client sends."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.integration.company import Company, token

from syncline.protocol import frames


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    company = Company(tmp_path_factory.mktemp("refused"))
    yield company.serve().url
    company.close()


BROKEN = frames.pack(b'{"protocol": ', frames.PLAIN)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("GET", "/", None, 404, "not_found"),
        ("POST", "/v2/hello", b"", 404, "not_found"),
        ("GET", "/v1/live", None, 404, "not_found"),
        ("GET", "/v1/hello", None, 405, "method_not_allowed"),
        ("DELETE", "/v1/upload", None, 405, "method_not_allowed"),
        ("POST", "/v1/hello", BROKEN, 400, None),
        ("POST", "/v1/hello", b"", 400, None),
        ("POST", "/v1/upload", b"<html></html>", 400, None),
        ("POST", "/v1/download", b"a=b&c=d", 400, None),
    ],
)
def test_every_refusal_has_the_products_form(
    method: str, path: str, content: bytes | None, status: int, code: str | None, url: str
) -> None:
    """P19: a path that leads nowhere, a wrong method, content that is no message."""
    headers = {"Authorization": f"Bearer {token('ann')}"}
    answer = httpx.request(method, f"{url}{path}", content=content, headers=headers)
    told = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"], told["t"]) == (status, "application/json", "error")
    assert told["message"] and told["code"] and told["retry"] is False
    assert code in (None, told["code"])
    assert "no-store" in answer.headers["Cache-Control"]
    assert "Traceback" not in answer.text


def test_refusals_say_what_http_asks_for(url: str) -> None:
    assert httpx.get(f"{url}/v1/hello").headers["Allow"] == "POST"
    refused = httpx.post(f"{url}/v1/hello")
    assert (refused.status_code, refused.json()["code"]) == (401, "token_missing")
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_whoever_watches_the_process_is_answered(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"ok": True}
    assert httpx.get(f"{url}/readyz").json()["ready"] is True
