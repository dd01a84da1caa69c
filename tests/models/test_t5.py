"""T5 and UMT5 embeddings: equal to transformers called directly, masked, trimmed and in order."""

from __future__ import annotations

import json
import shutil

import pytest

from shardprep.errors import RecipeError
from shardprep.models.t5 import clean_prompt, default_tokenizer, load_text_encoder
from shardprep.testing.models import make_tiny_models

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = [
    "A red car moves slowly through the street at night",
    "dog",
    "",
    "a cat </s> and a <pad> bird",
    "water " * 30,
    "日本 snow — ünïcode",
]


@pytest.fixture(scope="module")
def folder():
    return make_tiny_models()["t5"]


@pytest.fixture(scope="module")
def encoder(folder):
    return load_text_encoder("tiny:t5", None, "cpu", "fp32")


def embed(encoder, texts, max_length=64):
    return [encoder.encode(encoder.tokenize(text, max_length)) for text in texts]


def test_embeddings_equal_transformers(encoder, folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.UMT5EncoderModel.from_pretrained(folder, attn_implementation="eager").eval()
    padded = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        want = model(**padded).last_hidden_state
    lengths = padded["attention_mask"].sum(dim=1).tolist()
    for got, row, length in zip(embed(encoder, TEXTS), want, lengths, strict=True):
        assert got.shape == (length, 32)
        torch.testing.assert_close(got, row[:length], atol=1e-5, rtol=0)


def test_bf16_is_the_default_and_the_results_own_their_memory(folder):
    for tensor in embed(load_text_encoder("tiny:t5", None, "cpu"), TEXTS):
        assert tensor.dtype == torch.bfloat16
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 2


def test_special_tokens_in_the_text_do_not_shorten_it(encoder):
    tokens = encoder.tokenize("a cat </s> and a <pad> bird", 64)
    assert 0 in tokens.ids
    assert tokens.ids.index(1) < len(tokens.ids) - 1
    assert embed(encoder, ["a cat </s> and a <pad> bird"])[0].shape[0] == len(tokens.ids)


def test_a_long_text_is_cut_with_its_end_token_and_says_so(encoder):
    long, short = encoder.tokenize("water " * 30, 16), encoder.tokenize("water", 16)
    exact = encoder.tokenize("water " * 30, len(encoder.tokenize("water " * 30, 512).ids))
    assert (len(long.ids), long.ids[-1], long.is_truncated) == (16, 1, True)
    assert not short.is_truncated
    assert not exact.is_truncated


def test_the_empty_text_is_its_end_token(encoder):
    assert encoder.tokenize("", 16).ids == (1,)
    assert embed(encoder, [""])[0].shape == (1, 32)


def test_t5_of_version_1_1_is_read_as_well(folder, tmp_path):
    config = transformers.T5Config(vocab_size=512, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu")
    torch.manual_seed(0)
    whole = transformers.T5ForConditionalGeneration(config).eval()
    whole.save_pretrained(tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / "tokenizer")
    encoder = load_text_encoder(str(tmp_path / "text_encoder"), None, "cpu", "fp32")
    ids = encoder.tokenize("a red car", 16).ids
    with torch.no_grad():
        want = whole.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
    torch.testing.assert_close(embed(encoder, ["a red car"])[0], want, atol=1e-5, rtol=0)


def test_incomplete_weights_and_other_models_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "t5")
    weights = load_file(tmp_path / "t5" / "model.safetensors")
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, tmp_path / "t5" / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=r"lack encoder\.final_layer_norm\.weight"):
        load_text_encoder(str(tmp_path / "t5"), None, "cpu")
    config = json.loads((tmp_path / "t5" / "config.json").read_text())
    (tmp_path / "t5" / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(RecipeError, match="a gpt2 model, expected t5 or umt5"):
        load_text_encoder(str(tmp_path / "t5"), None, "cpu")


def test_code_in_a_model_folder_is_not_run(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "t5")
    config = json.loads((tmp_path / "t5" / "config.json").read_text())
    remote = {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "t5" / "config.json").write_text(json.dumps({**config, **remote}))
    (tmp_path / "t5" / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'executed')!r})\n")
    with pytest.raises(RecipeError):
        load_text_encoder(str(tmp_path / "t5"), None, "cpu")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google/umt5-xxl", "google/umt5-xxl"),
        ("a/b/text_encoder@abc", "a/b/tokenizer@abc"),
        ("a/b/x/text_encoder", "a/b/x/tokenizer"),
    ],
)
def test_where_the_tokenizer_is_looked_for(name, expected):
    assert default_tokenizer(name) == expected


def test_cleaning_mends_unicode_and_entities_and_collapses_space():
    assert clean_prompt("  a\u00a0dog &amp;amp; a\n\ncat â€” ﬁne  ") == "a dog & a cat — fine"
