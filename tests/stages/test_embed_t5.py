"""embed_t5: which captions are embedded, and what is stored of them."""

from __future__ import annotations

import pytest

from shardprep.core.outcome import Dropped, Failed, Kept
from shardprep.core.sample import Sample
from shardprep.core.stage import Weights
from shardprep.errors import RecipeError
from shardprep.models.t5 import clean_prompt, load_text_encoder
from shardprep.stages.embed_t5 import EmbedT5
from shardprep.testing.models import make_tiny_models
from tests.stages.model_stages import metadata_of, run, tensors_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

CAPTIONS = ["A red  car\nmoves &amp;amp; stops", "dog", "a bird " * 20, "the sea at night"]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    return make_tiny_models()


def captioned(key: str, text) -> Sample:
    return Sample(key, {"caption": {"text": text}})


def test_the_embedding_of_the_cleaned_caption_with_its_ids():
    (outcome,) = run(EmbedT5(model="tiny:t5", dtype="fp32"), [captioned("a", CAPTIONS[0])])
    assert isinstance(outcome, Kept)
    encoder = load_text_encoder("tiny:t5", None, "cpu", "fp32")
    tokens = encoder.tokenize("A red car moves & stops", 512)
    stored = tensors_of(outcome.sample, "t5")
    assert stored["ids"].tolist() == list(tokens.ids)
    torch.testing.assert_close(stored["t5"], encoder.encode(tokens), atol=1e-6, rtol=0)
    assert outcome.sample.get("t5.text") == "A red car moves & stops"
    assert outcome.sample.get("t5.length") == len(tokens.ids)
    assert outcome.sample.get("t5.truncated") is False
    assert outcome.sample.get("t5.model").startswith("embed_t5@2 tiny:t5@")
    assert outcome.sample.get("t5.model").endswith("RANDOM MODEL")
    assert metadata_of(outcome.sample, "t5")["masked"] == "true"


def test_a_batch_equals_its_samples_alone_and_keeps_their_order():
    stage = EmbedT5(model="tiny:t5", dtype="fp32")
    samples = [captioned(str(i), text) for i, text in enumerate(CAPTIONS)]
    for outcome, sample in zip(run(stage, samples), samples, strict=True):
        (alone,) = run(stage, [sample])
        assert outcome.sample.key == sample.key
        assert outcome.sample.record == alone.sample.record
        torch.testing.assert_close(tensors_of(outcome.sample, "t5"), tensors_of(alone.sample, "t5"), atol=1e-5, rtol=1e-5)


def test_bf16_is_stored_by_default_and_the_file_is_no_larger_than_its_tensors():
    (outcome,) = run(EmbedT5(model="tiny:t5"), [captioned("a", "dog")])
    stored = tensors_of(outcome.sample, "t5")
    assert stored["t5"].dtype == torch.bfloat16
    assert outcome.sample.members["t5"].blob.size < stored["t5"].numel() * 2 + stored["ids"].numel() * 8 + 1024


@pytest.mark.parametrize("text", [None, "", "  \n \u3000", "&nbsp;&nbsp;&nbsp;", "&amp;nbsp;\u00a0"])
@pytest.mark.parametrize(("missing", "kind"), [("drop", Dropped), ("fail", Failed)])
def test_a_missing_caption_is_never_embedded_silently(text, missing, kind):
    outcomes = run(EmbedT5(model="tiny:t5", missing=missing), [captioned("a", "dog"), captioned("b", text), Sample("c")])
    assert [type(outcome) for outcome in outcomes] == [Kept, kind, kind]
    assert {outcome.reason for outcome in outcomes[1:]} == {"no-caption"}


def test_a_caption_is_judged_blank_by_what_is_embedded():
    blank = captioned("a", "&nbsp;&nbsp;&nbsp;")
    (empty,) = run(EmbedT5(model="tiny:t5", missing="empty", min_characters=11), [blank])
    assert (empty.sample.get("t5.length"), empty.sample.get("t5.text")) == (1, "")
    (as_it_is,) = run(EmbedT5(model="tiny:t5", clean="none"), [blank])
    assert as_it_is.sample.get("t5.text") == "&nbsp;&nbsp;&nbsp;"


def test_a_missing_caption_may_be_the_empty_text():
    (outcome,) = run(EmbedT5(model="tiny:t5", missing="empty"), [Sample("a")])
    assert (outcome.sample.get("t5.length"), outcome.sample.get("t5.text")) == (1, "")
    assert tensors_of(outcome.sample, "t5")["t5"].shape == (1, 32)


@pytest.mark.parametrize(("text", "kept"), [("0123456789", False), ("01234\n67890", True), ("0123456789 ", True)])
def test_omnivideo_s_rule_of_more_than_ten_characters(text, kept):
    (outcome,) = run(EmbedT5(model="tiny:t5", min_characters=11), [captioned("a", text)])
    assert isinstance(outcome, Kept) == kept
    assert kept or outcome.reason == "caption-too-short"


def test_a_caption_that_is_no_text_fails_its_sample():
    outcomes = run(EmbedT5(model="tiny:t5"), [captioned("a", ["a list"]), captioned("b", "dog")])
    assert outcomes[0].reason == "caption-not-text"
    assert isinstance(outcomes[1], Kept)


def test_a_long_caption_is_cut_and_says_so():
    (outcome,) = run(EmbedT5(model="tiny:t5", max_length=8), [captioned("a", "a bird " * 20)])
    assert (outcome.sample.get("t5.length"), outcome.sample.get("t5.truncated")) == (8, True)
    assert tensors_of(outcome.sample, "t5")["ids"].tolist()[-1] == 1


def test_another_column_and_no_cleaning():
    stage = EmbedT5(model="tiny:t5", column="meta.title", clean="none")
    (outcome,) = run(stage, [Sample("a", {"meta": {"title": "a  dog &amp; cat"}})])
    assert stage.reads == ("meta.title",)
    assert outcome.sample.get("t5.text") == "a  dog &amp; cat" != clean_prompt("a  dog &amp; cat")


def test_which_weights_enter_the_fingerprint():
    assert EmbedT5(model="tiny:t5").weights == (Weights("tiny:t5"),)
    assert EmbedT5(model="a/b/text_encoder").weights == (Weights("a/b/text_encoder"), Weights("a/b/tokenizer"))
    assert EmbedT5(model="tiny:t5", tokenizer="a/b").weights == (Weights("tiny:t5"), Weights("a/b"))


def test_a_length_without_room_for_a_token_is_refused():
    with pytest.raises(RecipeError, match="embed_t5: max_length is 1; expected at least 2"):
        EmbedT5(max_length=1)


def test_a_number_of_characters_below_none_is_refused():
    with pytest.raises(RecipeError, match="embed_t5: min_characters is -1; expected at least 0"):
        EmbedT5(min_characters=-1)
