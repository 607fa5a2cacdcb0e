"""The certificates that the other side of a TLS connection has sent."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

DER = 2
"""`_ssl.ENCODING_DER`."""


def served_chain(transport: asyncio.BaseTransport) -> tuple[bytes, ...]:
    """As `chain_of`; empty if the connection is none of TLS."""
    of = transport.get_extra_info("ssl_object")
    return () if of is None else chain_of(of)


def chain_of(of: Any) -> tuple[bytes, ...]:
    """Its own first, each in DER, as they were sent; empty if there are none.

    Before Python 3.13 the interpreter has this without a public name.
    """
    if hasattr(of, "get_unverified_chain"):
        return tuple(of.get_unverified_chain())
    try:
        chain = of._sslobj.get_unverified_chain()
        return tuple(each.public_bytes(DER) for each in chain or ())
    except (AttributeError, ssl.SSLError):
        own = of.getpeercert(binary_form=True)
        return (own,) if own else ()
