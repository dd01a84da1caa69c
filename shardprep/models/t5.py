"""Text embeddings of T5 and UMT5 encoders through transformers, and the prompt cleaning of Wan.

Axes: b batch, l tokens, d embedding.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shardprep.errors import RecipeError
from shardprep.models.weights import HubWeights, fetch, resolve

if TYPE_CHECKING:
    import torch

Dtype = Literal["bf16", "fp32"]
_TOKENS_PER_CALL = 8192


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

    def encode(self, texts: Sequence[Tokens]) -> list[torch.Tensor]:
        """Return the last hidden state of every text, in order: [l, d] on the CPU, masked, trimmed, each owning its memory.

        Texts run in batches of like length.
        """
        found: dict[int, torch.Tensor] = {}
        for places in _batches([len(text.ids) for text in texts]):
            found |= dict(zip(places, self._encode([texts[place].ids for place in places]), strict=True))
        return [found[place] for place in range(len(texts))]

    def _encode(self, batch: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        import torch

        longest = max(len(ids) for ids in batch)
        ids_bl = torch.full((len(batch), longest), self.tokenizer.pad_token_id or 0, dtype=torch.long)
        mask_bl = torch.zeros_like(ids_bl)
        for row, ids in enumerate(batch):
            ids_bl[row, : len(ids)] = torch.tensor(ids)
            mask_bl[row, : len(ids)] = 1
        with torch.inference_mode():
            x_bld = self.model(input_ids=ids_bl.to(self.device), attention_mask=mask_bl.to(self.device)).last_hidden_state
        return [x_bld[row, : len(ids)].cpu().clone(memory_format=torch.contiguous_format) for row, ids in enumerate(batch)]


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
    if config.model_type not in kinds:
        raise RecipeError(f"weights {name!r}: a {config.model_type} model, expected {' or '.join(kinds)}")
    options = {"dtype": torch.bfloat16 if dtype == "bf16" else torch.float32, "attn_implementation": "eager", "output_loading_info": True}
    model, report = _load(name, kinds[config.model_type], folder, **options)
    if report["missing_keys"]:
        raise RecipeError(f"weights {name!r}: the files lack {', '.join(sorted(report['missing_keys'])[:5])}; download them again")
    return TextEncoder(model.to(device).eval(), words, device)


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


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield places sorted by length, in groups whose padded size stays under a limit."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
        if group and (len(group) + 1) * lengths[place] > _TOKENS_PER_CALL:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
