"""No byte of what a model stage writes depends on how many samples it is given at once, nor on their company."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shardprep.core.blob import read_blob
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage
from shardprep.runtime.adapt import run_on
from shardprep.stages.embed_clip import EmbedClip
from shardprep.stages.embed_t5 import EmbedT5
from shardprep.stages.encode_vae import EncodeVae
from shardprep.stages.score_aesthetic import ScoreAesthetic
from shardprep.testing.models import make_tiny_models
from tests.stages.model_stages import video_sample

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("diffusers")

VAE = {"model": "tiny:wan-vae", "num_frames": 5, "stride": 2, "height": 32, "width": 48}
STAGES = {
    "clip and aesthetic": lambda n: [EmbedClip(model="tiny:clip", batch_size=n), ScoreAesthetic(model="tiny:aesthetic", batch_size=n)],
    "clip, many frames": lambda n: [EmbedClip(model="tiny:clip", fps=25, batch_size=n)],
    "t5": lambda n: [EmbedT5(model="tiny:t5", batch_size=n)],
    "t5 in fp32": lambda n: [EmbedT5(model="tiny:t5", dtype="fp32", batch_size=n)],
    "vae": lambda n: [EncodeVae(**VAE, batch_size=n)],
    "vae in bf16": lambda n: [EncodeVae(**VAE, compute="bf16", batch_size=n)],
}
CAPTIONS = ["A red car", "dog", "water " * 30, "a cat </s> and a bird", "", "Night falls over the harbour.", "two words"]


@pytest.fixture(scope="module", autouse=True)
def tiny() -> None:
    make_tiny_models()


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    made = [video_sample(f"v{i}", 10 + 3 * i, 96 + 16 * i, 64, seed=i) for i in range(7)]
    return [sample.with_columns({"caption.text": caption}) for sample, caption in zip(made, CAPTIONS, strict=True)]


def written(stages: Sequence[Stage], samples: Sequence[Sample]) -> dict[str, tuple[object, ...]]:
    """Return the outcome of each sample: its record and the bytes of its members."""
    return {
        item.sample.key: (item.outcome, item.sample.record, {role: read_blob(member.blob) for role, member in item.sample.members.items()})
        for item in run_on(samples, stages)
    }


@pytest.mark.parametrize("kind", STAGES)
def test_every_batch_size_gives_the_same_bytes(kind: str, samples: list[Sample]) -> None:
    alone = {key: outcome for sample in samples for key, outcome in written(STAGES[kind](1), [sample]).items()}
    assert len(alone) == len(samples)
    for size in (1, 2, 3, 5):
        assert written(STAGES[kind](size), samples) == alone, size
