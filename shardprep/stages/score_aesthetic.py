"""The LAION aesthetic score of the frames that embed_clip embedded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardprep.core.blob import read_blob
from shardprep.core.outcome import Failed, Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Process, Stage, Weights, Worker
from shardprep.errors import RecipeError

if TYPE_CHECKING:
    from shardprep.models.aesthetic import AestheticHead


@dataclass(frozen=True, kw_only=True)
class ScoreAesthetic(Stage):
    """Score how pleasing frames look, about 1 to 10: the mean over the frames of `embed_clip` (ViT-L-14, openai)."""

    model: str = "trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth"
    """The predictor on CLIP embeddings (LAION's sac+logos+ava1-l14-linearMSE): a hub id with a file, or a local file."""
    batch_size: int = 64
    """Samples that are handed over at once; the model sees one at a time, so that no byte depends on this."""

    version = 1
    reads = ("clip_embedding",)
    accepts = ("clip_embedding",)

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"scores.aesthetic": "double", "per_frame.aesthetic": "list<double>", "scorers.aesthetic": "string"}

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (Weights(self.model),)

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        return (("torch", "models"),)

    def check(self) -> None:
        from shardprep.models.aesthetic import check_local

        check_local(self.model)

    def open(self, worker: Worker) -> Process:
        from shardprep.models.aesthetic import load_aesthetic
        from shardprep.models.weights import describe

        head = load_aesthetic(self.model)
        scorer = f"score_aesthetic@{self.version} {describe(self.model)}"
        return lambda batch: [self._outcome(sample, head, scorer) for sample in batch]

    def _outcome(self, sample: Sample, head: AestheticHead, scorer: str) -> Outcome:
        from shardprep.models.aesthetic import pool
        from shardprep.models.tensors import load_metadata, load_tensors

        data = read_blob(sample.members["clip_embedding"].blob)
        x_nd = load_tensors(data)["clip_embedding"]
        if x_nd.shape[-1] != head.dim:
            made_by = load_metadata(data).get("scorer", "another model")
            raise RecipeError(
                f"score_aesthetic: {self.model} scores embeddings of {head.dim} numbers, those of {made_by} have {x_nd.shape[-1]}; "
                "use the CLIP model that it was trained on (embed_clip: {model: ViT-L-14, pretrained: openai})"
            )
        per_frame = head.score(x_nd)
        if not bool(per_frame.isfinite().all()):
            return Failed("not-finite", f"{scorer} gave NaN or infinity")
        columns = {
            "scores.aesthetic": pool(per_frame),
            "per_frame.aesthetic": [float(score) for score in per_frame],
            "scorers.aesthetic": _with_origin(scorer, load_metadata(data).get("scorer", "")),
        }
        return Kept(sample.with_columns(columns))


def _with_origin(scorer: str, embedder: str) -> str:
    from shardprep.models.weights import RANDOM_WORDS

    # A trained head on random embeddings is a random number too.
    return f"{scorer} on {RANDOM_WORDS}" if RANDOM_WORDS in embedder and RANDOM_WORDS not in scorer else scorer
