"""What a resource depends on: what may be written, what explains it, and circles."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from tocsin.domain import dependencies, ids
from tocsin.domain.errors import Refused

KEYS = [UUID(int=number) for number in range(1, 31)]
A, B, C, D = KEYS[:4]
MONITORS = [ids.public(ids.MONITOR, each) for each in KEYS]
NM_A, NM_B, NM_C, NM_D = MONITORS[:4]
SRV_A = ids.public(ids.SERVER, A)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (None, []),
        ([], []),
        ([NM_A, [NM_B, SRV_A]], [NM_A, [NM_B, SRV_A]]),
        ([[NM_A]], [NM_A]),
        ([[NM_A, NM_B], [NM_A, NM_C]], [[NM_A, NM_B], [NM_A, NM_C]]),
        (MONITORS[:20], MONITORS[:20]),
        ([MONITORS[:10]], [MONITORS[:10]]),
    ],
)
def test_a_list_is_kept_as_it_was_written(given: Any, written: Any) -> None:
    assert dependencies.parse(given) == written


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (NM_A, "depends_on"),
        ({"any": [NM_A]}, "depends_on"),
        (MONITORS[:21], "depends_on"),
        ([NM_A, MONITORS[:11]], "depends_on[1]"),
        ([[]], "depends_on[0]"),
        ([NM_A, 7], "depends_on[1]"),
        ([NM_A, None], "depends_on[1]"),
        ([NM_A, "NM1"], "depends_on[1]"),
        ([ids.public(ids.INCIDENT, A)], "depends_on[0]"),
        ([NM_A, [NM_B, [NM_C]]], "depends_on[1][1]"),
        ([NM_A, NM_B, NM_A], "depends_on[2]"),
        ([NM_A, [NM_A]], "depends_on[1]"),
        ([[NM_A, NM_A]], "depends_on[0]"),
        ([[NM_A, NM_B], [NM_B, NM_A]], "depends_on[1]"),
    ],
)
def test_what_is_no_list_of_parents_is_refused_where_it_is_wrong(given: Any, field: str) -> None:
    with pytest.raises(Refused) as refused:
        dependencies.parse(given)
    assert refused.value.status == 422
    assert [each.field for each in refused.value.details] == [field]


def test_nothing_depends_on_itself() -> None:
    with pytest.raises(Refused, match=f"circle: {NM_A} → {NM_A}"):
        dependencies.parse([[NM_B, NM_A]], A)


@pytest.mark.parametrize(
    ("down", "explained_by"),
    [
        (set(), None),
        ({A}, (A,)),
        ({B}, None),
        ({C}, None),
        ({B, C}, (B, C)),
        ({A, B, C}, (A, B, C)),
        ({D}, None),
    ],
)
def test_any_that_is_down_explains_but_two_uplinks_only_together(
    down: set[UUID], explained_by: tuple[UUID, ...] | None
) -> None:
    assert dependencies.explained_by((A, (B, C)), down) == explained_by


def test_the_cause_is_the_router_and_not_the_switch_behind_it() -> None:
    graph: dict[UUID, dependencies.DependsOn] = {A: (B,), B: (C,), C: (), D: ()}
    assert dependencies.causes(graph, {B, C}, A) == (C,)
    assert dependencies.causes(graph, {B}, A) == (B,)
    assert dependencies.causes(graph, {C}, A) == ()


def test_a_circle_is_found_however_long_it_is() -> None:
    chain = {child: [parent] for child, parent in pairwise(KEYS)}
    assert dependencies.circle(chain, A) is None
    assert dependencies.circle({**chain, KEYS[-1]: [A]}, A) == (*KEYS, A)
    assert dependencies.circle({A: [B, C], B: [D], C: [A]}, A) == (A, C, A)
    assert dependencies.circle({A: [B], B: [C], C: [B]}, A) is None


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ([NM_A], []),
        ([NM_B, NM_A], [NM_B]),
        ([[NM_A, NM_B]], [NM_B]),
        ([NM_B, [NM_A, NM_B]], [NM_B]),
        ([[NM_A, NM_B, NM_C]], [[NM_B, NM_C]]),
        ([[NM_B, NM_C], [NM_A, NM_B, NM_C]], [[NM_B, NM_C]]),
    ],
)
def test_a_deleted_parent_leaves_nothing_half(written: Any, left: Any) -> None:
    assert dependencies.without(written, NM_A) == left
