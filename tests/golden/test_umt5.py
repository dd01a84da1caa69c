"""Our text cleaning, tokens and embeddings against OmniVideo's."""

from __future__ import annotations

import importlib
from functools import cache

import pytest

pytest.importorskip("transformers")

from shardprep.core.outcome import Dropped
from shardprep.core.sample import Sample
from shardprep.models.t5 import clean_prompt, load_text_encoder
from shardprep.stages.embed_t5 import EmbedT5, one_line


@cache
def _encoder(folder, dtype):
    return load_text_encoder(folder, None, "cpu", dtype)


@pytest.fixture
def checker(shared, monkeypatch):
    if not (shared / "golden").is_dir():
        pytest.skip("../shared/golden is not there")
    monkeypatch.syspath_prepend(str(shared / "golden"))
    return importlib.import_module("check_umt5")


def test_cleaning(checker):
    assert len(checker.check_clean(clean_prompt).assert_ok()) == 48


def test_which_prompts_are_taken(checker):
    stage = EmbedT5(min_characters=11)

    def stored(raw):
        prompt = stage.prompt_of(Sample("a", {"caption": {"text": raw}}))
        return (one_line(raw), False) if isinstance(prompt, Dropped) else (prompt, True)

    checker.check_stored_prompt(stored).assert_ok()


def test_tokens(checker):
    checker.check_tokens(lambda folder, text, length: _encoder(folder, "fp32").tokenize(text, length).ids).assert_ok()


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.0)])
def test_embeddings(checker, dtype, tolerance):
    def embed(folder, prompt, length):
        encoder = _encoder(folder, dtype)
        return encoder.encode(encoder.tokenize(clean_prompt(prompt), length))

    checker.check_encode(embed, tol=tolerance, bf16=dtype == "bf16").assert_ok()
