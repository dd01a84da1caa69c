"""Scenes cover the video, and begin where a shot does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.media.scenes import trim_scenes

times = st.lists(st.floats(0, 100, allow_nan=False), min_size=2, max_size=8, unique=True).map(sorted)


@given(times, st.floats(0.1, 30))
def test_slices_cover_the_scenes_without_gaps(cuts: list[float], max_seconds: float) -> None:
    scenes = list(pairwise(cuts))
    slices = trim_scenes(scenes, margin_seconds=0, min_seconds=0, max_seconds=max_seconds)
    assert slices[0][0] == cuts[0]
    assert slices[-1][1] == cuts[-1]
    assert all(end == pytest.approx(start) for (_, end), (start, _) in pairwise(slices))
    assert all(0 < end - start <= max_seconds + 1e-6 for start, end in slices)


def test_margins_are_taken_off_at_cuts_only() -> None:
    assert trim_scenes([(1, 3), (3, 5), (5, 9)], margin_seconds=0.5, min_seconds=0, max_seconds=None) == [(1, 2.5), (3.5, 4.5), (5.5, 9)]


def test_short_scenes_are_left_out() -> None:
    assert trim_scenes([(0, 1), (1, 1.5), (1.5, 4)], margin_seconds=0, min_seconds=1, max_seconds=None) == [(0, 1), (1.5, 4)]
    assert trim_scenes([(0, 1), (1, 1.5), (1.5, 4)], margin_seconds=0.3, min_seconds=0, max_seconds=None) == [(0, 0.7), (1.8, 4)]


def test_rounding_makes_no_piece_of_its_own() -> None:
    assert len(trim_scenes([(0, 0.1 + 0.2)], margin_seconds=0, min_seconds=0, max_seconds=0.3)) == 1
