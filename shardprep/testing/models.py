"""Tiny models of the real architectures with seeded random weights, in the formats that real ones are saved in."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardprep.models.tensors import save_tensors
from shardprep.models.weights import RANDOM_MARKER, TINY_MODELS, cache_folder, tiny_folder_name

if TYPE_CHECKING:
    import torch

CLIP_DIM = 64
_MARKER_TEXT = "The weights in this folder are random numbers, made by `shardprep models tiny`. What they score or encode means nothing.\n"
_WORDS = (
    "a the of in on and with to is are it this that video shows shot scene camera man woman child dog cat bird horse car road street city "
    "house room table river sea beach mountain forest tree sky cloud sun light night day red green blue white black small large slow fast "
    "moves moving walks runs stands left right up down pan zoom close wide view water fire snow rain text clock square circle"
).split()


def make_tiny_models(folder: Path | None = None) -> dict[str, Path]:
    """Make every tiny model that `folder` lacks (the cache where None) and return their folders by name.

    A model appears whole or not at all; the bytes are the same in every run.
    """
    folder = cache_folder() / "tiny" if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / tiny_folder_name(name) for name in TINY_MODELS}
    for make, target in zip((_make_clip, _make_aesthetic, _make_t5, _make_wan_vae), found.values(), strict=True):
        if not target.is_dir():
            _make_whole(make, target)
    return found


def _make_whole(make: Callable[[Path], None], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as work:
        made = Path(work) / "model"
        made.mkdir()
        make(made)
        (made / RANDOM_MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
        try:
            os.rename(made, target)
        except OSError:
            # Somebody else made the same one meanwhile.
            if not target.is_dir():
                raise


def _make_clip(folder: Path) -> None:
    import open_clip

    config = {
        "embed_dim": CLIP_DIM,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    preprocess = {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    _write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
    model = open_clip.CLIP(**config)
    _randomise(model, seed=1)
    _write_weights(folder / "open_clip_model.safetensors", model.state_dict())


def _make_aesthetic(folder: Path) -> None:
    import torch

    sizes = {0: (1024, CLIP_DIM), 2: (128, 1024), 4: (64, 128), 6: (16, 64), 7: (1, 16)}
    layers = {f"layers.{place}": torch.nn.Linear(into, out) for place, (out, into) in sizes.items()}
    for place, layer in enumerate(layers.values()):
        _randomise(layer, seed=200 + place)
    # Around 5, with scores far enough apart that a threshold selects something.
    layers["layers.0"].weight.data.mul_(8.0)
    layers["layers.7"].bias.data.fill_(5.0)
    weights = {f"{name}.{part}": tensor for name, layer in layers.items() for part, tensor in layer.state_dict().items()}
    _write_weights(folder / "aesthetic.safetensors", weights)


def _make_t5(folder: Path) -> None:
    import transformers

    words = _make_tokenizer()
    words.save_pretrained(folder)
    config = transformers.UMT5Config(
        vocab_size=512, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_decoder_layers=2, num_heads=4,
        relative_attention_num_buckets=32, feed_forward_proj="gated-gelu", tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
        architectures=["UMT5EncoderModel"],
    )  # fmt: skip
    model = transformers.UMT5EncoderModel(config)
    _randomise(model, seed=3)
    _write_json(folder / "config.json", {**_unversioned(config.to_diff_dict()), "dtype": "float32"})
    # The embedding is tied: real files hold it once.
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "encoder.embed_tokens.weight"}
    _write_weights(folder / "model.safetensors", weights)


def _make_tokenizer() -> Any:
    import tokenizers
    import transformers

    letters = [chr(code) for code in range(33, 127)]
    pieces = ["▁", *letters, *(f"▁{letter}" for letter in letters), *(f"▁{word}" for word in dict.fromkeys(_WORDS) if len(word) > 1)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *((piece, -1.0 - 9.0 / len(piece)) for piece in pieces)]
    words = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=2))
    words.normalizer = tokenizers.normalizers.NFKC()
    words.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    words.decoder = tokenizers.decoders.Metaspace()
    words.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=512, **names)


def _make_wan_vae(folder: Path) -> None:
    import diffusers

    model = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1)
    _randomise(model, seed=4)
    _write_json(folder / "config.json", _unversioned({"_class_name": "AutoencoderKLWan", **model.config}))
    _write_weights(folder / "diffusion_pytorch_model.safetensors", model.state_dict())


def _randomise(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter a value that matters: layers that start at zero would hide mistakes."""
    import numpy as np
    import torch

    random = np.random.default_rng(seed)
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        noise = torch.from_numpy(random.standard_normal(shape, dtype=np.float32))
        if name == "logit_scale":
            value = torch.full(shape, math.log(100.0))
        elif name.endswith("gamma") or (name.endswith("weight") and len(shape) == 1):
            value = 1 + 0.1 * noise
        elif name.endswith("bias"):
            value = 0.1 * noise
        elif "embed" in name or name == "shared.weight":
            value = noise
        else:
            value = noise / math.sqrt(math.prod(shape[1:]) if len(shape) > 1 else shape[0])
        parameter.data.copy_(value)


def _unversioned(config: Mapping[str, Any]) -> dict[str, Any]:
    # A tiny model stays the same model when a library is updated. (diffusers' notes on defaults come from a set, in any order.)
    left_out = {"transformers_version", "_diffusers_version", "_name_or_path", "_use_default_values"}
    return {name: value for name, value in config.items() if name not in left_out}


def _write_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    path.write_bytes(save_tensors(tensors, {"format": "pt"}))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
