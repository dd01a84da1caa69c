"""Frames in colour by index from decord: quick random access on plain 8-bit files, for those who set `decoder: decord`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from shardprep.core.blob import Blob, read_blob
from shardprep.core.frames import Frames, FramesWanted, select_frames
from shardprep.errors import MissingExtra
from shardprep.media.container import DecodeError, open_video, video_streams
from shardprep.media.resize import Image, resize, square, target_size
from shardprep.media.timeline import Timeline

if TYPE_CHECKING:
    import decord


def fetch_frames(blob: Blob, timeline: Timeline, picks: Mapping[int, FramesWanted], threads: int) -> dict[int, Frames]:
    """Return the picked frames; equal to PyAV's on plain 8-bit files, not on 10-bit ones. AV1 is not read at all.

    Raises DecodeError where decord cannot read the file, where it counts other frames than the packets, and where there
    are several video streams.
    """
    try:
        import decord
    except ImportError as error:
        raise MissingExtra("decoder: decord", "decord", "decord") from error
    _check_choice(blob)
    try:
        reader = decord.VideoReader(io.BytesIO(read_blob(blob)), num_threads=threads)
        if len(reader) != timeline.num_frames:
            raise DecodeError("decode-error", f"decord counts {len(reader)} frames, the packets {timeline.num_frames}; use decoder: pyav")
        return {i: _fetch(reader, wish, timeline) for i, wish in picks.items()}
    except (decord.DECORDError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DecodeError("decode-error", f"decord: {first_line}; decoder: pyav reads more formats") from error


def _check_choice(blob: Blob) -> None:
    """Raise DecodeError where there are several video streams: decord does not say which it takes, and asks for no mark of a default."""
    with open_video(blob) as (container, _):
        if len(video_streams(container)) > 1:
            raise DecodeError("decode-error", "there are several video streams, of which decord may take another; use decoder: pyav")


def _fetch(reader: decord.VideoReader, wish: FramesWanted, timeline: Timeline) -> Frames:
    indices = tuple(select_frames(wish.at, timeline.seconds))
    seconds = timeline.seconds
    height, width = timeline.shown_size
    return Frames(
        images=None if wish.colour == "none" else _images(reader, indices, wish, timeline),
        indices=indices,
        seconds=tuple(seconds[index] for index in indices),
        num_frames=timeline.num_frames,
        height=height,
        width=width,
    )


def _images(reader: decord.VideoReader, indices: Sequence[int], wish: FramesWanted, timeline: Timeline) -> Image:
    images = np.empty((len(indices), *target_size(wish.size, *timeline.shown_size), 3), np.uint8)
    for place, index in enumerate(indices):
        shown = resize(square(_upright(reader[index].asnumpy(), timeline), timeline.pixel_aspect), wish.size)
        images[place] = shown if wish.colour == "rgb" else cv2.cvtColor(shown, cv2.COLOR_RGB2BGR)
    return images


def _upright(rgb: Image, timeline: Timeline) -> Image:
    """Return the frame upright: decord turns it by the angle of the display matrix, and forgets the mirror; of mov and mp4 only."""
    orientation = timeline.orientation
    turned = (orientation.turns + 2 * orientation.is_mirrored) % 4 if timeline.container == "mov" else 0
    upright = orientation.upright(np.rot90(rgb, -turned)) if turned != orientation.turns or orientation.is_mirrored else rgb
    expected = (timeline.height, timeline.width, 3)
    if upright.shape != expected:
        # Of pictures narrower than 64 px it takes the padding for a fourth channel.
        raise DecodeError("decode-error", f"decord shows frames of shape {upright.shape}, expected {expected}; use decoder: pyav")
    return upright
