"""How sharp frames are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from shardprep.core.frames import Fractions, FramesWanted, ShortSide
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.ranges import Points, Range, check_ranges
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage


@dataclass(frozen=True, kw_only=True)
class ScoreSharpness(Stage):
    """Score sharpness as the variance of the Laplacian of the gray picture: 0 is flat, above 100 usually sharp."""

    points: Points = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Which frames, as fractions of the video."""
    short_side_px: Annotated[int, Range(16)] = 320
    """Frames are scaled down to this first: sharpness depends on the size. Smaller videos are measured as they are."""

    version = 2

    def __post_init__(self) -> None:
        check_ranges(self, "score_sharpness")

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"scores.sharpness": "double", "per_frame.sharpness": "list<double>", "scorers.sharpness": "string"}

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(Fractions(self.points), ShortSide(self.short_side_px), "gray")

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._outcome(sample) for sample in batch]

    def _outcome(self, sample: Sample) -> Outcome:
        from shardprep.media.quality import sharpness

        assert sample.frames is not None, "the runtime decodes what `frames` asks for"
        values = [sharpness(gray) for gray in sample.frames.images]
        columns = {
            "scores.sharpness": sum(values) / len(values),
            "per_frame.sharpness": values,
            "scorers.sharpness": f"score_sharpness@{self.version} laplacian",
        }
        return Kept(sample.with_columns(columns))
