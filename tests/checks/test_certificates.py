"""What a check finds about the certificate of a site beside its verdict; compared with what openssl says of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from tests.certificates import Issued, issue, root
from tests.curl import run
from tests.sites import AGENT, LOOPBACK, answer, look, redirects, says, site
from tocsin.checks.base import CheckContext
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

ROOT = root()


def trusting(authority: Issued = ROOT) -> CheckContext:
    context = ssl.create_default_context(cadata=authority.certificate.public_bytes(Encoding.PEM).decode())
    return CheckContext(Dialer(Guard(LOOPBACK), context), AGENT)


def soon(left: float = 5, lifetime: float = 90) -> Issued:
    between = issue("Between", ROOT, timedelta(days=1000), timedelta(days=900), authority=True)
    return issue("localhost", between, timedelta(days=lifetime), timedelta(days=left))


async def openssl_says(port: int, seconds: int) -> tuple[str, bool]:
    """The fingerprint of the certificate that is served, and whether it ends within these seconds."""
    _, out = await run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost")
    pem = out[out.index("-----BEGIN") : out.index("-----END") + 25].encode() + b"\n"
    _, fingerprint = await run("openssl", "x509", "-noout", "-fingerprint", "-sha256", given=pem)
    code, _ = await run("openssl", "x509", "-noout", "-checkend", str(seconds), given=pem)
    return fingerprint.partition("=")[2].strip().replace(":", "").lower(), code == 1


async def test_a_site_is_up_and_its_certificate_that_ends_soon_is_found_beside() -> None:
    for left, severity in ((5, "critical"), (20, "warning"), (60, None)):
        async with site(says(answer()), tls=soon(left).server()) as port:
            result = await look(f"https://localhost:{port}/", trusting())
            fingerprint, ends = await openssl_says(port, 30 * 86_400)
        assert result.ok
        assert result.findings is not None
        assert [each.severity for each in result.findings] == ([severity] if severity else [])
        assert ends is (severity is not None)
        assert all(each.fingerprint == fingerprint for each in result.findings)


async def test_it_is_found_too_where_the_answer_is_bad_and_where_nobody_verifies() -> None:
    async with site(says(answer("500 Oh")), tls=soon().server()) as port:
        result = await look(f"https://localhost:{port}/", trusting())
        assert (result.problem, len(result.findings or ())) == ("http_status", 1)
        result = await look(f"https://127.0.0.1:{port}/", verify_tls=False, expected_status=500)
        assert (result.problem, len(result.findings or ())) == (None, 1)


async def test_nothing_is_said_where_that_is_not_wanted_or_nothing_could_be_seen() -> None:
    async with site(says(answer()), tls=soon().server()) as port:
        assert (await look(f"https://localhost:{port}/", trusting(), tls_days=0)).findings == []
        assert (await look(f"https://localhost:{port}/", trusting(), tls_days=3)).findings == []
        assert (await look(f"https://localhost:{port}/")).findings is None
    assert (await look(f"https://localhost:{port}/", trusting())).findings is None
    async with site(says(answer())) as port:
        assert (await look(f"http://localhost:{port}/")).findings == []


async def test_the_certificates_of_all_hosts_on_the_way_are_looked_at() -> None:
    async with site(says(answer()), tls=soon(3).server()) as second:
        to = redirects(lambda path: f"https://localhost:{second}/", [])
        async with site(to, tls=soon(20).server()) as first:
            result = await look(f"https://localhost:{first}/", trusting())
    assert [each.severity for each in result.findings or ()] == ["warning", "critical"]


async def test_one_that_has_ended_is_a_tls_error_for_those_who_verify_and_found_by_the_others() -> None:
    async with site(says(answer()), tls=soon(-1).server()) as port:
        verified = await look(f"https://localhost:{port}/", trusting())
        taken = await look(f"https://localhost:{port}/", verify_tls=False)
        assert (await openssl_says(port, 0))[1]
    assert (verified.problem, verified.findings) == ("tls_error", None)
    assert taken.ok
    (found,) = taken.findings or ()
    assert (found.severity, " ended on " in found.message) == ("critical", True)
    assert found.details["not_after"] < datetime.now(UTC).isoformat()


@pytest.mark.parametrize(
    "told",
    [
        test_a_site_is_up_and_its_certificate_that_ends_soon_is_found_beside,
        test_it_is_found_too_where_the_answer_is_bad_and_where_nobody_verifies,
        test_the_certificates_of_all_hosts_on_the_way_are_looked_at,
    ],
)
def test_the_faster_loop_of_the_engine_finds_the_same(told: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(50):
            await told()

    uvloop.run(within())
