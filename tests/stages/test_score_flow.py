"""score_flow says how fast the picture moves."""

from __future__ import annotations

import pytest

from shardprep.errors import RecipeError
from shardprep.stages.score_flow import ScoreFlow
from shardprep.testing import videos
from tests.running import kept, run_stage, sample_of


def test_a_known_speed_is_measured_per_320_px() -> None:
    sample = kept(run_stage(ScoreFlow(fps=8.0), sample_of(videos.moving(30))))
    assert sample.get("scores.flow") == pytest.approx(60, rel=0.15)
    assert len(sample.get("per_frame.flow")) == 15
    assert sample.get("scores.flow") == pytest.approx(sum(sample.get("per_frame.flow")) / 15)
    assert sample.get("scorers.flow") == "score_flow@1 dis-medium"


def test_faster_is_more_and_still_is_nothing() -> None:
    slow, fast, still = (
        kept(run_stage(ScoreFlow(), sample_of(data))).get("scores.flow") for data in (videos.moving(10), videos.moving(40), videos.still())
    )
    assert still < 0.5 < slow < fast


def test_one_frame_has_no_score() -> None:
    sample = kept(run_stage(ScoreFlow(), sample_of(videos.one_frame())))
    assert sample.get("scores.flow") is None
    assert sample.get("per_frame.flow") == []


def test_long_videos_are_compared_at_fewer_frames() -> None:
    sample = kept(run_stage(ScoreFlow(max_frames=4), sample_of(videos.moving(10, seconds=4))))
    assert len(sample.get("per_frame.flow")) == 3


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(RecipeError, match="score_flow"):
        ScoreFlow(max_frames=1)
