"""The systemd unit of each part: hardened as far as its work allows. docs/installing.md gives the reasons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Part = Literal["up", "serve", "engine", "probe"]

ACCOUNT = "tocsin"
STATE = "/var/lib/tocsin"
SETTINGS = "/etc/tocsin.env"

PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
"""A word that needs no quotes."""
NO_PROGRAM, NO_WORD = re.compile(r"[\"'\\]"), re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""What systemd takes in no program's name, and what it takes in no word, however those are quoted."""

WORDS: dict[Part, str] = {
    "up": "Tocsin: monitoring that never loses a notification",
    "serve": "Tocsin's API and web console",
    "engine": "Tocsin's engine: deliveries and checks",
    "probe": "Tocsin's probe: checks for a service elsewhere",
}
MEMORY: dict[Part, str] = {"up": "2G", "serve": "1G", "engine": "1G", "probe": "512M"}

UNIT = """\
[Unit]
Description={words}
After=network-online.target
Wants=network-online.target

[Service]
{kind}
ExecStart={command}
KillMode=mixed
TimeoutStopSec=20
Restart=on-failure
RestartSec=2
OOMPolicy=continue
MemoryMax={memory}
LimitNOFILE=65536
UMask=0077
{where}
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
{hardening}
[Install]
WantedBy={wanted_by}
"""

NOTIFY = "Type=notify\nNotifyAccess=main\nWatchdogSec=60\nTimeoutStartSec=15min"
"""Replaying the log after a crash, and migrations, may take minutes; only then it is ready."""

OF_THE_SYSTEM = f"""\
User={ACCOUNT}
Group={ACCOUNT}
StateDirectory=tocsin
StateDirectoryMode=0700
Environment=TOCSIN_DATA_DIR={STATE}
EnvironmentFile=-{SETTINGS}
"""
OF_A_USER = "EnvironmentFile=-%h/.config/tocsin.env\n"

SANDBOX = """\
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
CapabilityBoundingSet=
AmbientCapabilities=
"""
"""What only the system's manager may arrange. PostgreSQL, as a child, needs none of what this takes away."""


def text(part: Part, command: Sequence[str], *, of_a_user: bool) -> str:
    """The unit file of that part, for the system or for one user. Raises `ValueError` as `command_line`."""
    return UNIT.format(
        words=WORDS[part],
        kind=NOTIFY if part == "up" else "Type=exec",
        command=command_line(command),
        memory=MEMORY[part],
        where=OF_A_USER if of_a_user else OF_THE_SYSTEM,
        hardening="" if of_a_user else SANDBOX,
        wanted_by="default.target" if of_a_user else "multi-user.target",
    )


def name(part: Part) -> str:
    return "tocsin.service" if part == "up" else f"tocsin-{part}.service"


def command_line(words: Sequence[str]) -> str:
    """`ExecStart`, as systemd reads it (systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting"). Raises
    `ValueError` for words that it does not take.
    """
    program, *rest = words
    for word in words:
        if NO_WORD.search(word) or NO_PROGRAM.search(program):
            raise ValueError(f"systemd takes no {'program' if word == program else 'word'} {word!r}, quoted or not")
    return " ".join([_quoted(program), *(_quoted(word).replace("$", "$$") for word in rest)])


def _quoted(word: str) -> str:
    if not PLAIN.fullmatch(word):
        escaped = word.replace("\\", "\\\\").replace('"', '\\"')
        word = f'"{escaped}"'
    return word.replace("%", "%%")
