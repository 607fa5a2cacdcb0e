"""How a password is typed where a server asks for it in words of its own (keyboard-interactive, RFC 4256)."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncssh
import pytest

from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard
from tocsin.transports.ssh import Login, Ssh, SshFailed

PASSWORD = "correct horse"
Round = Sequence[tuple[str, bool]]
"""What is asked at once: each prompt, and whether what is typed is echoed."""


class Asking(asyncssh.SSHServer):
    """A server that asks these rounds, one after the other, and lets in who answered the last of them."""

    def __init__(self, rounds: Sequence[Round], typed: list[list[str]], by_password: bool = False) -> None:
        self.rounds, self.typed, self.by_password = list(rounds), typed, by_password

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return self.by_password

    def validate_password(self, username: str, password: str) -> bool:
        self.typed.append([password])
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> tuple[str, str, str, Round]:
        return "", "", "", list(self.rounds.pop(0))

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> object:
        self.typed.append(list(responses))
        return ("", "", "", list(self.rounds.pop(0))) if self.rounds else True


@asynccontextmanager
async def asking(rounds: Sequence[Round], typed: list[list[str]], by_password: bool = False) -> AsyncIterator[Login]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        lambda: Asking(rounds, typed, by_password), "127.0.0.1", 0, server_host_keys=[key]
    )
    try:
        yield Login("127.0.0.1", server.get_port(), "admin", password=PASSWORD)
    finally:
        server.close()
        await server.wait_closed()


async def log_in(to: Login) -> None:
    async with (
        asyncio.timeout(60),
        Ssh(Dialer(Guard([ipaddress.ip_network("127.0.0.0/8")]))).login(to, None),
    ):
        pass


@pytest.mark.parametrize("prompt", ["Password: ", "Passwort: ", "パスワード:", "", "(admin@host) Mot de passe :"])
async def test_one_prompt_without_echo_is_answered_in_whatever_language(prompt: str) -> None:
    typed: list[list[str]] = []
    async with asking([[(prompt, False)]], typed) as to:
        await log_in(to)
    assert typed == [[PASSWORD]]


async def test_a_message_that_asks_for_nothing_is_passed_over() -> None:
    typed: list[list[str]] = []
    async with asking([[], [("Passwort:", False)], []], typed) as to:
        await log_in(to)
    assert typed == [[], [PASSWORD], []]


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        ([[("Password: ", False)], [("Verification code: ", False)]], [[PASSWORD]]),
        ([[("Password: ", False)], [("Password: ", False)]], [[PASSWORD]]),
        ([[("Password: ", False), ("Verification code: ", False)]], []),
        ([[("User name: ", True)]], []),
    ],
)
async def test_a_password_is_typed_once_and_nowhere_else(rounds: list[Round], expected: list[list[str]]) -> None:
    typed: list[list[str]] = []
    async with asking(rounds, typed) as to:
        with pytest.raises(SshFailed, match="something besides the password, or for the password a second"):
            await log_in(to)
    assert typed == expected


async def test_a_password_that_was_refused_is_not_typed_at_a_prompt_as_well() -> None:
    typed: list[list[str]] = []
    async with asking([[("Password: ", False)]], typed, by_password=True) as to:
        with pytest.raises(SshFailed, match="does not accept the password of user admin"):
            await log_in(to)
    assert typed == [[PASSWORD]]
