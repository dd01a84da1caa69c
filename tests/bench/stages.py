"""Stages that only the benchmarks use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shardprep.core.frames import FramesWanted, PerSecond, ShortSide
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Map, Stage


@dataclass(frozen=True, kw_only=True)
class RewriteVideo(Map):
    """Give back the video as it is: whole samples are written anew."""

    replaces = ("video",)
    writes = {"video": "member"}  # noqa: RUF012  # a stage is frozen, and its declarations with it

    def apply(self, sample: Sample) -> Sample:
        member = sample.members["video"]
        return sample.with_member(member.suffix, member.blob)


@dataclass(frozen=True, kw_only=True)
class ScoreSize(Map):
    """Score how large the file is: next to no work, so that what is measured is all the rest."""

    writes = {"scores.size": "double"}  # noqa: RUF012  # a stage is frozen, and its declarations with it

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"scores.size": float(sample.members["video"].blob.size)})


@dataclass(frozen=True, kw_only=True)
class ScoreColour(Stage):
    """Score colourfulness (Hasler and Suesstrunk 2003): a cheap scorer that wants colours, as most models do."""

    frames = FramesWanted(PerSecond(2.0), ShortSide(320), "rgb")

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"scores.colour": "double"}

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._outcome(sample) for sample in batch]

    def _outcome(self, sample: Sample) -> Outcome:
        import numpy as np

        assert sample.frames is not None, "the runtime decodes what `frames` asks for"
        red, green, blue = np.moveaxis(sample.frames.images.astype(np.float32), -1, 0)
        first, second = red - green, (red + green) / 2 - blue
        score = np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean())
        return Kept(sample.with_columns({"scores.colour": float(score)}))
