"""Text embeddings of T5 and UMT5 encoders through transformers, and the prompt cleaning of Wan.

Axes: b batch, l tokens, d embedding.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shardprep.errors import RecipeError
from shardprep.models.folder import check_weights_files, read_config
from shardprep.models.weights import HubWeights, fetch, local_path, resolve

if TYPE_CHECKING:
    import torch

MODEL_TYPES = ("t5", "umt5")
_WEIGHTS = (".safetensors", ".bin")
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "tokenizer_config.json")
Dtype = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Tokens:
    """The ids of one text, no padding, the end token included."""

    ids: tuple[int, ...]
    is_truncated: bool


@dataclass(frozen=True)
class TextEncoder:
    """A loaded encoder with its tokenizer."""

    model: Any
    tokenizer: Any
    device: str

    def tokenize(self, text: str, max_length: int) -> Tokens:
        """Return the ids of a cleaned text, cut to `max_length` with the end token kept.

        Special tokens written in the text (`</s>`, `<pad>`) become their ids: the length is that of the list, never
        counted from ids.
        """
        ids = self.tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
        whole = len(ids) < max_length or len(self.tokenizer(text, verbose=False)["input_ids"]) <= max_length
        return Tokens(tuple(int(token) for token in ids), not whole)

    def encode(self, text: Tokens) -> torch.Tensor:
        """Return the last hidden state of a text: [l, d] on the CPU, owning its memory.

        One text at a time and without padding: what a matrix product gives to the last bit depends on the shape of the batch.
        """
        import torch

        ids_bl = torch.tensor([text.ids], dtype=torch.long, device=self.device)
        with torch.inference_mode():
            x_bld = self.model(input_ids=ids_bl, attention_mask=torch.ones_like(ids_bl)).last_hidden_state
        return x_bld[0].cpu().clone(memory_format=torch.contiguous_format)


def clean_prompt(text: str) -> str:
    """Return the text with broken unicode mended, HTML entities resolved twice and white space collapsed.

    Wan 2.1's `clean="whitespace"` (`wan/modules/tokenizers.py`).
    """
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()


def load_text_encoder(name: str, tokenizer: str | None, device: str, dtype: Dtype = "bf16") -> TextEncoder:
    """Return the encoder in a transformers folder (of an encoder, or of a whole T5) with its tokenizer.

    Attention is `eager`: in bf16 the fused one differs from Wan's by up to 0.1.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    words = _load(name, transformers.AutoTokenizer, fetch(tokenizer or default_tokenizer(name)))
    folder = fetch(name)
    config = _load(name, transformers.AutoConfig, folder)
    kinds = {"t5": transformers.T5EncoderModel, "umt5": transformers.UMT5EncoderModel}
    _check_type(name, config.model_type)
    options = {"dtype": torch.bfloat16 if dtype == "bf16" else torch.float32, "attn_implementation": "eager", "output_loading_info": True}
    model, report = _load(name, kinds[config.model_type], folder, **options)
    if report["missing_keys"]:
        raise RecipeError(f"weights {name!r}: the files lack {', '.join(sorted(report['missing_keys'])[:5])}; download them again")
    return TextEncoder(model.to(device).eval(), words, device)


def check_local(name: str, tokenizer: str | None) -> None:
    """Raise RecipeError where a local folder of an encoder, or of its tokenizer, lacks what is loaded. Nothing is loaded."""
    if (folder := local_path(name, "t5")) is not None:
        _check_type(name, read_config(name, folder).get("model_type"))
        check_weights_files(name, folder, _WEIGHTS)
        tokenizer = tokenizer or default_tokenizer(name)
    words = local_path(tokenizer, "t5") if tokenizer else None
    if words is not None and not any((words / file).is_file() for file in _TOKENIZER_FILES):
        raise RecipeError(f"tokenizer {tokenizer!r}: {words} holds none of {', '.join(_TOKENIZER_FILES)}; name the tokenizer's folder")


def _check_type(name: str, model_type: object) -> None:
    if model_type not in MODEL_TYPES:
        raise RecipeError(f"weights {name!r}: a {model_type} model, expected {' or '.join(MODEL_TYPES)}")


def _load(name: str, kind: Any, folder: Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise RecipeError(f"weights {name!r}: {error}") from error


def default_tokenizer(name: str) -> str:
    """Return where a model's tokenizer is named: the folder itself, or `tokenizer` beside a folder called `text_encoder`."""
    found = resolve(name)
    if isinstance(found, HubWeights) and found.path.endswith("text_encoder"):
        path = f"{found.repo}/{found.path.removesuffix('text_encoder')}tokenizer"
        return f"{path}@{found.revision}" if found.revision else path
    if not isinstance(found, HubWeights) and name.rstrip("/").endswith("text_encoder"):
        return name.rstrip("/").removesuffix("text_encoder") + "tokenizer"
    return name
