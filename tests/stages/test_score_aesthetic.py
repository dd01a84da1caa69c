"""score_aesthetic: on embeddings that embed_clip made, and on those it must refuse."""

from __future__ import annotations

import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.outcome import Failed, Kept
from shardprep.core.sample import Sample
from shardprep.errors import RecipeError
from shardprep.models.aesthetic import load_aesthetic
from shardprep.models.tensors import save_tensors
from shardprep.stages.embed_clip import EmbedClip
from shardprep.stages.score_aesthetic import ScoreAesthetic
from shardprep.testing.models import CLIP_DIM, make_tiny_models
from tests.stages.model_stages import decoded, run, tensors_of, video_sample

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

STAGE = ScoreAesthetic(model="tiny:aesthetic")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    return make_tiny_models()


def embedded(key: str, x, scorer: str = "embed_clip@1 real") -> Sample:
    return Sample(key).with_member("clip_embedding.safetensors", BytesBlob(save_tensors({"clip_embedding": x}, {"scorer": scorer})))


def test_it_scores_what_embed_clip_wrote():
    clip = EmbedClip(model="tiny:clip")
    (embedding,) = run(clip, [decoded(clip, video_sample("v", 20, 96, 64))])
    (outcome,) = run(STAGE, [embedding.sample])
    assert isinstance(outcome, Kept)
    want = load_aesthetic("tiny:aesthetic").score(tensors_of(embedding.sample, "clip_embedding")["clip_embedding"])
    assert outcome.sample.get("per_frame.aesthetic") == pytest.approx(want.tolist())
    assert outcome.sample.get("scores.aesthetic") == pytest.approx(float(want.mean()))
    assert outcome.sample.get("scorers.aesthetic").startswith("score_aesthetic@1 tiny:aesthetic@")
    assert outcome.sample.get("scorers.aesthetic").endswith("RANDOM MODEL")


def test_a_trained_head_on_random_embeddings_is_random_too(tiny, tmp_path):
    (tmp_path / "head.safetensors").write_bytes((tiny["aesthetic"] / "aesthetic.safetensors").read_bytes())
    trained = ScoreAesthetic(model=str(tmp_path / "head.safetensors"))
    real, random = run(
        trained, [embedded("a", torch.ones(2, CLIP_DIM)), embedded("b", torch.ones(2, CLIP_DIM), "embed_clip@1 x RANDOM MODEL")]
    )
    assert "RANDOM" not in real.sample.get("scorers.aesthetic")
    assert random.sample.get("scorers.aesthetic").endswith("on RANDOM MODEL")


def test_each_sample_gets_its_own_score():
    rows = torch.randn(4, CLIP_DIM, generator=torch.Generator().manual_seed(0))
    outcomes = run(STAGE, [embedded(str(i), rows[i : i + 1]) for i in range(4)])
    assert [outcome.sample.get("scores.aesthetic") for outcome in outcomes] == pytest.approx(
        load_aesthetic("tiny:aesthetic").score(rows).tolist()
    )


def test_embeddings_of_another_size_are_an_error_that_names_both_models():
    with pytest.raises(RecipeError, match="tiny:aesthetic scores embeddings of 64 numbers, those of embed_clip@1 real have 512"):
        run(STAGE, [embedded("a", torch.ones(2, 512))])


def test_nan_fails_the_sample_alone():
    outcomes = run(STAGE, [embedded("a", torch.full((2, CLIP_DIM), float("nan"))), embedded("b", torch.ones(2, CLIP_DIM))])
    assert [type(outcome) for outcome in outcomes] == [Failed, Kept]
    assert outcomes[0].reason == "not-finite"


def test_it_wants_no_frames_and_passes_samples_without_embeddings():
    assert STAGE.frames is None
    assert STAGE.accepts == ("clip_embedding",)
