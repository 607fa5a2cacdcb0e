"""The response to one HTTP request, parsed as it arrives: as tolerantly as curl does, and always bounded.

HTTP/1.1 (RFC 9112), and the deviations of real servers: folded headers, bare line feeds, no reason, blanks before a
chunk's extension, a duplicate length. Such a response is read, and its connection is not reused: an ambiguous end of a
response can do harm only if another response follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

HEAD_LIMIT = 64 << 10
"""Maximum bytes that are not body: heads (those of 1xx responses too), extensions of chunks, trailers."""
TINY = 3
"""Minimum size of a chunk that counts as body only: a body of tiny chunks costs endless work, as trailers do."""
BODILESS = frozenset((204, 304))
FRAMING_SIZES = frozenset(map(len, (b"content-length", b"transfer-encoding", b"connection")))
CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"br"))
"""Transfer codings that are accepted, besides chunked (RFC 9110, 8.4.1)."""

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]|2(?:\.0)?) +([1-9]\d\d)(?!\d)", re.IGNORECASE)
_BEGUN_LINE = re.compile(_STATUS_LINE.pattern + rb"[ \t]", re.IGNORECASE)
_HEAD_END = re.compile(rb"\n\r*\n")
_LENGTH = re.compile(rb"\+?(\d+)")
_MAX_DIGITS = 18
"""Maximum digits of a length that is used; a longer one is read up to the end of the connection, as curl does."""
_USUAL_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(?![0-9a-fA-F])[ \t]*(?:\r*$|;)")
_SHORT_SIZE = 18


class Unreadable(Exception):
    """The response cannot be parsed; the text says why."""


class Response:
    """The part of one response that has arrived. `limit` is how many bytes of its body are kept.

    `begun` is the final status once its line is complete, `status` once its head is; 0 before.
    `complete`: it has ended. `full`: its body is longer than the limit, and the rest is not read.
    `announced`: it declares where it ends; `measured`: and how long it is. `reusable`: another request may follow
    on its connection.
    """

    __slots__ = (
        "_bodiless", "_chunked", "_left", "_pending", "_place", "_room", "announced", "begun", "body", "codings",
        "complete", "full", "headers", "limit", "measured", "reason", "reusable", "status",
    )  # fmt: skip

    def __init__(self, limit: int, *, bodiless: bool = False) -> None:
        """`bodiless`: to a HEAD, whose response has no body whatever it says."""
        self.limit = limit
        self._bodiless = bodiless
        self.begun = self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.codings: tuple[bytes, ...] = ()
        """Its transfer codings, chunked aside, outermost first."""
        self.complete = self.full = self.announced = self.measured = self.reusable = False
        self._room = HEAD_LIMIT
        self._pending = b""
        self._chunked = False
        self._left = -1
        """Bytes that the body, or the chunk, still needs; -1: up to the end of the connection."""
        self._place = "size"
        """Which line is next between chunks: `size`, `after` a chunk's bytes, or `trailer`."""

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name, which is given in lower case."""
        return next(self.all_of(name), None)

    def all_of(self, name: bytes) -> Iterator[bytes]:
        return (value for given, value in self.headers if given.lower() == name)

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection. Raises `Unreadable`; nothing may be fed after that."""
        if not self.status:
            data = self._heads(data)
        if not data:
            return
        if self.complete:
            self.reusable = False  # more data than one response
        elif self._chunked:
            self._chunks(data)
        else:
            self._plain(data)

    def end(self) -> bool:
        """The connection was closed cleanly. Returns whether the response is complete."""
        self.reusable = False
        if self.status and not self.announced:
            self.complete = True
        return self.complete

    def give_up(self) -> int:
        """Stop waiting. Returns the final status, even of an incomplete line, or 0."""
        if not self.begun and (found := _BEGUN_LINE.match(self._pending)):
            self._begin(int(found[2]))
        return self.begun

    # ---------------------------------------------------------------------------------------------------------- head

    def _heads(self, data: bytes) -> bytes:
        """Parse heads up to the end of the final one. Returns what follows it."""
        begin = searched = 0
        if self._pending:
            searched = max(0, self._pending.rfind(b"\n"))
            data = self._pending + data
            self._pending = b""
        while found := _HEAD_END.search(data, searched):
            stop, searched = found.span()
            self._head(data[begin:stop], tidy=searched - stop == 3)
            if self.status:
                return data[searched:]
            begin = searched
        if begin < len(data):
            self._unfinished(data[begin:])
        return b""

    def _begin(self, status: int) -> None:
        """Set `begun`, whatever follows. 1xx are interim, except if another protocol follows."""
        if status >= 200 or status == 101:
            self.begun = status

    def _unfinished(self, data: bytes) -> None:
        if not self.begun:
            if b"\n" in data:
                found = _STATUS_LINE.match(data)
                if found is None:
                    raise Unreadable("The answer is not HTTP")
                self._begin(int(found[2]))
            elif data[:5].upper() != b"HTTP/"[: len(data)]:
                raise Unreadable("The answer is not HTTP")
        if len(data) > self._room:
            raise Unreadable(f"The headers are longer than {HEAD_LIMIT >> 10} KiB")
        self._pending = data

    def _head(self, head: bytes, *, tidy: bool) -> None:
        status_line = _STATUS_LINE.match(head)
        if status_line is None:
            raise Unreadable("The answer is not HTTP")
        status = int(status_line[2])
        self._begin(status)
        self._spend(len(head))
        if b"\x00" in head:
            raise Unreadable("The answer is not HTTP: a NUL in its head")
        if not self.begun:  # interim: the final response follows
            return
        lines = head.split(b"\r\n")
        usual = tidy and head.count(b"\n") == len(lines) - 1 == head.count(b"\r") - 1
        if not usual or b"\n " in head or b"\n\t" in head or b" :" in head or b"\t:" in head:
            usual = False
            lines = _tidied(head)
        self.reason = lines[0][status_line.end() :].strip()
        del lines[0]
        headers = self.headers
        lengths: list[bytes] = []
        wrappings: list[bytes] = []
        connection = b""
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise Unreadable("The answer is not HTTP: a header without a colon")
            value = value.strip()
            headers.append((name, value))
            if len(name) in FRAMING_SIZES:
                name = name.lower()
                if name == b"content-length":
                    lengths.append(value)
                elif name == b"transfer-encoding":
                    wrappings.append(value)
                elif name == b"connection":
                    connection += b"," + value.lower()
        if status_line[1] == b"1.1":
            self.reusable = usual and b"close" not in connection and status != 101
        else:
            self.reusable = usual and b"keep-alive" in connection and status_line[1] == b"1.0"
        self._frame(status, lengths, wrappings)
        self.status = status

    def _frame(self, status: int, lengths: list[bytes], wrappings: list[bytes]) -> None:
        """Where the body ends (RFC 9112, 6.3)."""
        if len(lengths) + len(wrappings) > 1:
            self.reusable = False
        if self._bodiless or status in BODILESS:
            self.announced = self.complete = True
        elif wrappings and self._wrapped(b",".join(wrappings)):
            self.announced = self._chunked
            self._left = 0 if self._chunked else -1
        elif lengths and status != 101:
            self._measured(lengths[-1])
        if not self.announced:
            self.reusable = False

    def _wrapped(self, value: bytes) -> bool:
        """Whether there is any transfer coding (RFC 9112, 6.1)."""
        names = [name for part in value.lower().split(b",") if (name := part.strip()) not in (b"", b"identity")]
        while names[-1:] == [b"chunked"]:
            names.pop()
            self._chunked = True
        if not CODINGS.issuperset(names):
            raise Unreadable(f"Transfer-Encoding {_shown(value)} cannot be read")
        self.codings = tuple(reversed(names))
        if value.lower() != b"chunked":
            self.reusable = False
        return self._chunked or bool(names)

    def _measured(self, value: bytes) -> None:
        digits = value
        if not value.isdigit():
            self.reusable = False
            found = _LENGTH.match(value)
            if found is None:
                raise Unreadable(f"Content-Length {_shown(value)} is no number")
            digits = found[1]
        if len(digits) <= _MAX_DIGITS or len(digits := digits.lstrip(b"0")) <= _MAX_DIGITS:
            self.announced = self.measured = True
            self._left = int(digits or b"0")
            self.complete = not self._left

    # ---------------------------------------------------------------------------------------------------------- body

    def _plain(self, data: bytes) -> None:
        if len(data) == self._left <= self.limit - len(self.body):  # the usual end
            self.body += data
            self.complete = True
            return
        if self._left < 0:
            self._keep(data)
            return
        self._keep(data[: self._left])
        if len(data) >= self._left:
            self.reusable = self.reusable and len(data) == self._left
            self.complete = not self.full
        self._left -= len(data)

    def _keep(self, part: bytes) -> None:
        room = self.limit - len(self.body)
        if len(part) > room:
            self.full = True
            self.reusable = False
            self.body += part[:room]
        else:
            self.body += part

    def _chunks(self, data: bytes) -> None:
        """RFC 9112, 7.1."""
        if self._pending:
            data = self._pending + data
            self._pending = b""
        at = 0
        while at < len(data) and not self.full:
            if not self._left and self._place == "size" and (usual := _USUAL_CHUNK.match(data, at)):
                begin, size = usual.end(), int(usual[1], 16)
                at = begin + size + 2
                if size and data[at - 2 : at] == b"\r\n":
                    if size < TINY:
                        self._spend(TINY)
                    self._keep(data[begin : at - 2])
                    continue
                at = usual.start()
            if self._left:
                part = data[at : at + self._left]
                self._keep(part)
                at += len(part)
                self._left -= len(part)
                if not self._left:
                    self._place = "after"
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._pending = data[at:]
                if len(self._pending) > self._room:
                    raise Unreadable(f"There is more than {HEAD_LIMIT >> 10} KiB around the body")
                return
            self._line(data[at:end])
            at = end + 1
            if self.complete:
                self.reusable = self.reusable and at == len(data)
                return

    def _line(self, line: bytes) -> None:
        if line[-1:] != b"\r":
            self.reusable = False
        if self._place == "size":
            found = _SIZE.match(line)
            if found is None:
                raise Unreadable("The chunks of the body cannot be read")
            if len(line) > _SHORT_SIZE:
                self._spend(len(line))
            self._left = int(found[1], 16)
            if self._left < TINY:
                self._spend(TINY)
            if not self._left:
                self._place = "trailer"
        elif self._place == "after":
            if line.rstrip(b"\r"):
                raise Unreadable("The chunks of the body cannot be read")
            self._place = "size"
        elif line.rstrip(b"\r"):
            self._spend(len(line) + 1)
        else:
            self.complete = True

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            what = "There is more than {} KiB around the body" if self.status else "The headers are longer than {} KiB"
            raise Unreadable(what.format(HEAD_LIMIT >> 10))


def _tidied(head: bytes) -> list[bytes]:
    """Its lines, whatever their endings, without blanks before colons, and headers unfolded (RFC 9112, 5.1 and 5.2)."""
    first, *rest = head.split(b"\n")
    whole: list[list[bytes]] = []
    for line in rest:
        if line[:1] not in (b" ", b"\t"):
            name, colon, value = line.partition(b":")
            whole.append([name.rstrip() + colon + value.strip()])
        elif whole:
            whole[-1].append(line.strip())
        else:
            raise Unreadable("The answer is not HTTP: it begins with the rest of a header")
    return [first.rstrip(b"\r"), *[b" ".join(parts) for parts in whole]]


def _shown(value: bytes) -> str:
    return repr(value[:50].decode("latin-1"))
