"""Scenes of a video: PySceneDetect's detectors fed frame by frame, with true presentation times."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode, ThresholdDetector
from scenedetect.common import Timecode
from scenedetect.detector import FlashFilter, SceneDetector
from scenedetect.scene_manager import get_scenes_from_cuts

from shardprep.media.resize import Image

# Below any frame's length: sums of floats make no piece of their own.
_ROUNDING_SECONDS = 1e-6
_MICROSECOND = Fraction(1, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """What PySceneDetect's detectors take, in its own units."""

    detector: Literal["adaptive", "content", "threshold"]
    threshold: float | None
    min_scene_frames: int
    window_frames: int
    min_content: float
    component_weights: tuple[float, float, float, float]
    luma_only: bool
    kernel_px: int | None
    filter_mode: Literal["merge", "suppress"]
    fade_bias: float
    fade_method: Literal["floor", "ceiling"]
    min_fade_frames: int
    add_final_scene: bool


class SceneFinder:
    """Finds the cuts of one video; frames come in presentation order, as PySceneDetect would feed them to its detectors."""

    def __init__(self, settings: DetectorSettings, fps: float) -> None:
        """`fps` is the average rate, by which the detectors turn lengths in frames into times."""
        self._detector = _detector(settings)
        self._fps = Fraction(fps).limit_denominator(1_000_000) if fps > 0 else Fraction(25)
        self._seconds: list[float] = []
        self._micros: list[int] = []
        self._cuts: list[FrameTimecode] = []

    def see(self, image: Image, seconds: float) -> None:
        """Take the next frame, BGR, with its presentation time."""
        self._seconds.append(seconds)
        self._micros.append(round((seconds - self._seconds[0]) * 1_000_000))
        self._cuts += self._detector.process_frame(self._timecode(self._micros[-1]), image)

    def scenes(self, end_seconds: float) -> list[tuple[float, float]]:
        """Return the scenes, half-open in presentation seconds: together the whole video, from the first frame to `end_seconds`."""
        self._cuts += self._detector.post_process(self._timecode(self._micros[-1]))
        starts = {self._micros[0], *(self._snapped(cut) for cut in self._cuts)}
        cuts = [self._timecode(start) for start in sorted(starts)[1:]]
        found = get_scenes_from_cuts(cuts, self._timecode(self._micros[0]), self._timecode(self._micros[-1] + 1))
        times = dict(zip(self._micros, self._seconds, strict=True))
        begins = [times[start.pts] for start, _ in found]
        return list(zip(begins, [*begins[1:], end_seconds], strict=True))

    def _timecode(self, micros: int) -> FrameTimecode:
        return FrameTimecode(Timecode(micros, _MICROSECOND), fps=self._fps)

    def _snapped(self, cut: FrameTimecode) -> int:
        """Return the time of the frame nearest to the cut: fades are cut at computed times, between frames."""
        wanted = round(cut.seconds * 1_000_000)
        after = bisect.bisect_left(self._micros, wanted)
        near = self._micros[max(0, after - 1) : after + 1]
        return min(near, key=lambda micros: abs(micros - wanted))


def trim_scenes(
    scenes: Sequence[tuple[float, float]], *, margin_seconds: float, min_seconds: float, max_seconds: float | None
) -> list[tuple[float, float]]:
    """Return the scenes without their margins, the long ones sliced, the short ones left out.

    The margin is taken off where a scene borders on another, not at the ends of the video. Slices are `max_seconds` long but
    for the last (Open-Sora v1.3, `scene_detect.py --max_seconds`).
    """
    kept: list[tuple[float, float]] = []
    for place, (start, end) in enumerate(scenes):
        start += margin_seconds if place else 0
        end -= margin_seconds if place < len(scenes) - 1 else 0
        while max_seconds is not None and end - start > max_seconds + _ROUNDING_SECONDS:
            kept.append((start, start + max_seconds))
            start += max_seconds
        kept.append((start, end))
    return [(start, end) for start, end in kept if end > start and end - start >= min_seconds]


def _detector(settings: DetectorSettings) -> SceneDetector:
    common: dict[str, Any] = {"min_scene_len": settings.min_scene_frames}
    if settings.threshold is not None:
        common["adaptive_threshold" if settings.detector == "adaptive" else "threshold"] = settings.threshold
    picture: dict[str, Any] = {
        "weights": ContentDetector.Components(*settings.component_weights),
        "luma_only": settings.luma_only,
        "kernel_size": settings.kernel_px,
    }
    if settings.detector == "adaptive":
        return AdaptiveDetector(window_width=settings.window_frames, min_content_val=settings.min_content, **common, **picture)
    if settings.detector == "content":
        return ContentDetector(filter_mode=FlashFilter.Mode[settings.filter_mode.upper()], **common, **picture)
    return ThresholdDetector(
        fade_bias=settings.fade_bias,
        method=ThresholdDetector.Method[settings.fade_method.upper()],
        min_out_length=settings.min_fade_frames,
        add_final_scene=settings.add_final_scene,
        **common,
    )
