"""What somebody hostile might send: each case made from one random number generator, so that it can be made again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

End = Literal["wait", "leave", "reset", "never read", "stay"]
CROWD = 260
"""Connections of a crowd: more than the service under test takes."""
CROWDED = tuple(f"127.0.0.{number}" for number in range(10, 18))

READ = [
    b"/health/live", b"/health/ready", b"/metrics", b"/api/v1/incidents", b"/api/v1/servers",
    b"/api/v1/projects", b"/api/v1/network_monitors", b"/api/docs", b"/api/v1/openapi.json", b"/sign-in", b"/",
    b"/nowhere", b"/live",
]  # fmt: skip
WRITE = [
    b"/api/v1/incidents", b"/api/v1/incidents/resolve", b"/api/v1/server_metrics", b"/api/v1/users",
    b"/api/v1/users/sign_in", b"/api/v1/integrations", b"/api/v1/network_monitors", b"/sign-in",
    b"/in/" + b"x" * 32, b"/in/api/v2/alerts", b"/v2/enqueue",
    b"/forgot-password", b"/register", b"/slack/interactions", b"/api/v1/integrations/send_verification_code",
]  # fmt: skip
NAMES = [
    b"Accept", b"Cookie", b"Content-Type", b"Origin", b"X-Forwarded-For", b"Range", b"If-None-Match",
    b"Accept-Language", b"Te", b"Expect", b"Keep-Alive", b"Proxy-Connection", b"Trailer", b"Forwarded",
]  # fmt: skip
VALUES = [
    b"", b"*/*", b"a=b; zone=Mars/Olympus", b"application/json; charset=utf-16", b"100-continue", b"bytes=0-1",
    b"chunked", b"gzip", b"127.0.0.1", b"\xff\xfe", b"\t", b'"', b"multipart/form-data; boundary=x",
]  # fmt: skip
SPLINTERS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"\x0b", b"\xff", b"0\r\n\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"%00", b"%", b"{", b"[", b'"', b"9" * 25, b"-1", b";",
    b"Expect: 100-continue\r\n", b"\r\n\r\n",
]  # fmt: skip
FIELDS = [
    "user", "email", "password", "incident", "incidents", "integration", "settings", "type", "attributes",
    "source", "routing_key", "payload", "alerts", "labels",
    "metrics", "network_monitor", "url", "name", "resource_uuid", "timestamp", "value", "phone_number",
]  # fmt: skip
ODD_TEXT = [
    "", "\0", "\ud800", "a" * 300, "+a" * 200 + "@example.com", "ı@example.com", "\u202e",
    "2024-01-01T00:00:00Z", "Integrations::WebhookIntegration", "http://[::1]:99999/", "=?utf-8?q?x?=",
    "x" * 70_000,
]  # fmt: skip
ODD_NUMBERS = [0, -1, 1e308, 10**18, 10**19, 2**63, 10**30, 0.1, -0.0, 10**400]


@dataclass(frozen=True, slots=True)
class Case:
    """`parts` leave one by one, `pause` seconds apart. At most `most` answers may come, to requests of `methods`.

    With `sources`, all of it is sent by as many connections at once, one from each of these addresses.
    """

    kind: str
    parts: tuple[bytes, ...]
    most: int
    methods: tuple[str, ...] = ()
    pause: float = 0.0
    end: End = "wait"
    sources: tuple[str, ...] = ()


class Hostile:
    """Makes cases. `token` is a project's, for requests that get further."""

    def __init__(self, chance: random.Random, token: str) -> None:
        self.chance = chance
        self.token = token.encode()

    def case(self) -> Case:
        return self.chance.choice(KINDS)(self)

    # ------------------------------------------------------------------------------------------------------ its parts

    def head(self, method: bytes, path: bytes, *more: bytes) -> bytes:
        chance = self.chance
        lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: tocsin.example.com"]
        if chance.random() < 0.5:
            lines.append(b"Authorization: Bearer %b" % self.token)
        for _ in range(chance.randrange(4)):
            lines.append(b"%b: %b" % (chance.choice(NAMES), chance.choice(VALUES[:9])))
        lines += more
        if chance.random() < 0.5:
            chance.shuffle(rest := lines[1:])
            lines[1:] = rest
        return b"\r\n".join([*lines, b"", b""])

    def request(self, *, last: bool = True, body: bytes | None = None) -> tuple[str, bytes]:
        chance, close = self.chance, [b"Connection: close"] if last else []
        if body is None and chance.random() < 0.4:
            method = chance.choice([b"GET", b"GET", b"HEAD", b"OPTIONS", b"DELETE"])
            return method.decode(), self.head(method, self.path(READ), *close)
        body = self.body() if body is None else body
        method = chance.choice([b"POST", b"POST", b"POST", b"PUT", b"PATCH"])
        if chance.random() < 0.3:
            head = self.head(method, self.path(WRITE), *close, b"Transfer-Encoding: chunked")
            return method.decode(), head + b"".join(self.chunks(body))
        length = b"Content-Length: %d" % len(body)
        return method.decode(), self.head(method, self.path(WRITE), *close, length) + body

    def path(self, among: list[bytes]) -> bytes:
        chance = self.chance
        odd = [b"?a=b", b"?page=" + b"9" * 30, b"?" + b"a=b&" * 200, b"/../x", b"%00", b"/%ff", b"?q=%zz", b"//"]
        return chance.choice(among) + (chance.choice(odd) if chance.random() < 0.3 else b"")

    def body(self) -> bytes:
        chance = self.chance
        kind = chance.randrange(6)
        if kind == 0:
            return b""
        if kind == 1:
            return chance.randbytes(chance.randrange(1, 5000))
        if kind == 2:
            address = b"a+" * chance.choice([1, 100, 3000, 200_000]) + b"@example.com"
            return b"email=" + address + b"&password=" + b"x" * chance.randrange(3000)
        text = json.dumps(self.value(chance.randrange(1, 6)))
        return text.encode("utf-8", "surrogatepass")[: chance.choice([1 << 20, 1 << 20, 50])]

    def value(self, depth: int) -> object:
        chance = self.chance
        if depth <= 0 or chance.random() < 0.1:
            return chance.choice([chance.choice(ODD_TEXT), chance.choice(ODD_NUMBERS), None, True])
        if chance.random() < 0.3:
            return [self.value(depth - 1) for _ in range(chance.randrange(5))]
        return {chance.choice(FIELDS): self.value(depth - 1) for _ in range(chance.randrange(1, 4))}

    def chunks(self, body: bytes) -> Iterator[bytes]:
        chance, at = self.chance, 0
        while at < len(body):
            size = min(chance.choice([1, 7, 100, 5000, 70_000]), len(body) - at) if at < 3000 else len(body) - at
            extension = b";a=b" if chance.random() < 0.1 else b""
            yield b"%x%b\r\n%b\r\n" % (size, extension, body[at : at + size])
            at += size
        yield b"0\r\n%b\r\n" % (b"X-Trailer: y\r\n" if chance.random() < 0.2 else b"")

    def split(self, data: bytes) -> tuple[bytes, ...]:
        chance = self.chance
        if len(data) < 2 or chance.random() < 0.4:
            return (data,)
        places = sorted({chance.randrange(1, len(data)) for _ in range(chance.choice([1, 2, 5, 20]))})
        return tuple(data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True))

    # ------------------------------------------------------------------------------------------------------ its kinds

    def valid(self) -> Case:
        method, request = self.request()
        return Case("valid", self.split(request), 1, (method,), end=self.end())

    def mutated(self) -> Case:
        chance = self.chance
        method, request = self.request(last=chance.random() < 0.8)
        if method == "HEAD":  # which a mutation could make another method, whose answer has a body
            request = request.replace(b"HEAD", b"GET", 1)
        data = bytearray(request)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(min(len(data), 600) + 1)
            match chance.randrange(4):
                case 0:
                    data[at:at] = chance.choice(SPLINTERS)
                case 1:
                    data[at : at + chance.randrange(1, 30)] = b""
                case 2:
                    data[at:at] = data[at : at + chance.randrange(1, 100)]
                case _:
                    data[at : at + 1] = chance.randbytes(1)
        return Case("mutated", self.split(bytes(data)), bytes(data).count(b"HTTP/") + 1, end=self.end())

    def long(self) -> Case:
        chance, length = self.chance, self.chance.choice([20_000, 31_000, 40_000, 300_000, 2_000_000])
        head = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
        match chance.randrange(4):
            case 0:
                head += b"X-Long: " + b"x" * length + b"\r\n\r\n"
            case 1:
                head += b"".join(b"X-%d: y\r\n" % number for number in range(length // 10)) + b"\r\n"
            case 2:
                head = b"GET /" + b"x" * length + b" HTTP/1.1\r\nHost: a\r\n\r\n"
            case _:
                head += b"X" * length
        return Case("long", self.split(head), 1, end=self.end())

    def drops(self) -> Case:
        method, request = self.request()
        size = self.chance.choice([1, 3, 50])
        parts = [request[at : at + size] for at in range(0, min(len(request), size * 400), size)]
        return Case("drops", tuple(parts), 1, (method,), pause=self.chance.choice([0.0, 0.01, 0.3]), end=self.end())

    def half(self) -> Case:
        method, request = self.request()
        half = request[: self.chance.randrange(1, len(request))]
        named = method if len(half) > len(method) + 1 else "GET"  # before its target begins, its method may go on
        return Case("half", self.split(half), 1, (named,), end=self.chance.choice(["wait", "leave", "reset"]))

    def smuggled(self) -> Case:
        chance, inner = self.chance, b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n" * self.chance.randrange(1, 4)
        upgrade, length = b"Connection: upgrade", b"Content-Length: %d" % len(inner)
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
        head, body = chance.choice([
            ((upgrade, b"Upgrade: h2c", length), inner),
            ((upgrade, b"Upgrade: websocket", b"Transfer-Encoding: chunked"), chunked + inner),
            ((b"Transfer-Encoding: gzip, chunked",), b"0\r\n\r\n" + inner),
            ((b"Transfer-Encoding: \x0bchunked", length), b"0\r\n\r\n" + inner),
            ((b"Host: b", length), inner), ((length, b"Content-Length: 0"), inner), ((b"Content-Length: +0",), inner),
            ((b"Content-Length : 0",), inner), ((b"X: y\n" + length,), inner), ((b"X: y", b" z", length), inner),
            ((b"Transfer-Encoding: chunked",), b"1\n0\r\n0\r\n\r\n" + inner),
            ((length, b"Connection: close"), inner + inner),
        ])  # fmt: skip
        return Case("smuggled", self.split(self.head(b"POST", b"/api/v1/incidents", *head) + body), 1, ("POST",))

    def chunked(self) -> Case:
        chance = self.chance
        head = self.head(b"POST", self.path(WRITE), b"Transfer-Encoding: chunked", b"Connection: close")
        body = chance.choice([
            b"0\r\n\r\n", b"5\r\n{", b"fffffffffffffff\r\n", b"f" * 40 + b"\r\n", b"-1\r\n", b"0x5\r\n", b"\r\n",
            b"5;" + b"a" * 200_000, b"1\r\n{\r\n" * 5000 + b"0\r\n\r\n", b"1;" + b"e" * 3000 + b"\r\n{\r\n",
            b"0\r\n" + b"T: y\r\n" * 50_000, b"2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n", b"2\n{}\n0\n\n",
            b"2\r\n{}0\r\n\r\n", b"0\r\nX: " + b"y" * 300_000,
        ])  # fmt: skip
        return Case("chunked", self.split(head + body), 1, ("POST",), end=self.end())

    def deep(self) -> Case:
        """Bodies that take long to look through; most of them where nobody asks who sends them."""
        chance = self.chance
        depth, leaves = chance.choice([10, 64, 65, 900, 20_000]), chance.choice([1000, 40_000])
        leaf = chance.choice(["1" * 19, "1" * 19, "1" * 4000, '"' + "x" * 30 + '"', "{}", '{"a":1,"a":2}', "1e400"])
        listed = "[" * depth + ",".join([leaf] * min(leaves, 500_000 // len(leaf))) + "]" * depth
        body = f'{{"{chance.choice(FIELDS[:5])}":{listed}}}'.encode()
        path = chance.choice([b"/api/v1/users/sign_in", b"/api/v1/users", b"/forgot-password", *WRITE])
        head = self.head(b"POST", path, b"Connection: close", b"Content-Length: %d" % len(body))
        return Case("deep", self.split(head + body), 1, ("POST",), end=self.end())

    def pipelined(self) -> Case:
        chance, number = self.chance, self.chance.choice([2, 5, 50, 200])
        made = [self.request(last=False) for _ in range(min(number, 20))]
        asked = [made[each % len(made)] for each in range(number)] + [self.request()]
        if chance.random() < 0.3:
            asked.append(("GET", b"nonsense\r\n\r\n"))
        methods = tuple(method for method, _ in asked)
        data = b"".join(request for _, request in asked)[: 4 << 20]
        return Case("pipelined", self.split(data), len(asked), methods, end=self.end())

    def unread(self) -> Case:
        path = self.chance.choice([b"/api/v1/openapi.json", b"/api/docs", b"/sign-in"])
        return Case("unread", (self.head(b"GET", path) * 100,), 100, end="never read")

    def silent(self) -> Case:
        return Case("silent", (self.chance.choice([b"", b"\r\n", b"G", b"\x16\x03\x01"]),), 1)

    def crowd(self) -> Case:
        """Half a request, over and over: whoever else comes must be let in."""
        chance = self.chance
        path, length = chance.choice(WRITE), b"Content-Length: %d" % chance.choice([5, 8000, 60_000, 300_000])
        half = chance.choice([
            b"", b"GET / HTTP/1.1\r\nHost: a\r\n", self.head(b"POST", path, length),
            self.head(b"POST", path, length) + b"{", self.head(b"POST", path, b"Expect: 100-continue", length),
            self.head(b"POST", path, b"Transfer-Encoding: chunked") + b"5\r\n{",
            self.head(b"GET", b"/nowhere") + self.head(b"POST", path, length),
        ])  # fmt: skip
        among = chance.sample(CROWDED, chance.choice([2, 4, 8]))
        sources = tuple(chance.choice(among) for _ in range(CROWD))
        return Case("crowd", self.split(half), 2, end="stay", sources=sources)

    def end(self) -> End:
        return self.chance.choices(["wait", "leave", "reset"], [8, 1, 1])[0]  # type: ignore[return-value]


KINDS: list[Callable[[Hostile], Case]] = [
    Hostile.valid, Hostile.valid, Hostile.mutated, Hostile.mutated, Hostile.mutated, Hostile.mutated, Hostile.long,
    Hostile.drops, Hostile.half, Hostile.smuggled, Hostile.smuggled, Hostile.chunked, Hostile.deep, Hostile.pipelined,
    Hostile.unread, Hostile.silent, Hostile.crowd,
]  # fmt: skip

NO_BODIES = [
    b"", b"{", b"nonsense", b"a=1&b=2", b"null", b"5", b'"text"', b"[]", b"[[]]", b"{}", b"{} {}",
    b"\xff\xfe{\x00}\x00", b'{"a": "\xff"}', b'{"a": NaN}', b'{"' + b"a" * 500_000, b"[" * 200_000, b'{"a":' * 100_000,
    b"\x00", b"\xef\xbb\xbf{}", b'{"a": "\\ud800"}', b'{"a": "\\u0000"}', b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
]  # fmt: skip
