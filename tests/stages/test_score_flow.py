"""score_flow says how fast the picture moves."""

from __future__ import annotations

import numpy as np
import pytest

from shardprep.errors import RecipeError
from shardprep.stages.score_flow import ScoreFlow
from shardprep.testing import videos
from tests.media.test_flow import Pan
from tests.running import kept, run_stage, sample_of


def pan(px_per_second: float, *, seconds: float, fps: float, lines: int = 240) -> bytes:
    """Return a video of a pan whose speed is given at a short side of 320 px."""
    picture, step = Pan(lines), px_per_second * lines / 320 / fps
    return videos.encode((np.repeat(picture.at(k * step)[..., None], 3, axis=2) for k in range(round(seconds * fps))), fps=fps)


def score(data: bytes, **settings: int) -> float:
    return kept(run_stage(ScoreFlow(**settings), sample_of(data))).get("scores.flow")


@pytest.mark.parametrize(
    ("px_per_second", "seconds", "fps", "lines"),
    [(10, 5, 24, 240), (40, 5, 24, 240), (40, 60, 24, 240), (160, 20, 60, 240), (320, 5, 30, 480), (640, 5, 12, 240), (640, 3, 60, 480)],
)
def test_a_pan_is_measured_in_a_video(px_per_second: float, seconds: float, fps: float, lines: int) -> None:
    data = pan(px_per_second, seconds=seconds, fps=fps, lines=lines)
    assert score(data) == pytest.approx(px_per_second, rel=0.05 if px_per_second <= 400 else 0.1)


def test_frames_that_are_shown_twice_count_for_their_time() -> None:
    picture = Pan(240)
    frames = (np.repeat(picture.at(k // 2 * 4)[..., None], 3, axis=2) for k in range(240))
    assert score(videos.encode(frames, fps=24)) == pytest.approx(2 * 24 * 320 / 240, rel=0.05)


def test_the_record_holds_every_value() -> None:
    sample = kept(run_stage(ScoreFlow(), sample_of(videos.moving(30))))
    assert sample.get("scores.flow") == pytest.approx(60, rel=0.05)
    assert len(sample.get("per_frame.flow")) == 47
    assert sample.get("scores.flow") == pytest.approx(sum(sample.get("per_frame.flow")) / 47)
    assert sample.get("scorers.flow") == "score_flow@2 dis-fast"


def test_a_rate_that_varies_does_not_change_the_score() -> None:
    picture = Pan(240)
    times = [k / 24 if k < 48 else 2 + (k - 48) / 8 for k in range(64)]
    data = videos.encode((np.repeat(picture.at(30 * time)[..., None], 3, axis=2) for time in times), times=times)
    assert score(data) == pytest.approx(40, rel=0.03)


def test_faster_is_more_and_still_is_nothing() -> None:
    slow, fast, still = (score(data) for data in (videos.moving(10), videos.moving(40), videos.still()))
    assert still < 0.5 < slow < fast


def test_one_frame_has_no_score() -> None:
    sample = kept(run_stage(ScoreFlow(), sample_of(videos.one_frame())))
    assert sample.get("scores.flow") is None
    assert sample.get("per_frame.flow") == []


def test_long_videos_are_looked_at_in_places() -> None:
    sample = kept(run_stage(ScoreFlow(num_runs=3, frames_per_run=4), sample_of(videos.moving(10, seconds=4))))
    assert len(sample.get("per_frame.flow")) == 9


@pytest.mark.parametrize("settings", [{"num_runs": 0}, {"frames_per_run": 1}, {"short_side_px": 4}])
def test_settings_out_of_range_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="score_flow"):
        ScoreFlow(**settings)
