"""Deliveries that wait for their turn keep the promises, too, while processes are killed."""

from __future__ import annotations

import pytest

from tests.chaos_turns import TurnsChaos

SEED = 11


@pytest.mark.timeout(300)
async def test_killed_at_random_moments_nobody_is_told_too_little_too_much_or_twice() -> None:
    """Delayed, silenced, escalating and acknowledged incidents."""
    chaos = TurnsChaos(SEED, longest=0.8)
    result = await chaos.run(4)
    assert result.good, str(result)
    assert not chaos.told_wrongly, (str(result), chaos.told_wrongly[:10])
