"""Ranges of settings: what holds, and what an empty list means."""

from __future__ import annotations

import pytest

from shardprep.core.ranges import ANY, Range


@pytest.mark.parametrize(
    ("allowed", "value", "holds"),
    [
        (ANY, [], True),
        (ANY, -3, True),
        (Range(0, 1), [], False),
        (Range(0, 1), [0, 0.5, 1], True),
        (Range(0, 1), [0, 1.5], False),
        (Range(above=0), 0, False),
        (Range(above=0), 0.1, True),
        (Range(least=1), 0, False),
        (Range(least=1), True, True),
        (Range(least=1), None, True),
    ],
)
def test_what_a_range_holds(allowed: Range, value: object, holds: bool) -> None:
    assert allowed.holds(value) is holds
