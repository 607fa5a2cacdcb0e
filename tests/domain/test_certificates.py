"""When a certificate ends too soon: by its own lifetime, by the days asked for, by the earliest of its chain."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from tests.certificates import issue, root
from tocsin.domain import certificates

ROOT = root()
NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("lifetime", "left", "tls_days", "severity"),
    [
        (90, 30.5, 30, None),
        (90, 29.5, 30, "warning"),
        (90, 15.5, 30, "warning"),
        (90, 14.5, 30, "critical"),
        (47, 16, 30, None),
        (47, 15.5, 30, "warning"),
        (47, 7.5, 30, "critical"),
        (6, 2.1, 30, None),
        (6, 1.9, 30, "warning"),
        (6, 0.9, 30, "critical"),
        (398, 31, 30, None),
        (398, 29, 30, "warning"),
        (398, 14, 30, "critical"),
        (398, 29, 14, None),
        (398, 13, 14, "warning"),
        (398, 6, 14, "critical"),
        (90, 1, 0, None),
        (90, -2, 30, "critical"),
    ],
)
def test_what_is_too_soon_depends_on_the_lifetime(
    lifetime: float, left: float, tls_days: int, severity: str | None
) -> None:
    issued = issue("www.example.com", ROOT, timedelta(days=lifetime), timedelta(days=left))
    found = certificates.judge(issued.chain, NOW, tls_days)
    assert (found and found.severity) == severity
    if found:
        assert found.type == "tls_expiry"
        assert found.fingerprint == hashlib.sha256(issued.chain[0]).hexdigest()


def test_a_message_says_what_ends_when_and_what_to_do() -> None:
    issued = issue("www.example.com", ROOT, timedelta(days=90), timedelta(days=5, hours=1))
    found = certificates.judge(issued.chain, NOW, 30)
    assert found
    ends = f"{issued.certificate.not_valid_after_utc:%Y-%m-%d at %H:%M} UTC"
    assert found.message == (
        f"The certificate for www.example.com (issued by Root) ends in 5 days, on {ends}: "
        "renew it, or find out why its renewal has not come"
    )
    gone = certificates.judge(issued.chain, NOW + timedelta(days=6), 30)
    assert gone
    assert f"(issued by Root) ended on {ends}: renew it" in gone.message


def test_the_earliest_end_of_the_chain_counts_and_is_said_to_be_that_of_the_authority() -> None:
    between = issue("Old CA", ROOT, timedelta(days=1000), timedelta(days=10), authority=True)
    issued = issue("www.example.com", between, timedelta(days=90), timedelta(days=80))
    found = certificates.judge(issued.chain, NOW, 30)
    assert found
    assert found.severity == "critical"
    assert found.message.startswith(
        "The certificate of the authority Old CA, which is served with that for www.example.com, ends in 10 days, on "
    )
    assert found.fingerprint == hashlib.sha256(issued.chain[0]).hexdigest()


@pytest.mark.parametrize("chain", [[], [b""], [b"no certificate"], [b"\x30" * 1_000_000]])
def test_what_cannot_be_read_is_no_finding(chain: list[bytes]) -> None:
    assert certificates.judge(chain, NOW, 30) is None

