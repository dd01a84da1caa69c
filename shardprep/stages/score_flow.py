"""How fast the picture moves: dense optical flow between neighbouring frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from shardprep.core.frames import FramesWanted, Runs, ShortSide
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.ranges import Range, check_ranges
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage


@dataclass(frozen=True, kw_only=True)
class ScoreFlow(Stage):
    """Score motion with OpenCV's DIS optical flow: the mean length of the flow in px per second, at a short side of 320 px.

    Measured between frames that follow each other, at places spread over the video, so that neither its length nor its frame rate
    nor its size changes the score. 0 is a still picture, below 1 hardly anything moves, above 100 is fast. A video of one frame has
    no score (null).
    """

    num_runs: int = 8
    """Places of the video that are looked at, spread evenly."""
    frames_per_run: Annotated[int, Range(2)] = 7
    """Frames at each place, each compared with the next; a video with no more than `num_runs` times so many is compared throughout."""
    short_side_px: Annotated[int, Range(16)] = 320
    """Flow is computed at this size; smaller videos as they are. The score is per 320 px whatever this is."""
    preset: Literal["ultrafast", "fast", "medium"] = "fast"
    """DIS preset, from coarse to fine."""

    version = 2
    accepts = ("video",)

    def __post_init__(self) -> None:
        check_ranges(self, "score_flow")

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"scores.flow": "double", "per_frame.flow": "list<double>", "scorers.flow": "string"}

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(Runs(self.num_runs, self.frames_per_run), ShortSide(self.short_side_px), "gray")

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._outcome(sample) for sample in batch]

    def _outcome(self, sample: Sample) -> Outcome:
        from shardprep.media.flow import mean_speed, pair_speeds

        assert sample.frames is not None, "the runtime decodes what `frames` asks for"
        frames = sample.frames
        speeds = pair_speeds(frames.images, frames.indices, frames.seconds, self.preset)
        columns = {
            "scores.flow": mean_speed(speeds),
            "per_frame.flow": [speed.px_per_second for speed in speeds],
            "scorers.flow": f"score_flow@{self.version} dis-{self.preset}",
        }
        return Kept(sample.with_columns(columns))
