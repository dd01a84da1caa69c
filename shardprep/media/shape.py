"""From any decoded frame to what an encoder takes: 8-bit yuv420p, limited range, upright, even sides, scaled where asked."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from shardprep.media.colours import is_full_range, with_known_matrix
from shardprep.media.container import DecodeError
from shardprep.media.orientation import UPRIGHT, Orientation
from shardprep.media.resize import square_size
from shardprep.media.tonemap import FORMAT, HDR_TRANSFERS, ToneMap, ToneMapper

if TYPE_CHECKING:
    from numpy.typing import NDArray


_BT2020_PRIMARIES = 9


class FrameShaper:
    """Shapes the frames of one video; a frame that is right already passes through uncopied.

    Turns and mirrors are baked in, and pixels of an aspect made square: the side that is too short grows. An odd side
    loses one row or column where nothing is scaled. The matrix, primaries and transfer of the source are kept, but HDR
    becomes BT.709 where `tonemap` says so; full range becomes limited; RGB becomes BT.709. Frames that change size in
    mid-stream are scaled to the first one's.
    """

    def __init__(
        self, first: VideoFrame, orientation: Orientation, pixel_aspect: Fraction, short_side_px: int | None, tonemap: ToneMap
    ) -> None:
        """`pixel_aspect` is of the upright picture."""
        self._orientation = orientation
        stored_aspect = 1 / pixel_aspect if orientation.is_sideways else pixel_aspect
        width, height = _scaled(first.width, first.height, stored_aspect, short_side_px)
        self._stored = (width, height)
        even = (width // 2 * 2, height // 2 * 2)
        if not all(even):
            raise DecodeError("too-small", f"frames of {first.width}x{first.height} pixels; h264 in 4:2:0 needs at least 2x2")
        self.width, self.height = even[::-1] if orientation.is_sideways else even
        self._reformatters: dict[str, VideoReformatter] = {}
        self._mapper = _tone_mapper(first, self._stored, tonemap)
        known = with_known_matrix(first)
        self._is_rgb = known.format.is_rgb or known.format.name.startswith("gbr")
        self.colorspace = _matrix_of_rgb(known) if self._is_rgb else int(known.colorspace)
        # An image in RGB that says nothing of its colours is taken for BT.709.
        is_untagged = self._is_rgb and known is first
        self.color_primaries, self.color_trc = (1, 1) if is_untagged else (int(known.color_primaries), int(known.color_trc))
        # Unspecified means limited to every player, but only a range that is known is written down.
        self.color_range = int(ColorRange.MPEG) if is_full_range(known) else int(known.color_range)
        if self._mapper:
            self._is_rgb, self.colorspace, self.color_range = True, int(Colorspace.ITU709), int(ColorRange.MPEG)
            self.color_primaries, self.color_trc = 1, 1

    def shape(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame as the encoder takes it, without a time."""
        width, height = self._stored
        frame = with_known_matrix(frame)
        if self._mapper:
            frame = self._mapper.map(self._reformatted(frame, FORMAT, None, ColorRange.JPEG))
        full = is_full_range(frame)
        if (frame.width, frame.height, frame.format.name) != (width, height, "yuv420p") or full:
            frame = self._reformatted(frame, "yuv420p", self.colorspace if self._is_rgb else None, ColorRange.MPEG if full else None)
        if self._orientation != UPRIGHT or width % 2 or height % 2:
            frame = _turned_and_cropped(frame, self._orientation)
        return frame

    def _reformatted(self, frame: VideoFrame, name: str, matrix: int | None, color_range: ColorRange | None) -> VideoFrame:
        """Return the frame in another format and the clip's size; None leaves what the frame says."""
        return self._reformatters.setdefault(name, VideoReformatter()).reformat(
            frame,
            *self._stored,
            name,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if is_full_range(frame) else None,
            dst_color_range=color_range,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )


def _tone_mapper(first: VideoFrame, size: tuple[int, int], tonemap: ToneMap) -> ToneMapper | None:
    transfer = int(first.color_trc)
    if tonemap == "none" or transfer not in HDR_TRANSFERS:
        return None
    return ToneMapper(*size, transfer=transfer, primaries=int(first.color_primaries))


def _matrix_of_rgb(frame: VideoFrame) -> int:
    return int(Colorspace.BT2020 if int(frame.color_primaries) == _BT2020_PRIMARIES else Colorspace.ITU709)


def _scaled(width: int, height: int, pixel_aspect: Fraction, short_side_px: int | None) -> tuple[int, int]:
    """Return the size in square pixels, scaled to a short side: never up, and even sides where anything is scaled."""
    if pixel_aspect != 1:
        height, width = (max(2, round(side / 2) * 2) for side in square_size(height, width, pixel_aspect))
    if short_side_px is None or min(width, height) <= short_side_px:
        return width, height
    scale = short_side_px / min(width, height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _turned_and_cropped(frame: VideoFrame, orientation: Orientation) -> VideoFrame:
    width, height = frame.width // 2 * 2, frame.height // 2 * 2
    crops = [(height, width), (height // 2, width // 2), (height // 2, width // 2)]
    planes = [orientation.upright(_plane(frame, i)[:h, :w]) for i, (h, w) in enumerate(crops)]
    out_height, out_width = planes[0].shape
    packed = np.concatenate([np.ascontiguousarray(plane).reshape(-1) for plane in planes])
    return VideoFrame.from_ndarray(packed.reshape(out_height * 3 // 2, out_width), format="yuv420p")


def _plane(frame: VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = frame.planes[index]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
