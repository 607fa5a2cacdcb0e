"""Who is on the machine itself, as far as a request tells it."""

from __future__ import annotations

import pytest

from tocsin.domain import clients


@pytest.mark.parametrize(
    ("peer", "headers", "public_url", "local"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:8000"}, None, True),
        ("::1", {"host": "[::1]:8000"}, None, True),
        ("127.0.0.1", {"host": "LocalHost"}, "http://localhost:8000", True),
        ("192.0.2.7", {"host": "localhost:8000"}, None, False),
        ("127.0.0.1", {"host": "tocsin.example.com"}, None, False),  # HAProxy, stunnel: bytes as they come
        ("127.0.0.1", {"host": "127.0.0.1:8000"}, "https://tocsin.example.com", False),  # proxy_pass of nginx
        ("127.0.0.1", {"host": "localhost.example.com"}, None, False),
        ("127.0.0.1", {"host": "localhost", "via": "1.1 proxy"}, None, False),
        ("127.0.0.1", {}, None, False),
    ],
)
def test_only_who_asks_from_the_machine_for_the_machine_is_on_it(
    peer: str, headers: dict[str, str], public_url: str | None, local: bool
) -> None:
    scope = {"client": (peer, 1), "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    assert clients.is_local(scope, public_url) is local
