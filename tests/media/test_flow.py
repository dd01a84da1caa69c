"""Flow is in px per second at a short side of 320 px, whatever the length, the rate and the size of the video."""

from __future__ import annotations

import numpy as np
import pytest

from shardprep.core.frames import Runs, ShortSide, select_frames
from shardprep.media.flow import PairSpeed, mean_speed, pair_speeds
from shardprep.media.resize import Image, resize


class Pan:
    """A picture with detail at every size, seen through a window that moves to the right; it goes on at its right edge on the left."""

    def __init__(self, lines: int, seed: int = 0) -> None:
        self.lines, self.width = lines, lines * 16 // 9 // 2 * 2
        down, right = np.fft.fftfreq(lines)[:, None], np.fft.rfftfreq(3 * lines)[None]
        frequency = np.hypot(down, right)
        frequency[0, 0] = np.inf
        noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((lines, 3 * lines))) / frequency
        picture = np.fft.irfft2(noise, (lines, 3 * lines))
        self.picture = np.clip(128 + 45 * picture / picture.std(), 0, 255).astype(np.float32)

    def at(self, px: float) -> Image:
        """Return what is seen after `px` pixels, between two pixels their mixture."""
        whole = int(px)
        columns = np.arange(whole, whole + self.width + 1) % self.picture.shape[1]
        seen = self.picture[:, columns]
        return np.rint((1 - px + whole) * seen[:, :-1] + (px - whole) * seen[:, 1:]).astype(np.uint8)

    def score(self, px_per_second: float, seconds: float, fps: float, runs: Runs) -> float | None:
        """Return the score of a video of this pan; `px_per_second` at a short side of 320 px."""
        times = [k / fps for k in range(round(seconds * fps))]
        indices = select_frames(runs, times)
        speed = px_per_second * self.lines / 320
        grays = [resize(self.at(speed * times[index]), ShortSide(320)) for index in indices]
        return mean_speed(pair_speeds(grays, indices, [times[index] for index in indices]))


@pytest.fixture(scope="module", params=[240, 480, 720, 1080])
def pan(request: pytest.FixtureRequest) -> Pan:
    return Pan(request.param)


@pytest.mark.parametrize("fps", [12, 24, 30, 60])
@pytest.mark.parametrize("px_per_second", [10, 40, 160, 320, 400, 640])
def test_a_pan_is_measured_whatever_its_speed_length_rate_and_size(pan: Pan, px_per_second: float, fps: float) -> None:
    for seconds in (1, 5, 30, 120):
        tolerance = 0.05 if px_per_second <= 400 else 0.1
        assert pan.score(px_per_second, seconds, fps, Runs(2, 2)) == pytest.approx(px_per_second, rel=tolerance), seconds


@pytest.mark.parametrize("seconds", [1, 120])
def test_the_usual_number_of_runs(seconds: float) -> None:
    assert Pan(240).score(40, seconds, 24, Runs(8, 7)) == pytest.approx(40, rel=0.02)


def test_a_pan_over_fine_grain_is_in_reach() -> None:
    grain = Pan(480)
    grain.picture = np.random.default_rng(1).integers(0, 256, grain.picture.shape).astype(np.float32)
    assert grain.score(640, 5, 12, Runs(2, 3)) == pytest.approx(640, rel=0.02)  # DIS alone says 150


def test_something_small_that_moves_does_not_move_the_whole_picture() -> None:
    pan = Pan(320, seed=2)
    there, here = pan.at(500).copy(), pan.at(500).copy()
    here[100:200, 100:200], there[100:200, 110:210] = 255, 255
    (speed,) = pair_speeds([here, there], [0, 1], [0, 1])
    assert speed.px_per_second < 2 * 10 * 100 * 110 / here.size


def test_a_still_picture_does_not_move() -> None:
    still = Pan(320).at(0)
    assert pair_speeds([still, still], [0, 1], [0, 0.04])[0].px_per_second == pytest.approx(0, abs=1e-3)


def test_a_flat_picture_does_not_move() -> None:
    flat = np.full((320, 480), 90, np.uint8)
    assert pair_speeds([flat, flat], [0, 1], [0, 0.04])[0].px_per_second == 0


def test_speed_is_the_way_over_the_time() -> None:
    assert mean_speed([PairSpeed(100, 0.1), PairSpeed(10, 0.9)]) == pytest.approx(19)
    assert mean_speed([]) is None


def test_frames_of_one_time_give_no_value() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert [speed.seconds for speed in pair_speeds([gray] * 3, [0, 1, 2], [0.0, 0.0, 0.5])] == [0.5]
    assert pair_speeds([], [], []) == []


def test_only_neighbours_are_compared() -> None:
    pan = Pan(240)
    grays = [pan.at(px) for px in (0, 4, 100, 104)]
    speeds = pair_speeds(grays, [0, 1, 20, 21], [0, 0.1, 2.0, 2.1])
    assert [speed.px_per_second for speed in speeds] == pytest.approx([40 * 320 / 240] * 2, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (16, 16)])
def test_tiny_pictures_have_no_flow(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2)]
    speeds = pair_speeds(pictures, [0, 1], [0.0, 0.1])
    assert len(speeds) == (min(shape) >= 16)
    assert all(np.isfinite(speed.px_per_second) for speed in speeds)
