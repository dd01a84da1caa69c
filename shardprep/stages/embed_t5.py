"""T5 and UMT5 embeddings of captions: masked, trimmed, with their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from shardprep.core.blob import BytesBlob
from shardprep.core.outcome import Dropped, Failed, Kept, Outcome
from shardprep.core.quantity import counted
from shardprep.core.ranges import Range, check_ranges
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Process, Stage, Weights, Worker

if TYPE_CHECKING:
    import torch

    from shardprep.models.t5 import Tokens


@dataclass(frozen=True, kw_only=True)
class EmbedT5(Stage):
    """Embed a caption with a T5 or UMT5 encoder, as Wan does: cleaned, masked, trimmed to its tokens."""

    model: str = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/text_encoder"
    """OWNER/REPO[/FOLDER][@REVISION], a local folder of transformers, or tiny:t5."""
    tokenizer: str | None = None
    """Where the tokenizer lies; by default in the model's folder, or in `tokenizer` beside a folder `text_encoder`."""
    column: str = "caption.text"
    max_length: Annotated[int, Range(2)] = 512
    """Tokens, the end token included; longer texts are cut and say so in t5.truncated."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    clean: Literal["wan", "none"] = "wan"
    """`wan`: mend unicode, resolve HTML entities twice, collapse white space."""
    missing: Literal["drop", "fail", "empty"] = "drop"
    """What happens to samples without a caption, or with one that is blank, also once it is cleaned; `empty` embeds the empty text."""
    min_characters: Annotated[int, Range(0)] = 0
    """Captions with fewer characters are dropped; OmniVideo's rule is 11, counted before cleaning."""
    batch_size: int = 32
    """Samples that are handed over at once; the model sees one at a time, so that no byte depends on this."""

    version = 2
    accepts = ()

    def __post_init__(self) -> None:
        check_ranges(self, "embed_t5")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"t5": "member", "t5.model": "string", "t5.length": "int64", "t5.truncated": "bool", "t5.text": "string"}

    @property
    def weights(self) -> tuple[Weights, ...]:
        from shardprep.models.t5 import default_tokenizer

        names = dict.fromkeys((self.model, self.tokenizer or default_tokenizer(self.model)))
        return tuple(Weights(name) for name in names)

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        return (("torch", "models"), ("transformers", "models"), ("ftfy", "models"))

    def check(self) -> None:
        from shardprep.models.t5 import check_local

        check_local(self.model, self.tokenizer)

    def open(self, worker: Worker) -> Process:
        from shardprep.models.t5 import load_text_encoder
        from shardprep.models.weights import describe

        encoder = load_text_encoder(self.model, self.tokenizer, worker.device, self.dtype)
        title = f"embed_t5@{self.version} {describe(self.model)}"

        def process(batch: Sequence[Sample]) -> Sequence[Outcome]:
            return [embedded(sample) for sample in batch]

        def embedded(sample: Sample) -> Outcome:
            prompt = self.prompt_of(sample)
            if not isinstance(prompt, str):
                return prompt
            text = self._cleaned(prompt)
            tokens = encoder.tokenize(text, self.max_length)
            return self._outcome(sample, text, tokens, encoder.encode(tokens), title)

        return process

    def prompt_of(self, sample: Sample) -> str | Dropped | Failed:
        """Return the caption with newlines as spaces, or why there is none to embed."""
        text = sample.get(self.column, "")
        if not isinstance(text, str):
            return Failed("caption-not-text", f"{self.column} holds a {type(text).__name__}, expected text")
        prompt = one_line(text)
        if not self._cleaned(prompt).strip():
            if self.missing == "empty":
                return ""
            return Dropped("no-caption") if self.missing == "drop" else Failed("no-caption", f"{self.column} is missing or blank")
        if len(prompt) < self.min_characters:
            return Dropped("caption-too-short", f"{counted(len(prompt), 'character')}, at least {self.min_characters} wanted")
        return prompt

    def _cleaned(self, prompt: str) -> str:
        from shardprep.models.t5 import clean_prompt

        return clean_prompt(prompt) if self.clean == "wan" else prompt

    def _outcome(self, sample: Sample, text: str, tokens: Tokens, x_ld: torch.Tensor, title: str) -> Outcome:
        import torch

        from shardprep.models.tensors import save_tensors

        if not bool(x_ld.isfinite().all()):
            return Failed("not-finite", f"the embedding of {title} holds NaN or infinity")
        metadata = {"model": title, "layout": "LD", "masked": "true", "max_length": str(self.max_length), "clean": self.clean}
        data = save_tensors({"t5": x_ld, "ids": torch.tensor(tokens.ids, dtype=torch.int64)}, metadata)
        columns = {"t5.model": title, "t5.length": len(tokens.ids), "t5.truncated": tokens.is_truncated, "t5.text": text}
        return Kept(sample.with_member("t5.safetensors", BytesBlob(data)).with_columns(columns))


def one_line(text: str) -> str:
    """Return a caption with newlines as spaces: the prompt that OmniVideo stores."""
    return text.replace("\n", " ")
