"""A short run of `make fuzz`."""

from __future__ import annotations

import secrets

import pytest

from tests.fuzz import Fuzz
from tests.hostile import KINDS

SECONDS = 20


@pytest.mark.timeout(400)
async def test_hostile_heads_bodies_and_timings_harm_nobody(record_property: pytest.RecordProperty) -> None:
    result = await Fuzz(secrets.randbelow(1_000_000)).run(SECONDS)
    record_property("said", str(result).splitlines()[0])
    assert result.good, f"{result}\nagain with: python -m tests.fuzz --seconds {SECONDS} --seed {result.seed}"
    assert len(result.kinds) == len(set(KINDS)), "some of each kind"
