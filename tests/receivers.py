"""The far ends: a webhook receiver and a mailbox on real loopback sockets, whose answers may change in mid-test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.waiting import PATIENCE, poll
from tocsin.cli.sockets import free_port


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver does with one request.

    `how`: `answer` it; `cut` the connection in the middle of the answer's head; `reset` it without one; `hang` until
    the receiver closes. `after` seconds pass first.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    how: Literal["answer", "cut", "reset", "hang"] = "answer"
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in, and what it is answered. `at` is UTC; `monotonic` is for measuring. Header names are
    lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    answer: Answer
    at: datetime
    monotonic: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The delivery that it is a try of."""
        return self.headers["webhook-id"]

    @property
    def accepted(self) -> bool:
        return self.answer.how == "answer" and 200 <= self.answer.status < 300


class Receiver:
    """An HTTP server of its own thread. Answers `otherwise` unless something was queued for the path by `then`.

    `url(path)` is where to send; everything sent is in `requests`. `answers[path]` replaces `otherwise` for one path.
    `record` may be replaced, by what need not keep everything; `judge`, by what answers each request by what is in it.
    Both are called on the receiver's own thread.
    """

    def __init__(self, port: int = 0) -> None:
        self.otherwise = Answer()
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.record: Callable[[Request], None] = self.requests.append
        self.judge: Callable[[Request], Answer] = lambda request: request.answer
        self._queued: dict[str | None, deque[Answer]] = {}
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open_connections: dict[asyncio.Task[None], asyncio.WriteTransport] = {}
        self.port = port or free_port()
        self._thread = threading.Thread(target=self._loop.run_forever, name="receiver", daemon=True)
        self._thread.start()
        self.listen()

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def then(self, *answers: Answer, path: str | None = None) -> None:
        """Queue answers for the next requests (to `path`, or to any); after them it is as before."""
        self._queued.setdefault(path, deque()).extend(answers)

    def to(self, path: str) -> list[Request]:
        return [request for request in list(self.requests) if request.path == path]

    def wait_for(
        self, count: int = 1, *, path: str | None = None, where: Callable[[Request], bool] = lambda _: True,
        timeout: float = 15.0,
    ) -> list[Request]:
        """The first requests that match, once there are `count` of them. Blocks; `arrivals` is for async tests."""

        def matching() -> list[Request]:
            requests = self.to(path) if path is not None else list(self.requests)
            return [request for request in requests if where(request)]

        return poll(
            lambda: found if len(found := matching()) >= count else None,
            timeout=timeout, what=lambda: f"{count} requests at the receiver; there are {len(matching())}",
        )

    async def arrivals(self, count: int = 1, **conditions: Any) -> list[Request]:
        """`wait_for`, without blocking the loop."""
        return await asyncio.to_thread(self.wait_for, count, **conditions)

    def refuse(self) -> None:
        """Close the listening socket and every connection: what comes is refused until `listen`."""
        self._run(self._close())

    def listen(self) -> None:
        """Listen again, on the same port."""
        self._run(self._open())

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        if self._server is None:
            listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
            self._server = await asyncio.start_server(self._accepted, sock=listening)

    async def _close(self) -> None:
        if self._server is not None:
            # What is accepted gets its transport first: asyncio forgets one whose server was closed in between.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            accepting = asyncio.all_tasks() - {asyncio.current_task()} - self._open_connections.keys()
            await asyncio.gather(*accepting, return_exceptions=True)
            self._server.close()
            self._server = None
        # Also those that were accepted just now; one that is cancelled before it began to converse closes nothing.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others & self._open_connections.keys():
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        for transport in self._open_connections.values():
            transport.abort()
        self._open_connections.clear()
        await asyncio.sleep(0)

    def _next(self, path: str) -> Answer:
        for queue in (self._queued.get(path), self._queued.get(None)):
            if queue:
                return queue.popleft()
        return self.answers.get(path, self.otherwise)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open_connections[asyncio.ensure_future(self._converse(reader, writer))] = writer.transport

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.transport.abort()
            task = asyncio.current_task()
            assert task is not None
            self._open_connections.pop(task, None)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, path, headers, body, self._next(path), datetime.now(UTC), time.monotonic())
        answer = self.judge(request)
        self.record(replace(request, answer=answer))
        if answer.after:
            await asyncio.sleep(answer.after)
        if answer.how == "hang":
            await asyncio.Event().wait()
        if answer.how == "reset":
            return False
        named = {"content-length": str(len(answer.body)), "content-type": "text/plain", **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} Whatever", *(f"{name}: {value}" for name, value in named.items())]
        said = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body
        writer.write(said[:20] if answer.how == "cut" else said)
        await writer.drain()
        return answer.how == "answer"


@dataclass(frozen=True, slots=True)
class Mail:
    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    at: datetime
    monotonic: float

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        assert part is not None, "no plain-text part"
        return part.get_content()

    @property
    def html(self) -> str:
        part = self.message.get_body(("html",))
        assert part is not None, "no HTML part"
        return part.get_content()


class Mailbox:
    """A mail server that keeps what it gets. `refusal`, such as `550 no such user`, is said to RCPT instead."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.refusal: str | None = None
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=PATIENCE)
        self._controller.start()
        self.port: int = self._controller.port

    @property
    def url(self) -> str:
        """For `TOCSIN_SMTP_URL`."""
        return f"smtp://127.0.0.1:{self.port}?starttls=never"

    def to(self, address: str) -> list[Mail]:
        return [mail for mail in list(self.mails) if address in mail.recipients]

    def wait_for(self, count: int = 1, *, to: str, timeout: float = PATIENCE) -> list[Mail]:
        """The mails to that address, once there are `count` of them. Blocks; `arrivals` is for async tests."""
        return poll(
            lambda: found if len(found := self.to(to)) >= count else None,
            timeout=timeout, what=lambda: f"{count} mails to {to}; there are {len(self.to(to))}",
        )

    async def arrivals(self, count: int = 1, *, to: str, timeout: float = PATIENCE) -> list[Mail]:
        return await asyncio.to_thread(self.wait_for, count, to=to, timeout=timeout)

    def forget(self) -> None:
        self.mails.clear()
        self.refusal = None

    def close(self) -> None:
        self._controller.stop()

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Iterable[str]
    ) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        recipients = tuple(envelope.rcpt_tos)
        self.mails.append(
            Mail(envelope.mail_from or "", recipients, message, datetime.now(UTC), time.monotonic())
        )
        return "250 kept"
