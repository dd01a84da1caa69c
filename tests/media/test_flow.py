"""Flow is in px per second at a short side of 320 px, whatever the size and the rate."""

from __future__ import annotations

import numpy as np
import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import FramesWanted, PerSecond, ShortSide
from shardprep.media.decode import decode_frames
from shardprep.media.flow import flow_speeds
from shardprep.testing import videos


def speed_of(data: bytes, fps: float = 8) -> float:
    frames = decode_frames(BytesBlob(data), [FramesWanted(PerSecond(fps), ShortSide(320), "gray")]).frames[0]
    speeds = flow_speeds(frames.images, frames.seconds)
    assert len(speeds) == len(frames.indices) - 1
    return float(np.mean(speeds))


@pytest.mark.parametrize("px_per_second", [10, 40])
def test_a_known_speed_is_measured(px_per_second: float) -> None:
    assert speed_of(videos.moving(px_per_second)) == pytest.approx(2 * px_per_second, rel=0.15)  # 160 px high: twice as fast at 320


def test_it_depends_neither_on_the_rate_nor_on_the_size() -> None:
    usual = speed_of(videos.moving(40))
    assert speed_of(videos.moving(40, fps=12), fps=6) == pytest.approx(usual, rel=0.15)
    assert speed_of(videos.moving(80, height=320, width=480)) == pytest.approx(usual, rel=0.15)


def test_a_still_picture_does_not_move() -> None:
    assert speed_of(videos.still()) < 0.5


def test_frames_of_one_time_give_no_value() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert flow_speeds([gray, gray, gray], [0.0, 0.0, 0.5]) == [pytest.approx(0, abs=1e-3)]
    assert flow_speeds([gray], [0.0]) == []


@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (16, 16)])
def test_tiny_pictures_have_no_flow(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2)]
    speeds = flow_speeds(pictures, [0.0, 0.1])
    assert len(speeds) == (min(shape) >= 16)
    assert all(np.isfinite(speeds))
