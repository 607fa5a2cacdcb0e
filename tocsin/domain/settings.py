"""Parse the text of one setting into a value, or `Unusable` in one line. Names are given without `TOCSIN_`."""

from __future__ import annotations

import ipaddress

from tocsin.domain import urls

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DAY = 86_400


class Unusable(Exception):
    """A setting that cannot be used. The text is one line that names it and says what to do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


def choice(name: str, value: str, *allowed: str) -> str:
    if value not in allowed:
        raise Unusable(f"TOCSIN_{name}", f"is {value!r}, but must be one of: {', '.join(allowed)}")
    return value


def switch(name: str, value: str) -> bool:
    lowered = value.lower()
    if lowered not in ("true", "false", "1", "0", "yes", "no"):
        raise Unusable(f"TOCSIN_{name}", f"is {value!r}, but must be true or false")
    return lowered in ("true", "1", "yes")


def between(name: str, value: str, least: int, most: int) -> int:
    if not value.isdecimal() or len(value) > 20 or not least <= int(value) <= most:
        raise Unusable(f"TOCSIN_{name}", f"is {value!r}, but must be a whole number, {least} to {most}")
    return int(value)


def seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise Unusable(f"TOCSIN_{name}", f"is {value!r}, but must be seconds, 0.1 to 3600")
    return seconds


def days(name: str, value: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 36_500:
        raise Unusable(f"TOCSIN_{name}", f"is {value!r}, but must be a number of days, 1 to 36500")
    return int(value)


def schedule(value: str) -> tuple[float, ...]:
    try:
        waits = tuple(float(part) for part in value.split(","))
    except ValueError:
        waits = ()
    if not waits or any(not 0 <= wait <= 30 * DAY for wait in waits):
        raise Unusable("TOCSIN_RETRY_SCHEDULE", f"is {value!r}, but must be seconds with commas, such as 5,30,120")
    return waits


def networks(name: str, value: str) -> tuple[Network, ...]:
    if "%" in value:
        raise Unusable(f"TOCSIN_{name}", f"is {value!r}, but a network has no zone (%…)")
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise Unusable(f"TOCSIN_{name}", f"{error}; give networks with commas, such as 10.0.0.0/8") from error


def targets(name: str, value: str) -> tuple[str, ...]:
    """Two or three addresses that answer whenever there is a way to them; or none."""
    name, found = f"TOCSIN_{name}", tuple(part.strip() for part in value.split(",") if part.strip())
    if found and not 2 <= len(set(found)) == len(found) <= 3:
        raise Unusable(name, f"is {value!r}, but must be two or three targets with commas, each once")
    for each in found:
        try:
            url = urls.read(each)
        except ValueError as error:
            raise Unusable(name, f"has {each!r} in it, which cannot be used: {error}") from None
        if url.has_login or not (url.scheme in urls.PORTS or (url.scheme == "tcp" and url.port and url.target == "/")):
            raise Unusable(name, f"has {each!r} in it, but must be of targets such as tcp://192.0.2.1:443")
    return found


def http_url(name: str, value: str, *, login: bool = False) -> str:
    """An address to call, with a `login` only where that is sent. One with an @ is not quoted in what is wrong with it:
    a password may be before that.
    """
    shown = "what is given" if "@" in value else repr(value)
    try:
        url = urls.read(value)
    except ValueError as error:
        raise Unusable(f"TOCSIN_{name}", f"is {shown}, which cannot be used: {error}") from None
    if url.has_login and not login:
        raise Unusable(f"TOCSIN_{name}", "has a user name or a password in it, which would not be sent")
    if url.scheme not in urls.PORTS:
        raise Unusable(f"TOCSIN_{name}", f"is {shown}, but must be an address that starts with https://")
    return value


def heartbeat_url(value: str) -> str | None:
    """An address that is called while all works, if there is one. It is secret, and in no message."""
    try:
        return http_url("HEARTBEAT_URL", value) if value else None
    except Unusable:
        form = "must be an address such as https://tocsin.example.com/ping/…, without user name and password"
        raise Unusable("TOCSIN_HEARTBEAT_URL", form) from None


def address(name: str, value: str) -> str:
    if value.count("@") != 1 or not value.isprintable() or any(character in ' <>,;:()"\\' for character in value):
        raise Unusable(f"TOCSIN_{name}", f"is {value!r}, but must be one bare mail address")
    return value
