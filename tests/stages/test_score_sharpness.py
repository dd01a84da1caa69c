"""score_sharpness tells sharp from blurred."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from shardprep.stages.score_sharpness import ScoreSharpness
from shardprep.testing import videos
from tests.running import kept, run_stage, sample_of


def encoded(image: np.ndarray) -> bytes:
    return videos.encode([image] * 12, options={"crf": "5"})


def test_blur_lowers_the_score() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (160, 240, 3), dtype=np.uint8)
    images = [sharp, cv2.GaussianBlur(sharp, (0, 0), 1.5), np.full_like(sharp, 90)]
    scores = [kept(run_stage(ScoreSharpness(), sample_of(encoded(image)))).get("scores.sharpness") for image in images]
    assert scores[0] > 4 * scores[1] > 4 * scores[2] >= 0


def test_the_score_is_the_mean_over_the_points() -> None:
    sample = kept(run_stage(ScoreSharpness(points=(0.2, 0.8)), sample_of(videos.three_shots())))
    values = sample.get("per_frame.sharpness")
    assert len(values) == 2
    assert values[0] != values[1]
    assert sample.get("scores.sharpness") == pytest.approx(sum(values) / 2)
    assert sample.get("scorers.sharpness") == "score_sharpness@2 laplacian"


def test_an_image_has_a_score() -> None:
    _, data = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))
    assert kept(run_stage(ScoreSharpness(), sample_of(data.tobytes(), "png"))).get("scores.sharpness") == 0
