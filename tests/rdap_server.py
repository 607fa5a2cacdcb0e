"""A registry's RDAP service and the list that names it, strict after RFC 9082, 9083, 9224 and 7480.

It refuses whatever is not asked as the standards say, and keeps what was asked wrongly in `mistakes`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LDH = re.compile(r"/registry/domain/((?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]+)")


def domain(
    name: str, *expirations: str, registrar: str | None = "Example Registrar, Inc.", **more: Any
) -> dict[str, Any]:
    """An answer as in RFC 9083, 5.3."""
    entities = [] if registrar is None else [{
        "objectClassName": "entity", "handle": "292", "roles": ["registrar"],
        "vcardArray": ["vcard", [["version", {}, "text", "4.0"], ["fn", {}, "text", registrar]]],
    }]  # fmt: skip
    return {
        "rdapConformance": ["rdap_level_0"], "objectClassName": "domain", "handle": "XXXX", "ldhName": name.upper(),
        "status": ["client transfer prohibited"],
        "events": [
            {"eventAction": "registration", "eventDate": "1995-08-14T04:00:00Z"},
            {"eventAction": "last changed", "eventDate": "2025-08-14T07:01:39Z"},
            *({"eventAction": "expiration", "eventDate": each} for each in expirations),
        ],
        "entities": entities, "secureDNS": {"delegationSigned": False}, **more,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next question gets in the place of its answer, after `wait` seconds."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    wait: float = 0.0


class RdapServer:
    """On threads of its own. `suffixes` are those that its list names, `domains` what it knows."""

    def __init__(self, *suffixes: str) -> None:
        self.suffixes: Sequence[str] = suffixes or ("com",)
        self.domains: dict[str, dict[str, Any]] = {}
        self.faults: deque[Fault] = deque()
        self.list_faults: deque[Fault] = deque()
        self.asked: list[str] = []
        self.lists = 0
        self.mistakes: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def bootstrap_url(self) -> str:
        return f"{self.url}/rdap/dns.json"

    @property
    def service(self) -> str:
        return f"{self.url}/registry/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self, path: str, headers: Mapping[str, str]) -> Fault:
        accepted = {each.partition(";")[0].strip() for each in headers.get("Accept", "").split(",")}
        if path == "/rdap/dns.json":
            self.lists += 1
            if self.list_faults:
                return self.list_faults.popleft()
            listed = {
                "version": "1.0", "publication": "2025-08-01T00:00:00Z", "description": "RDAP bootstrap file",
                "services": [[list(self.suffixes), [self.service]]],
            }  # fmt: skip
            return Fault(200, {"Content-Type": "application/json"}, json.dumps(listed).encode())
        found = LDH.fullmatch(path)
        if found is None or "application/rdap+json" not in accepted or "User-Agent" not in headers:
            self.mistakes.append(f"{path} {dict(headers)}")
            return Fault(400)
        self.asked.append(found[1])
        if self.faults:
            return self.faults.popleft()
        known = self.domains.get(found[1])
        if known is None:
            error = {"errorCode": 404, "title": "Not Found", "description": ["no such domain"]}
            return Fault(404, {"Content-Type": "application/rdap+json"}, json.dumps(error).encode())
        return Fault(200, {"Content-Type": "application/rdap+json"}, json.dumps(known).encode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answer = server._answer(self.path, self.headers)
                time.sleep(answer.wait)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
