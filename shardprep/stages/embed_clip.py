"""CLIP embeddings of a few frames per sample, for the scorers that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import Fractions, FramesWanted, PerSecond
from shardprep.core.outcome import Failed, Kept, Outcome
from shardprep.core.ranges import Points, Range, check_ranges
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Process, SizedProcess, Stage, Weights, Worker
from shardprep.errors import RecipeError

if TYPE_CHECKING:
    from shardprep.models.clip import ClipImageEncoder

_ROLE = "clip_embedding"
_POINTS = (0.1, 0.5, 0.9)


@dataclass(frozen=True, kw_only=True)
class EmbedClip(Stage):
    """Embed frames with a CLIP model of open_clip; features are stored as they come, not normalised."""

    model: str = "ViT-L-14"
    """An architecture of open_clip, or a folder or hub id (OWNER/REPO[@REVISION]) with an open_clip_config.json."""
    pretrained: str | None = "openai"
    """For an architecture: a tag of open_clip, a weights file, or null for random weights."""
    points: Points = _POINTS
    """Frames at these fractions of the sample; Open-Sora takes 0.1, 0.5, 0.9 for three, 0.5 for one."""
    fps: float | None = None
    """Frames per second instead of `points`; 0.15 MB of memory each with a model of 224 px."""
    max_frames: Annotated[int, Range(1)] | None = None
    """With `fps`: at most so many, spread evenly."""
    batch_size: int = 16
    """Samples that are handed over at once; the model sees one at a time, so that no byte depends on this."""

    version = 2

    def __post_init__(self) -> None:
        check_ranges(self, "embed_clip")
        if self.max_frames is not None and self.fps is None:
            raise RecipeError(f"embed_clip: max_frames is {self.max_frames}, which is about fps; give fps, or leave it out")
        if self.fps is not None and self.points != _POINTS:
            raise RecipeError(f"embed_clip: fps is {self.fps} and points {list(self.points)}; give only one of them, to say which frames")

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(Fractions(self.points) if self.fps is None else PerSecond(self.fps, self.max_frames))

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {
            _ROLE: "member",
            "clip_embedding.frame_indices": "list<int64>",
            "clip_embedding.frame_seconds": "list<double>",
            "scorers.clip_embedding": "string",
        }

    @property
    def weights(self) -> tuple[Weights, ...]:
        from shardprep.models.clip import WEIGHTS_SUFFIXES, is_model_folder

        if is_model_folder(self.model):
            return (Weights(self.model),)
        if self.pretrained is None:
            return ()
        is_file = self.pretrained.endswith(WEIGHTS_SUFFIXES)
        return (Weights(self.pretrained if is_file else f"open_clip:{self.model}/{self.pretrained}"),)

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        return (("torch", "models"), ("open_clip", "models"))

    def check(self) -> None:
        from shardprep.models.clip import check_model

        check_model(self.model, self.pretrained)

    def open(self, worker: Worker) -> Process:
        from shardprep.models.clip import load_clip

        encoder = load_clip(self.model, self.pretrained, worker.device)
        scorer = f"embed_clip@{self.version} {self._title()}"

        def process(batch: Sequence[Sample]) -> Sequence[Outcome]:
            return [self._outcome(sample, encoder, scorer) for sample in batch]

        return SizedProcess(process, encoder.frame_size)

    def _outcome(self, sample: Sample, encoder: ClipImageEncoder, scorer: str) -> Outcome:
        from shardprep.models.tensors import save_tensors

        if sample.frames is None or not len(sample.frames.images):
            return Failed("no-frames", "no frame could be taken from the sample")
        x_nd = encoder.embed(sample.frames.images)
        if not bool(x_nd.isfinite().all()):
            return Failed("not-finite", f"the features of {scorer} hold NaN or infinity")
        metadata = {"scorer": scorer, "normalised": "false", "log_logit_scale": repr(encoder.logit_scale), "layout": "ND"}
        columns = {
            "clip_embedding.frame_indices": list(sample.frames.indices),
            "clip_embedding.frame_seconds": list(sample.frames.seconds),
            "scorers.clip_embedding": scorer,
        }
        data = save_tensors({_ROLE: x_nd}, metadata)
        return Kept(sample.with_member(f"{_ROLE}.safetensors", BytesBlob(data)).with_columns(columns))

    def _title(self) -> str:
        from shardprep.models.clip import is_model_folder
        from shardprep.models.weights import RANDOM_WORDS, describe

        if not self.weights:
            return f"{self.model} {RANDOM_WORDS}"
        title = describe(self.weights[0].name)
        return title if is_model_folder(self.model) or title.startswith(f"{self.model}/") else f"{self.model}/{title}"
