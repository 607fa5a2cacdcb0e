"""Options that several types of checks share, and so mean the same."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from tocsin.domain import certificates, registrations

IpVersion = Annotated[Literal[4, 6] | None, Meta(description="4 or 6: only IPv4 or only IPv6 is used. Default: both.")]
MaxResponseMs = Annotated[
    int | None, Meta(description="Milliseconds after which a good answer is too slow (incident type `slow`).")
]
TlsDays = Annotated[
    int,
    Meta(
        description="Days before a certificate of the served chain ends from which there is a `tls_expiry` incident, "
        "a warning: this or a third of its lifetime, whichever is less. Critical below a sixth (and at most half of "
        f"that). From 0 (never) to {certificates.MAX_DAYS}; default {certificates.DEFAULT_DAYS}."
    ),
]
DomainDays = Annotated[
    int | None,
    Meta(
        description="Days before the registration of the host's domain ends from which there is an incident "
        "`domain_expiry`: a warning, critical below a sixth. Its registry is asked once a day (RDAP). From 1 to "
        f"{registrations.MAX_DAYS}; null, the default: never."
    ),
]
