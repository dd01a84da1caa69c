"""Where the shots of a video begin and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from shardprep.core.frames import AllFrames, Frame, FramesWanted, LongSide
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.ranges import SHORTEST_SECONDS, Range, check_ranges, check_used
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage
from shardprep.errors import RecipeError

if TYPE_CHECKING:
    from shardprep.media.scenes import DetectorSettings


_WHITE = 255
_PICTURE = ("component_weights", "luma_only", "kernel_px")
_ONLY: Mapping[str, Sequence[str]] = {
    "adaptive": ("window_frames", "min_content", *_PICTURE),
    "content": ("filter_mode", *_PICTURE),
    "threshold": ("fade_bias", "fade_method", "min_fade_frames", "add_final_scene"),
}
"""Settings that not every detector looks at, by those that do."""


@dataclass(frozen=True, kw_only=True)
class DetectScenes(Stage):
    """Find the scenes of a video with PySceneDetect; `scenes.starts` and `scenes.ends` are presentation seconds, half-open.

    `adaptive` compares a frame's change with its neighbours' and forgives camera movement (Open-Sora's choice), `content`
    looks at the change alone (Panda-70M's), `threshold` finds fades to black. Without a cut the whole video is one scene.
    """

    detector: Literal["adaptive", "content", "threshold"] = "adaptive"
    threshold: Annotated[float, Range(0)] | None = None
    """adaptive: ratio to the neighbours' change (null: 3.0); content: change, 0 to 255 (null: 27); threshold: brightness (null: 12)."""
    min_scene_frames: int = 15
    """A cut this soon after another is no cut; in frames of the average rate."""
    window_frames: Annotated[int, Range(1)] = 2
    """adaptive: neighbours on each side."""
    min_content: Annotated[float, Range(0, 255)] = 15.0
    """adaptive: change, 0 to 255, below which there is no cut whatever the ratio (Open-Sora 1.3: 10)."""
    component_weights: Annotated[tuple[float, float, float, float], Range(0)] = (1.0, 1.0, 1.0, 0.0)
    """adaptive and content: weights of the change in hue, saturation, luma and edges; one at least is above 0."""
    luma_only: bool = False
    """adaptive and content: look at luma alone, whatever the weights."""
    kernel_px: Annotated[int, Range(3)] | None = None
    """adaptive and content: by how much edges are widened, odd and at least 3; None fits it to the picture."""
    filter_mode: Literal["merge", "suppress"] = "merge"
    """content: cuts too close to each other become one, or only the first counts."""
    fade_bias: Annotated[float, Range(-1, 1)] = 0.0
    """threshold: where a fade is cut, from -1 (fade-out) to 1 (fade-in)."""
    fade_method: Literal["floor", "ceiling"] = "floor"
    """threshold: fades to black, or to white."""
    min_fade_frames: int = 0
    """threshold: shorter fades do not count."""
    add_final_scene: bool = False
    """threshold: a fade-out at the end begins a scene of its own."""
    margin_seconds: float = 0.0
    """Taken off each side of a cut, where transitions blend."""
    min_seconds: float = 0.0
    """Scenes shorter than this are left out."""
    max_seconds: Annotated[float, Range(SHORTEST_SECONDS)] | None = None
    """Scenes longer than this are sliced into pieces of this length and a rest."""

    version = 2
    accepts = ("video",)
    # PySceneDetect 0.7 scales frames so that the long side is 256 px before it compares them.
    frames = FramesWanted(AllFrames(), LongSide(256), "bgr")

    def __post_init__(self) -> None:
        check_ranges(self, "detect_scenes")
        check_used(self, "detect_scenes", "detector", _ONLY)
        if self.detector != "adaptive" and self.threshold is not None and self.threshold > _WHITE:
            raise RecipeError(f"detect_scenes: threshold is {self.threshold}; with detector: {self.detector} expected 0 to {_WHITE}")
        if self.kernel_px is not None and self.kernel_px % 2 == 0:
            raise RecipeError(f"detect_scenes: kernel_px is {self.kernel_px}; expected an odd number from 3 on, or null")
        if not any(self.component_weights):
            raise RecipeError(f"detect_scenes: component_weights is {list(self.component_weights)}; expected one weight above 0 at least")

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"scenes.starts": "list<double>", "scenes.ends": "list<double>"}

    def watch(self, sample: Sample) -> SceneWatcher:
        return SceneWatcher(self, sample)

    @property
    def detector_settings(self) -> DetectorSettings:
        """The settings that concern the detector."""
        from shardprep.media.scenes import DetectorSettings

        return DetectorSettings(**{name: getattr(self, name) for name in DetectorSettings.__dataclass_fields__})


class SceneWatcher:
    """Shows the frames of one video to a detector."""

    def __init__(self, stage: DetectScenes, sample: Sample) -> None:
        from shardprep.media.scenes import SceneFinder
        from shardprep.media.timeline import read_timeline

        self._stage, self._sample = stage, sample
        self._timeline = read_timeline(sample.members["video"].blob, on_corrupt="keep")
        self._finder = SceneFinder(stage.detector_settings, self._timeline.fps)
        self._last_seconds = 0.0

    def see(self, frame: Frame) -> None:
        self._finder.see(frame.image, frame.seconds)
        self._last_seconds = frame.seconds

    def finish(self) -> Outcome:
        from shardprep.media.scenes import trim_scenes

        # Where the video was kept up to a damage, the timeline reaches further than the frames.
        frame_seconds = 1 / self._timeline.fps if self._timeline.fps else 0.04
        is_whole = self._last_seconds >= self._timeline.seconds[-1]
        end = self._timeline.end_seconds if is_whole else self._last_seconds + frame_seconds
        scenes = trim_scenes(
            self._finder.scenes(end),
            margin_seconds=self._stage.margin_seconds,
            min_seconds=self._stage.min_seconds,
            max_seconds=self._stage.max_seconds,
        )
        starts, ends = [start for start, _ in scenes], [end for _, end in scenes]
        return Kept(self._sample.with_columns({"scenes.starts": starts, "scenes.ends": ends}))
