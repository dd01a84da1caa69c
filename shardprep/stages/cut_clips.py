"""One clip per scene: the video cut into files of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from shardprep.core.outcome import Dropped, Failed, Kept, Outcome, Split
from shardprep.core.ranges import SHORTEST_SECONDS, Range, check_ranges, check_used
from shardprep.core.sample import Sample, child_key, is_label
from shardprep.core.stage import ColumnType, Process, Resources, Stage, Worker
from shardprep.errors import RecipeError
from shardprep.stages.probe_media import MEDIA_COLUMNS

if TYPE_CHECKING:
    from shardprep.media.clips import Clip, ClipResult
    from shardprep.media.timeline import Timeline

_CLIP_COLUMNS: Mapping[str, ColumnType] = {
    "clip.source_key": "string",
    "clip.index": "int64",
    "clip.starts": "list<double>",
    "clip.ends": "list<double>",
    "clip.seconds": "double",
}


_WORST_CRF = 63
_ONLY: Mapping[str, Sequence[str]] = {
    "exact": ("encoder", "crf", "preset", "fps", "short_side_px", "square_pixels", "deinterlace", "tonemap", "gop_seconds")
}
"""Settings that `copy` does not look at: it takes packets as they are."""


@dataclass(frozen=True)
class _Piece:
    """A stretch of a video that becomes one clip, in presentation seconds."""

    start: float
    end: float
    number: int | None = None
    """Which of the list's clips it belongs to."""
    failure: Failed | None = None

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class CutClips(Stage):
    """Cut a video into one clip per scene, or into one clip where nobody looked for scenes; a clip holds no frame of another shot.

    Where a list gave the clips (`spans.starts`, `spans.ends`), these are cut instead, each with its own caption and metadata.
    `clip.starts` and `clip.ends` are the presentation seconds of the source between which the clip's frames are shown.
    Labels that came with the video (`cls`, `id`, `txt`, `json`, also as `objects.json`) go to every clip, as its caption and metadata
    do; images, sound, arrays and tensors do not, for they hold for the whole video.
    """

    mode: Literal["exact", "copy"] = "exact"
    """`exact`: every frame of the scene, encoded anew; `copy`: from the first key frame inside the scene on, not encoded anew."""
    min_seconds: float = 0.0
    """Shorter clips are dropped (`too-short`)."""
    max_seconds: Annotated[float, Range(SHORTEST_SECONDS)] | None = None
    """Longer scenes are cut into consecutive pieces of this length and a rest."""
    max_beyond_seconds: float = 0.5
    """A clip of a list may end so far beyond its video, as durations are rounded, and is cut there; further off it fails (`bad-times`)."""
    encoder: str = "libx264"
    """exact: libx264, libx265, libsvtav1 (AV1), h264_nvenc or hevc_nvenc (NVIDIA GPUs); `shardprep doctor` says which open here."""
    crf: Annotated[int, Range(0)] | None = None
    """exact: constant quality, lower is better; null looks like the source: x264 18 of 51, x265 20, nvenc 19, AV1 24 of 63."""
    preset: str | None = None
    """exact: speed, slower makes smaller files; null is x264's and x265's `veryfast`, nvenc's `p4` of p1 to p7, AV1's `8` of 13 to 0."""
    fps: float | None = None
    """exact: frames per second of the clips; null keeps every frame at its own time."""
    short_side_px: Annotated[int, Range(2)] | None = None
    """exact: the short side is scaled down to this, never up; null keeps the size."""
    square_pixels: bool = True
    """exact: frames whose pixels are not square are scaled until they are; false keeps the pixels and writes their aspect into the clip."""
    deinterlace: Literal["auto", "never", "always"] = "auto"
    """exact: bwdif makes whole pictures of interlaced frames: of those that say so, of none, or of all, where the source says nothing."""
    tonemap: Literal["bt2390", "none"] = "bt2390"
    """exact: HDR (PQ, HLG) becomes BT.709 by the curve of ITU-R BT.2390, with white at 203 nits; `none` keeps it, in 8 bits."""
    gop_seconds: Annotated[float, Range(above=0)] = 1.0
    """exact: a key frame at least this often; whoever reads a frame decodes from the key frame before it, half of this on average."""
    keep_audio: bool = False
    """Whether the first audio stream comes along, encoded as AAC to fit the clip."""

    version = 2
    splits = True
    keeps = ("source", "meta", "caption")
    keeps_labels = True
    accepts = ("video",)
    replaces = ("video", *MEDIA_COLUMNS)

    def __post_init__(self) -> None:
        check_ranges(self, "cut_clips")
        check_used(self, "cut_clips", "mode", _ONLY)
        # `check` knows the range of each encoder.
        if self.crf is not None and self.crf > _WORST_CRF:
            raise RecipeError(f"cut_clips: crf is {self.crf}; expected 0 to 51, with libsvtav1 1 to {_WORST_CRF}")

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        return {"video": "member", **_CLIP_COLUMNS, **MEDIA_COLUMNS}

    @property
    def resources(self) -> Resources:
        return Resources(gpus=1 if self.mode == "exact" and self.encoder.endswith("_nvenc") else 0)

    def check(self) -> None:
        from shardprep.media.encoders import check_encoder

        if self.mode == "exact":
            check_encoder(self.encoder, self.crf, self.preset)

    def open(self, worker: Worker) -> Process:
        return lambda batch: [self._split(sample, worker) for sample in batch]

    def _split(self, sample: Sample, worker: Worker) -> Outcome:
        from shardprep.media.timeline import read_timeline

        timeline = read_timeline(sample.members["video"].blob, on_corrupt=worker.on_corrupt)
        pieces = self._pieces(sample, timeline)
        to_cut = [i for i, piece in enumerate(pieces) if piece.failure is None and piece.seconds >= self.min_seconds]
        cut = self._cut(sample, [[(pieces[i].start, pieces[i].end)] for i in to_cut], timeline, worker)
        results = dict(zip(to_cut, cut, strict=True))
        # The bounds of an exact clip lie at frames, so a whole one may be shorter than its interval by a frame.
        slack = 0 if self.mode == "copy" else 1 / (timeline.fps or 25)
        children = []
        for index, piece in enumerate(pieces):
            key = child_key(sample.key, index)
            if index in results:
                parent = sample if piece.number is None else _of_span(sample, piece.number)
                children.append((key, self._child(parent, key, index, results[index], slack)))
            else:
                children.append((key, piece.failure or self._too_short(piece.seconds)))
        return Split(tuple(children))

    def _pieces(self, sample: Sample, timeline: Timeline) -> list[_Piece]:
        """Return what is to be cut, in presentation seconds: the clips of a list, scenes, or all, sliced where too long."""
        first, last = timeline.seconds[0], timeline.end_seconds
        if (given := sample.get("spans.starts")) is None:
            starts, ends = sample.get("scenes.starts"), sample.get("scenes.ends")
            scenes = [(first, last)] if starts is None else list(zip(starts, ends, strict=True))
            return self._sliced(scenes)
        pieces: list[_Piece] = []
        for number, (start, end) in enumerate(zip(given, sample.get("spans.ends"), strict=True)):
            if failure := self._outside(start, end, first, last):
                pieces.append(_Piece(start, end, number, failure))
            else:
                pieces += self._sliced([(start, min(end, last))], number)
        return pieces

    def _sliced(self, scenes: Sequence[tuple[float, float]], number: int | None = None) -> list[_Piece]:
        from shardprep.media.scenes import trim_scenes

        trimmed = trim_scenes(scenes, margin_seconds=0, min_seconds=0, max_seconds=self.max_seconds)
        return [_Piece(start, end, number) for start, end in trimmed]

    def _outside(self, start: float, end: float, first: float, last: float) -> Failed | None:
        """Return why a clip of a list cannot be cut from a video that is shown from `first` to `last`."""
        # Many containers begin later than at 0 s (MPEG-TS at 1.4 s), and a list says 0 for "from the beginning".
        if end <= first:
            words = f"its end {end:g} s lies before"
        elif start >= last:
            words = f"its start {start:g} s lies beyond"
        elif end > last + self.max_beyond_seconds:
            words = f"its end {end:g} s lies beyond"
        else:
            return None
        return Failed(
            "bad-times", f"{words} the video, which is shown from {first:g} s to {last:g} s; are the times of the list in seconds?"
        )

    def _cut(self, sample: Sample, clips: Sequence[Sequence[tuple[float, float]]], timeline: Timeline, worker: Worker) -> list[ClipResult]:
        from shardprep.media.copy_cut import cut_copy
        from shardprep.media.cut import cut_exact
        from shardprep.media.encode import EncodeSettings

        blob = sample.members["video"].blob
        if not clips:
            return []
        if self.mode == "copy":
            return cut_copy(blob, clips, keep_audio=self.keep_audio, on_corrupt=worker.on_corrupt)
        settings = EncodeSettings(
            encoder=self.encoder,
            crf=self.crf,
            preset=self.preset,
            fps=self.fps,
            short_side_px=self.short_side_px,
            square_pixels=self.square_pixels,
            deinterlace=self.deinterlace,
            tonemap=self.tonemap,
            gop_seconds=self.gop_seconds,
            keep_audio=self.keep_audio,
            threads=worker.threads,
        )
        return cut_exact(blob, clips, settings, timeline=timeline, on_corrupt=worker.on_corrupt)

    def _child(self, parent: Sample, key: str, index: int, result: ClipResult, slack_seconds: float) -> Kept | Dropped | Failed:
        from shardprep.media.container import DecodeError

        if isinstance(result, DecodeError):
            dropped = {"no-key-frame-inside", "no-frames-inside"}
            return Dropped(result.reason, str(result)) if result.reason in dropped else Failed(result.reason, str(result))
        seconds = sum(end - start for start, end in result.intervals)
        # A copied clip begins at a key frame, and one kept up to a damage ends there: both may be shorter than their scene.
        if seconds < self.min_seconds - slack_seconds:
            return self._too_short(seconds)
        return Kept(self._sample(parent, key, index, result, seconds))

    def _too_short(self, seconds: float) -> Dropped:
        return Dropped("too-short", f"it would be {seconds:.3f} s long; min_seconds is {self.min_seconds:g}")

    def _sample(self, parent: Sample, key: str, index: int, clip: Clip, seconds: float) -> Sample:
        from shardprep.media.probe import probe

        columns: dict[str, Any] = {
            "clip.source_key": parent.key,
            "clip.index": index,
            "clip.starts": [start for start, _ in clip.intervals],
            "clip.ends": [end for _, end in clip.intervals],
            "clip.seconds": seconds,
        }
        # What was measured on the whole video does not hold for a part of it.
        inherited = {name: parent.record[name] for name in self.keeps if name in parent.record}
        labels = {role: member for role, member in parent.members.items() if is_label(member.suffix)}
        child = Sample(key, inherited, labels).with_member(clip.suffix, clip.blob)
        return child.with_columns(columns | probe(clip.blob, num_sizes=1 if self.mode == "exact" else None).columns())


def _of_span(sample: Sample, number: int) -> Sample:
    """Return the sample with the caption and the metadata of one of its given clips."""
    meta = {**sample.record.get("meta", {}), **json.loads(sample.get("spans.rows")[number])}
    text = sample.get("spans.texts")[number]
    record = {name: value for name, value in sample.record.items() if name not in ("caption", "meta")}
    return replace(sample, record={**record, **({"meta": meta} if meta else {}), **({"caption": {"text": text}} if text else {})})
