"""What a mail client calls itself: a full host name, or else its address (RFC 5321, 4.1.3 and 4.1.4)."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_FULL_NAME = re.compile(rf"(?=.{{4,253}}\Z)(?:{_LABEL}\.)+(?!\d+\Z){_LABEL}")
_LITERAL = re.compile(r"\[(?P<v6>IPv6:)?(?P<address>[0-9A-Fa-f:.]+)\]", re.IGNORECASE)
_NO_NAMES = (".localhost", ".localdomain", ".invalid", ".example", ".test")
"""Endings that name nothing for anybody else (RFC 6761), and what installers put where there is no name."""


def is_helo_name(text: str) -> bool:
    """Whether servers may accept it: a full name such as `tocsin.example.com`, or an address in brackets."""
    if literal := _LITERAL.fullmatch(text):
        try:
            return ip_address(literal["address"]).version == (6 if literal["v6"] else 4)
        except ValueError:
            return False
    return _FULL_NAME.fullmatch(text) is not None


def helo_name(machine: str, own_address: str) -> str:
    """The machine's name where it is a full one, else the address that its connection comes from."""
    if _FULL_NAME.fullmatch(machine) and not machine.lower().endswith(_NO_NAMES):
        return machine
    address = ip_address(own_address.partition("%")[0])
    if isinstance(address, IPv6Address):
        return f"[{address.ipv4_mapped}]" if address.ipv4_mapped else f"[IPv6:{address}]"
    return f"[{address}]"
