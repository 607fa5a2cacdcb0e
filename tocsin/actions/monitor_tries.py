"""One check of a monitor as its settings are being written: its whole answer is shown, nothing is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from tocsin import __version__
from tocsin.actions import limits
from tocsin.actions.base import Actor, unrecorded
from tocsin.checks.base import CheckContext, run_check
from tocsin.domain.monitors import MonitorConfig, Result
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import Tx
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

LIMIT = Limit(20, 300)
"""Tries of one project, and seconds in which as many may follow."""
TIMEOUT = 10.0
"""Seconds that a try takes at most, whatever the monitor's own timeout is."""
USER_AGENT = f"Tocsin/{__version__}"
WAIT = "Too many checks were tried. Try again in {seconds} s, or save the monitor: then it is checked"


@unrecorded("a try changes nothing")
async def take(tx: Tx, actor: Actor) -> None:
    """Count one more try of the project. Raises `Refused` (429)."""
    await limits.take(tx, actor, f"tries of {actor.project_id}", LIMIT, WAIT)


async def look(wanted: MonitorConfig, networks: Sequence[IPv4Network | IPv6Network]) -> Result:
    """The result, thorough. Call it outside a transaction, after `take`."""
    target = replace(wanted.target, timeout=min(wanted.target.timeout, TIMEOUT))
    return await run_check(target, CheckContext(Dialer(Guard(networks)), USER_AGENT, thorough=True))
