"""embed_clip: a real video, the real loading code, tiny weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shardprep.core.frames import Frames
from shardprep.core.outcome import Failed, Kept
from shardprep.core.sample import Sample
from shardprep.core.stage import Weights
from shardprep.errors import RecipeError
from shardprep.models.clip import load_clip
from shardprep.stages.embed_clip import EmbedClip
from shardprep.testing.models import CLIP_DIM, make_tiny_models
from tests.stages.model_stages import decoded, metadata_of, run, tensors_of, video_sample

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

STAGE = EmbedClip(model="tiny:clip")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    return make_tiny_models()


@pytest.fixture(scope="module")
def samples():
    return [decoded(STAGE, video_sample(f"v{i}", 20, 96 + 32 * i, 64, seed=i)) for i in range(3)]


def test_features_of_the_frames_at_the_fractions(samples):
    (outcome,) = run(STAGE, samples[:1])
    assert isinstance(outcome, Kept)
    features = tensors_of(outcome.sample, "clip_embedding")["clip_embedding"]
    assert features.shape == (3, CLIP_DIM)
    torch.testing.assert_close(features, load_clip("tiny:clip", None, "cpu").embed(list(samples[0].frames.images)), atol=1e-6, rtol=0)
    assert outcome.sample.get("clip_embedding.frame_indices") == [2, 10, 18]
    assert outcome.sample.get("clip_embedding.frame_seconds") == pytest.approx([0.08, 0.4, 0.72])
    assert outcome.sample.get("scorers.clip_embedding").startswith("embed_clip@2 tiny:clip@")
    assert outcome.sample.get("scorers.clip_embedding").endswith("RANDOM MODEL")
    metadata = metadata_of(outcome.sample, "clip_embedding")
    assert metadata["normalised"] == "false"
    assert float(metadata["log_logit_scale"]) == pytest.approx(np.log(100), rel=1e-6)


def test_a_batch_equals_its_samples_alone_and_keeps_their_order(samples):
    together = run(STAGE, samples)
    for outcome, sample in zip(together, samples, strict=True):
        (alone,) = run(STAGE, [sample])
        assert outcome.sample.key == sample.key
        left, right = (tensors_of(kept.sample, "clip_embedding")["clip_embedding"] for kept in (outcome, alone))
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


def test_a_sample_without_frames_fails_alone(samples):
    empty = replace(samples[0], key="empty", frames=Frames(np.zeros((0, 8, 8, 3), np.uint8), (), (), 0, 8, 8))
    outcomes = run(STAGE, [samples[0], empty, samples[1]])
    assert [type(outcome) for outcome in outcomes] == [Kept, Failed, Kept]
    assert outcomes[1].reason == "no-frames"
    assert run(STAGE, [empty])[0].reason == "no-frames"
    torch.testing.assert_close(
        tensors_of(outcomes[2].sample, "clip_embedding"),
        tensors_of(run(STAGE, [samples[1]])[0].sample, "clip_embedding"),
        atol=1e-5,
        rtol=0,
    )


def test_weights_with_nan_fail_their_samples(tmp_path, tiny, samples):
    from safetensors.torch import load_file, save_file

    weights = load_file(tiny["clip"] / "open_clip_model.safetensors")
    weights["visual.proj"][0, 0] = float("nan")
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_bytes((tiny["clip"] / "open_clip_config.json").read_bytes())
    (outcome,) = run(EmbedClip(model=str(tmp_path)), samples[:1])
    assert outcome.reason == "not-finite"


def test_frames_by_time(samples):
    stage = EmbedClip(model="tiny:clip", fps=5)
    sample = decoded(stage, video_sample("v", 26, 96, 64, fps=25))
    (outcome,) = run(stage, [sample])
    assert outcome.sample.get("clip_embedding.frame_indices") == [0, 5, 10, 15, 20, 25]
    assert tensors_of(outcome.sample, "clip_embedding")["clip_embedding"].shape == (6, CLIP_DIM)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (Weights("open_clip:ViT-L-14/openai"),)),
        ({"pretrained": "weights/vit.pt"}, (Weights("weights/vit.pt"),)),
        ({"pretrained": None}, ()),
        ({"model": "tiny:clip"}, (Weights("tiny:clip"),)),
        ({"model": "laion/CLIP@abc"}, (Weights("laion/CLIP@abc"),)),
    ],
)
def test_which_weights_enter_the_fingerprint(settings, expected):
    assert EmbedClip(**settings).weights == expected


def test_random_weights_of_an_architecture_are_called_random():
    assert EmbedClip(model="ViT-L-14", pretrained=None)._title() == "ViT-L-14 RANDOM MODEL"
    assert EmbedClip()._title() == "ViT-L-14/openai"


@pytest.mark.parametrize(
    "settings",
    [
        {"points": ()},
        {"points": (0.5, 1.5)},
        {"fps": 0},
        {"max_frames": 3},
        {"fps": 1, "max_frames": 0},
        {"fps": 1, "points": (0.5,)},
        {"fps": 1e9},
    ],
)
def test_settings_that_select_nothing_are_refused(settings):
    with pytest.raises(RecipeError, match="embed_clip"):
        EmbedClip(**settings)


def test_images_stand_in_for_videos():
    assert STAGE.accepts == ("video", "image")
    frames = Frames(np.full((3, 10, 10, 3), 7, np.uint8), (0, 0, 0), (0.0, 0.0, 0.0), 1, 10, 10)
    (outcome,) = run(STAGE, [Sample("picture", frames=frames)])
    rows = tensors_of(outcome.sample, "clip_embedding")["clip_embedding"]
    torch.testing.assert_close(rows[0], rows[2], atol=1e-6, rtol=0)
