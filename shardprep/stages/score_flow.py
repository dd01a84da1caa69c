"""How fast the picture moves: dense optical flow between frames that lie close in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shardprep.core.frames import FramesWanted, PerSecond, ShortSide
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage
from shardprep.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ScoreFlow(Stage):
    """Score motion with OpenCV's DIS optical flow: the mean length of the flow in px per second, at a short side of 320 px.

    Independent of the frame rate and the size of the video. 0 is a still picture, below 1 hardly anything moves, above 100
    is fast. A video of one frame has no score (null).
    """

    fps: float = 4.0
    """Frames per second that are compared, each with the next."""
    max_frames: int = 64
    """Longer videos are compared at fewer frames per second, spread evenly."""
    short_side_px: int = 320
    """Flow is computed at this size; smaller videos as they are. The score is per 320 px whatever this is."""
    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    """DIS preset, from coarse to fine."""

    version = 1
    accepts = ("video",)

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.max_frames < 2:
            raise RecipeError(f"score_flow: fps {self.fps}, max_frames {self.max_frames}; expected above 0 and at least 2")

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"scores.flow": "double", "per_frame.flow": "list<double>", "scorers.flow": "string"}

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(PerSecond(self.fps, self.max_frames), ShortSide(self.short_side_px), "gray")

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._outcome(sample) for sample in batch]

    def _outcome(self, sample: Sample) -> Outcome:
        from shardprep.media.flow import flow_speeds

        assert sample.frames is not None, "the runtime decodes what `frames` asks for"
        speeds = flow_speeds(sample.frames.images, sample.frames.seconds, self.preset)
        pooled = sum(speeds) / len(speeds) if speeds else None
        scorer = f"score_flow@{self.version} dis-{self.preset}"
        return Kept(sample.with_columns({"scores.flow": pooled, "per_frame.flow": speeds, "scorers.flow": scorer}))
