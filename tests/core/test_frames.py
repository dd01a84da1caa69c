"""Which frames a wish selects, against the rules as the reference systems state them."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.frames import AllFrames, Fractions, PerSecond, Runs, Stride, Times, crop_box, frame_rate, select_frames

COUNTS = st.integers(1, 400)


def evenly(count: int, fps: float = 25.0, start: float = 0.0) -> list[float]:
    return [start + index / fps for index in range(count)]


@given(COUNTS, st.floats(0, 1))
def test_a_fraction_is_a_place_in_the_count(count: int, point: float) -> None:
    (index,) = select_frames(Fractions((point,)), evenly(count))
    assert index == min(int(point * count), count - 1)


@given(COUNTS, st.sampled_from([1, 5, 17, 81]), st.integers(1, 4), st.integers(0, 3))
def test_a_stride_is_lowered_before_a_video_is_refused(count: int, num_frames: int, stride: int, skip: int) -> None:
    # The loop that OmniVideo runs: while N < F * s + skip, s is one less; none is left where s reaches 0.
    step = stride
    while step > 0 and count < num_frames * step + skip:
        step -= 1
    expected = [skip + k * step for k in range(num_frames)] if step > 0 else []
    assert select_frames(Stride(num_frames, stride, skip), evenly(count)) == expected


@pytest.mark.parametrize("start", [0.0, 1.075])
def test_frames_per_second_go_by_time_not_by_index(start: float) -> None:
    assert select_frames(PerSecond(5.0), evenly(26, 25.0, start)) == [0, 5, 10, 15, 20, 25]
    uneven = [start, start + 0.1, start + 0.9, start + 1.0]
    assert select_frames(PerSecond(2.0), uneven) == [0, 1, 3]


RATES = [24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0, 120.0]


@pytest.mark.parametrize("ticks_per_second", [1000, 90_000, None])
@pytest.mark.parametrize("rounded", [round, math.floor, math.ceil])
@pytest.mark.parametrize("start", [0.0, 1.075, 1 / 3, 5.0007])
@pytest.mark.parametrize("fps", RATES)
def test_the_videos_own_rate_takes_every_frame_once(
    fps: float, start: float, rounded: Callable[[float], int], ticks_per_second: int | None
) -> None:
    exact = [start + k / fps for k in range(300)]
    stamps = [rounded(time * ticks_per_second) / ticks_per_second for time in exact] if ticks_per_second else exact
    assert select_frames(PerSecond(fps), stamps) == list(range(300))
    assert select_frames(Times(tuple(k / fps for k in range(300))), stamps) == list(range(300))
    assert select_frames(PerSecond(fps / 2), stamps) == list(range(0, 300, 2))


def test_a_time_well_before_a_frame_selects_the_one_before() -> None:
    assert select_frames(Times((0.038, 0.04, 0.078)), evenly(5)) == [0, 1, 1]
    # A millisecond is much at 1,000 frames per second.
    assert select_frames(Times((0.0004, 0.0008, 0.001)), evenly(5, 1000.0)) == [0, 1, 1]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (119.88, Fraction(120000, 1001)),
        (30000 / 1001, Fraction(30000, 1001)),
        (24, Fraction(24)),
        (12.5, Fraction(25, 2)),
        (29.5, Fraction(59, 2)),
        (1 / 3, Fraction(1, 3)),
        (0.0005, Fraction(1, 2000)),
    ],
)
def test_a_rate_is_what_the_number_means(written: float, meant: Fraction) -> None:
    assert frame_rate(written) == meant


def test_ntsc_rates_stay_beside_their_frames_for_hours() -> None:
    seconds = [k * 1001 / 30000 for k in range(30 * 3600 * 2)]
    assert select_frames(PerSecond(29.97), seconds)[-1] == len(seconds) - 1


def test_too_many_frames_per_second_are_spread_over_the_whole_video() -> None:
    assert select_frames(PerSecond(25.0, max_frames=3), evenly(101)) == [0, 50, 100]
    assert select_frames(PerSecond(25.0, max_frames=1), evenly(101)) == [0]


@given(COUNTS, st.integers(1, 12), st.integers(2, 9))
def test_runs_are_neighbours_spread_over_the_video(count: int, num_runs: int, num_frames: int) -> None:
    indices = select_frames(Runs(num_runs, num_frames), evenly(count))
    if count <= num_runs * num_frames:
        assert indices == list(range(count))
        return
    assert indices == sorted(set(indices))
    assert all(index + 1 in indices or index - 1 in indices for index in indices)
    part = count / num_runs
    assert all(any(k * part - num_frames <= index <= (k + 1) * part for index in indices) for k in range(num_runs))
    assert len(indices) <= num_runs * num_frames


def test_runs_do_not_follow_a_beat() -> None:
    firsts = select_frames(Runs(64, 2), evenly(64 * 8))[::2]
    assert len({first % 8 for first in firsts}) > 4


def test_a_time_selects_the_frame_that_is_shown_then() -> None:
    assert select_frames(Times((0.0, 0.05, 0.12, 9.0)), evenly(5)) == [0, 1, 3, 4]


def test_a_video_without_frames_selects_none() -> None:
    assert [select_frames(at, []) for at in (AllFrames(), Fractions((0.5,)), PerSecond(1.0), Runs(1, 2), Stride(1), Times((0.0,)))] == [
        []
    ] * 6


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([(480, 832), (352, 640), (832, 480), (64, 64)]))
def test_a_crop_lies_inside_and_touches_two_sides(height: int, width: int, target: tuple[int, int]) -> None:
    top, left, crop_height, crop_width = crop_box(height, width, *target)
    assert top >= 0
    assert left >= 0
    assert top + crop_height <= height
    assert left + crop_width <= width
    assert crop_height == height or crop_width == width


def test_crops_of_the_reference_document() -> None:
    assert crop_box(1080, 1920, 480, 832) == (0, 24, 1080, 1872)
    assert crop_box(480, 854, 352, 640) == (6, 0, 469, 854)
    assert crop_box(480, 640, 480, 832) == (56, 0, 369, 640)
