"""score_exposure tells dark from bright."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shardprep.errors import RecipeError
from shardprep.stages.score_exposure import ScoreExposure
from shardprep.testing import videos
from tests.running import kept, run_stage, sample_of


def exposure_of(image: np.ndarray, **settings: object) -> tuple[float, float, float]:
    sample = kept(run_stage(ScoreExposure(**settings), sample_of(videos.encode([image] * 6, options={"crf": "5"}))))
    return sample.get("scores.luma"), sample.get("scores.dark"), sample.get("scores.bright")


def test_black_white_and_between() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    assert exposure_of(image) == (pytest.approx(0, abs=0.01), 1, 0)
    image[:, 32:] = 255
    assert exposure_of(image) == (pytest.approx(0.5, abs=0.02), pytest.approx(0.5, abs=0.03), pytest.approx(0.5, abs=0.03))
    image[:] = 128
    assert exposure_of(image) == (pytest.approx(0.5, abs=0.01), 0, 0)


def test_limits_are_settings() -> None:
    image = np.full((64, 64, 3), 60, np.uint8)
    assert exposure_of(image, dark_below=70)[1] == 1
    assert exposure_of(image, bright_above=50)[2] == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dark_below": 250, "bright_above": 10}, "dark_below is 250, bright_above 10; expected dark_below to be less"),
        ({"dark_below": -1}, "dark_below is -1; expected 0 to 255"),
        ({"points": ()}, "points is (); expected 0 to 1"),
    ],
)
def test_limits_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ScoreExposure(**settings)
    assert str(caught.value).startswith(f"score_exposure: {said}")


def test_every_frame_is_kept() -> None:
    sample = kept(run_stage(ScoreExposure(points=(0.1, 0.5, 0.9)), sample_of(videos.three_shots())))
    assert {len(sample.get(f"per_frame.{part}")) for part in ("luma", "dark", "bright")} == {3}
    assert sample.get("scores.luma") == pytest.approx(np.mean(sample.get("per_frame.luma")))
    assert sample.get("scorers.exposure") == "score_exposure@2 luma"
