"""Sign-in attempts, by page and API together: for which account, and whether one more is allowed.

Counted per network, per account from one network, and per account from everywhere. The last does not apply to networks
where the user has signed in before, so that nobody is locked out by attempts from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.domain.accounts import MAX_ADDRESS_LENGTH, same_address
from tocsin.storage.accounts import accounts, throttle
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

PER_NETWORK = Limit(30, 300)
PER_ACCOUNT_AND_NETWORK = Limit(10, 900)
PER_ACCOUNT = Limit(100, 3600)
WARNING_LIMIT = Limit(1, 86_400)
"""How often an account's owner is warned by mail about sign-in attempts."""

KNOWN_FOR = "90 days"
MAX_KNOWN = 20
"""Maximum known networks of a user."""

KNOWN = f"""
SELECT EXISTS (SELECT FROM known_networks
               WHERE user_id = $1 AND hash = ANY($2::bytea[]) AND seen_at > now() - interval '{KNOWN_FOR}')
"""

REMEMBER = """
INSERT INTO known_networks (user_id, hash) VALUES ($1, $2) ON CONFLICT (user_id, hash) DO UPDATE SET seen_at = now()
"""

FORGET = f"""
DELETE FROM known_networks WHERE user_id = $1 AND (
    seen_at < now() - interval '{KNOWN_FOR}'
    OR hash IN (SELECT hash FROM known_networks WHERE user_id = $1 ORDER BY seen_at DESC OFFSET {MAX_KNOWN}))
"""


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """One attempt: the account, if it exists; the seconds to `wait`, 0 if it is allowed; whether the
    account has been signed in to from that network before (`known`), else it counts for the account from everywhere;
    and whether to warn the account's owner (`warn`).
    """

    user: User | None
    account: str
    network: str
    wait: float = 0.0
    known: bool = False
    warn: bool = False


async def begin(tx: Tx, vault: Vault, address: str, network: str) -> SignInAttempt:
    """Count one more attempt. The caller commits, unless the password cannot be checked, and then checks it."""
    address = same_address(address[: 2 * MAX_ADDRESS_LENGTH])
    if wait := await throttle.take(tx, _from(network), PER_NETWORK):
        return SignInAttempt(None, "", network, wait)
    user = await accounts.user_by_email(tx, address)
    account = str(user.id) if user else address
    wait = await throttle.take(tx, _at(account, network), PER_ACCOUNT_AND_NETWORK)
    known = bool(user and await tx.fetchval(KNOWN, user.id, _hashes(vault, user, network)))
    if not wait and not known:
        wait = await throttle.take(tx, _at(account), PER_ACCOUNT)
    warn = bool(wait and user and user.verified) and not await throttle.take(
        tx, f"told of tries at {account}", WARNING_LIMIT
    )
    return SignInAttempt(user, account, network, wait, known, warn)


async def succeed(tx: Tx, vault: Vault, good: SignInAttempt) -> None:
    """The password was right: the attempt does not count, and the network is known from now on."""
    assert good.user is not None
    # In the order of `begin`, to avoid deadlocks.
    await throttle.refund(tx, _from(good.network), PER_NETWORK)
    await throttle.give_back(tx, _at(good.account, good.network))
    if not good.known:
        await throttle.refund(tx, _at(good.account), PER_ACCOUNT)
    await remember(tx, vault, good.user, good.network)


async def remember(tx: Tx, vault: Vault, user: User, network: str) -> None:
    """Record that the user signed in from that network."""
    await tx.execute(REMEMBER, user.id, _hashes(vault, user, network)[0])
    await tx.execute(FORGET, user.id)


async def reset_limits(tx: Tx, vault: Vault, user: User, network: str) -> None:
    """Whoever chose a new password by mail may use it from that network, despite earlier attempts."""
    await throttle.give_back(tx, _at(str(user.id), network))
    await remember(tx, vault, user, network)


def _from(network: str) -> str:
    return f"sign in from {network}"


def _at(account: str, network: str = "everywhere") -> str:
    return f"sign in as {account} from {network}"


def _hashes(vault: Vault, user: User, network: str) -> list[bytes]:
    return vault.token_hashes(f"network of {user.id} {network}")
