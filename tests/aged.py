"""Signed values of the past, so that no test waits for days."""

from __future__ import annotations

import time

from itsdangerous import TimestampSigner, URLSafeTimedSerializer


def aged(signer: URLSafeTimedSerializer, value: object, *, days: float) -> str:
    """What `signer` (to be thrown away after this) would have signed that many days ago."""

    class Then(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time() - days * 86_400)

    signer.signer = Then
    return str(signer.dumps(value))
