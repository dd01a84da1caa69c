"""How bright frames are, and how much of them is black or white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from shardprep.core.frames import Fractions, FramesWanted, ShortSide
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.ranges import Points, Range, check_ranges
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage
from shardprep.errors import RecipeError

_PARTS = ("luma", "dark", "bright")


@dataclass(frozen=True, kw_only=True)
class ScoreExposure(Stage):
    """Score brightness, each 0 to 1: the mean (`scores.luma`), and how many pixels are black (`scores.dark`) or white (`scores.bright`)."""

    points: Points = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Which frames, as fractions of the video."""
    short_side_px: Annotated[int, Range(16)] = 320
    """Frames are scaled down to this first. Smaller videos are measured as they are."""
    dark_below: Annotated[int, Range(0, 255)] = 10
    """Gray values below this count as black, 0 to 255."""
    bright_above: Annotated[int, Range(0, 255)] = 245
    """Gray values above this count as white, 0 to 255."""

    version = 2

    def __post_init__(self) -> None:
        check_ranges(self, "score_exposure")
        if self.dark_below >= self.bright_above:
            came = f"dark_below is {self.dark_below}, bright_above {self.bright_above}"
            raise RecipeError(f"score_exposure: {came}; expected dark_below to be less, or pixels count as both")

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        columns: dict[str, ColumnType] = {f"scores.{part}": "double" for part in _PARTS}
        return columns | {f"per_frame.{part}": "list<double>" for part in _PARTS} | {"scorers.exposure": "string"}

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(Fractions(self.points), ShortSide(self.short_side_px), "gray")

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._outcome(sample) for sample in batch]

    def _outcome(self, sample: Sample) -> Outcome:
        from shardprep.media.quality import exposure

        assert sample.frames is not None, "the runtime decodes what `frames` asks for"
        exposures = [exposure(gray, self.dark_below, self.bright_above) for gray in sample.frames.images]
        per_frame = {part: [getattr(value, part) for value in exposures] for part in _PARTS}
        columns = {f"scores.{part}": sum(values) / len(values) for part, values in per_frame.items()}
        columns |= {f"per_frame.{part}": values for part, values in per_frame.items()}
        return Kept(sample.with_columns(columns | {"scorers.exposure": f"score_exposure@{self.version} luma"}))
