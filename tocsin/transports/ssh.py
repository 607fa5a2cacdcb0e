"""Outgoing SSH: one guarded connection, its host key verified before any secret is sent, and plain commands.

The socket is opened by the dialer, so the address that a name resolves to is checked for the very connection that is
used. Nothing of this machine is used: no agent, no key file, no known_hosts, no configuration.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tocsin.domain import hosts, names
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Blocked
from tocsin.transports.resolver import Unresolved

if TYPE_CHECKING:
    import asyncssh

OUTPUT_LIMIT = 16_384
"""Characters kept of each output stream of a command; the rest is read and dropped."""


class SshFailed(Exception):
    """The login failed; the text is for people. `retry` is `domain.deliveries.Failed`'s.

    `offered` is the host key that was offered if another was expected.
    """

    def __init__(
        self, message: str, retry: Literal["scheduled", "twice", "never"] = "scheduled", *, offered: str | None = None
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.offered = offered


def place(host: str, port: int) -> str:
    """Host and port in canonical form, so that equal ones compare equal."""
    try:
        name = hosts.read(host.partition("%")[0]).removesuffix(".")
    except hosts.Unreadable:  # it was stored by an older version
        return f"{host.lower().rstrip('.')}:{port}"
    if ":" not in name:
        return f"{name}:{port}"
    mapped = ipaddress.IPv6Address(name).ipv4_mapped
    return f"{mapped}:{port}" if mapped else f"[{name}]:{port}"


@dataclass(frozen=True, slots=True)
class Login:
    """Where to log in, as whom, by what."""

    host: str
    port: int
    username: str
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        return place(self.host, self.port)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command that was started. `status` is None if it ended without one: killed, or the connection was cut.

    `summary` is its whole output in one line, for people; `stdout` its standard output as it came.
    """

    status: int | None
    summary: str
    stdout: str = ""


@dataclass(slots=True)
class _Password:
    """The password of one login (RFC 4252, 4256). It is sent once: a second prompt means that it was wrong, or
    that something else is requested, such as a one-time code. `more` is whether that happened.
    """

    text: str | None = field(repr=False)
    more: bool = False

    def say(self) -> str | None:
        text, self.text = self.text, None
        return text

    def answer(self, prompts: Sequence[tuple[str, bool]]) -> list[str] | None:
        """The answers: the password for a single prompt without echo, whatever its text; None: give up."""
        if not prompts:
            return []
        if len(prompts) == 1 and not prompts[0][1] and (text := self.say()) is not None:
            return [text]
        self.more = True
        return None


class CommandNotStarted(Exception):
    """The server did not confirm the start of the command; if the connection was cut, it is unknown whether it did."""


class Session:
    """A login that worked. `host_key` is a line as in known_hosts, without host; `reached` is address and port."""

    def __init__(self, connection: asyncssh.SSHClientConnection, host_key: str, reached: str) -> None:
        self._connection = connection
        self.host_key = host_key
        self.reached = reached

    async def run(self, command: str, given: str = "") -> CommandResult:
        """Run a command with `given` on its standard input. Raises `CommandNotStarted`; timeouts are the caller's."""
        import asyncssh

        try:
            process = await self._connection.create_process(command, encoding="utf-8", errors="replace")
        except (asyncssh.Error, OSError) as error:
            raise CommandNotStarted(_line(str(error)) or "the connection was cut") from None
        stdout: list[str] = []
        stderr: list[str] = []
        with suppress(asyncssh.Error, OSError):  # it closed its input: its output will show why
            process.stdin.write(given)
            process.stdin.write_eof()
        await asyncio.gather(_read(process.stdout, stdout), _read(process.stderr, stderr))
        with suppress(asyncssh.Error, OSError):
            await process.wait_closed()
        status = process.exit_status
        known = status if status is not None and status >= 0 else None
        return CommandResult(known, _line(" ".join(stderr + stdout)), "".join(stdout))


class Ssh:
    """Logs in to machines."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    @asynccontextmanager
    async def login(self, to: Login, host_key: str | None) -> AsyncIterator[Session]:
        """A session, for as long as the block lasts. If `host_key` is given, nothing is sent to a server with another.

        Raises `SshFailed`. It has no timeout of its own.
        """
        import asyncssh

        logging.getLogger("asyncssh").setLevel(logging.WARNING)
        met: list[str] = []
        password = _Password(None if to.private_key is not None else to.password)
        attached: list[asyncssh.SSHClientConnection] = []

        class Client(asyncssh.SSHClient):
            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                attached.append(conn)

            def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
                met[:] = [_words(key)]
                return host_key is None or met == [host_key]

            def password_auth_requested(self) -> str | None:
                return password.say()

            def kbdint_auth_requested(self) -> str | None:
                return "" if password.text is not None else None

            def kbdint_challenge_received(
                self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
            ) -> list[str] | None:
                return password.answer(prompts)

        options = _options(asyncssh, to, host_key)
        opened = await self._open(to)
        try:
            peer = opened.getpeername()
            connection, _ = await asyncssh.create_connection(Client, to.host, to.port, sock=opened, **options)
        except (asyncssh.Error, OSError) as error:
            raise _failed(asyncssh, error, to, host_key, met, password.more) from None
        finally:
            if not attached:  # from then on the socket is the connection's own to close
                opened.close()
        try:
            yield Session(connection, met[0], place(peer[0], peer[1]))
        finally:
            connection.abort()

    async def _open(self, to: Login) -> Any:
        try:
            return await self._dialer.open(hosts.read(to.host), to.port)
        except hosts.Unreadable as error:
            raise SshFailed(f"The address cannot be used: {error}", "never") from None
        except Unresolved as error:
            raise SshFailed(str(error)) from None
        except Blocked as error:
            raise SshFailed(str(error), "never") from None
        except ConnectionRefusedError:
            raise SshFailed(f"Connection refused: nothing listens at {to.place}") from None
        except OSError as error:
            raise SshFailed(f"{to.place} is unreachable: {error.strerror or type(error).__name__}") from None


def fingerprint(host_key: str) -> str:
    """A host key's fingerprint as `ssh-keygen -l` prints it: `SHA256:…`."""
    digest = hashlib.sha256(base64.b64decode(host_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _options(asyncssh: Any, to: Login, host_key: str | None) -> dict[str, Any]:
    from asyncssh.public_key import get_default_public_key_algs

    algorithms = [name.decode() for name in get_default_public_key_algs()]
    if host_key is not None:  # a server with keys of several kinds must offer the known one
        kind = host_key.split()[0]
        own = ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]
        algorithms = [*own, *(name for name in algorithms if name not in own)]
    by_key = to.private_key is not None
    try:
        keys = [asyncssh.import_private_key(to.private_key)] if by_key else None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise SshFailed(f"The private key cannot be used: {_line(str(error))}", "never") from None
    return {
        "username": to.username,
        "client_keys": keys,
        "preferred_auth": "publickey" if by_key else "password,keyboard-interactive",
        "known_hosts": ([], [], []),
        "server_host_key_algs": algorithms,
        "agent_path": None,
        "config": None,
        "gss_host": None,
        "x509_trusted_certs": None,
        "client_version": "Tocsin",
        "keepalive_interval": 0,
    }


def _failed(
    asyncssh: Any, error: BaseException, to: Login, host_key: str | None, met: list[str], asked_more: bool
) -> SshFailed:
    match error:
        case asyncssh.HostKeyNotVerifiable() if host_key is not None and met:
            return SshFailed(
                f"The host key of {to.place} has changed: {fingerprint(host_key)} is known, {fingerprint(met[0])} was "
                "offered. No credentials were sent. If the machine was reinstalled, trust the new key by its "
                "fingerprint; if not, this may be an attack",
                "never", offered=met[0],
            )  # fmt: skip
        case asyncssh.PermissionDenied() if asked_more:
            return SshFailed(
                f"Authentication failed: {to.place} asks user {to.username} for something besides the password, or for "
                "the password a second time", "twice",
            )  # fmt: skip
        case asyncssh.PermissionDenied():
            what = "private key" if to.private_key is not None else "password"
            return SshFailed(
                f"Authentication failed: {to.place} does not accept the {what} of user {to.username}", "twice"
            )
        case asyncssh.KeyExchangeFailed():
            return SshFailed(
                f"{to.place} and this service know no common SSH algorithm: {_line(str(error))}", "twice"
            )
    reason = _line(str(error)) or type(error).__name__
    return SshFailed(f"The SSH connection to {to.place} was lost before the login: {reason}")


def _words(key: asyncssh.SSHKey) -> str:
    kind, encoded = key.export_public_key("openssh").decode().split()[:2]
    return f"{kind} {encoded}"


async def _read(stream: Any, parts: list[str]) -> None:
    import asyncssh

    try:
        while part := await stream.read(4096):
            if sum(map(len, parts)) < OUTPUT_LIMIT:
                parts.append(part)
    except (asyncssh.Error, OSError):
        return


def _line(text: str) -> str:
    return names.line(text)[:300]


def key_problem(key: str) -> str | None:
    """What is wrong with a private key, as the rule that it breaks; None if it can be used."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if key.startswith("-----BEGIN OPENSSH") else load_pem_private_key
    try:
        load(key.encode("ascii"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if isinstance(error, TypeError) or "encrypted" in str(error).lower():
            return "has a passphrase; take it off (ssh-keygen -p), the key is encrypted here"
        return "must be a private key as ssh-keygen writes it, or PEM"
    return None
