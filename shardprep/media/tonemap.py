"""From HDR (PQ or HLG, BT.2020) to the standard range that models are trained on, by the curve of ITU-R BT.2390."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc

if TYPE_CHECKING:
    from numpy.typing import NDArray

ToneMap = Literal["bt2390", "none"]
"""`bt2390`: HDR becomes BT.709; `none`: it keeps its transfer function and primaries, in 8 bits."""

HDR_TRANSFERS = frozenset({int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)})

SOURCE_PEAK_NITS = 1000.0
"""What most HDR is mastered for; brighter light is clipped. HLG is shown at this peak (BT.2100)."""
WHITE_NITS = 203.0
"""Diffuse white of HDR (BT.2408), and the white of what comes out."""

FORMAT = "gbrp16le"
"""What the mapper takes and gives: planar RGB of 16 bits."""
_GRID = 49
_BT709 = 1
# BT.2087-0, from linear BT.2020 to linear BT.709
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


class ToneMapper:
    """Maps frames of one size and transfer function; the colours are looked up in a cube, between whose points it is linear."""

    def __init__(self, width: int, height: int, *, transfer: int, primaries: int) -> None:
        self._graph = Graph()
        source = self._graph.add_buffer(width=width, height=height, format=VideoFormat(FORMAT), time_base=Fraction(1, 25))
        with tempfile.NamedTemporaryFile("wb", suffix=".cube") as file:
            file.write(_cube(transfer, primaries))
            file.flush()
            cube = self._graph.add("lut3d", file=file.name, interp="tetrahedral")
            sink = self._graph.add("buffersink")
            source.link_to(cube)
            cube.link_to(sink)
            self._graph.configure()

    def map(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame of `FORMAT` in BT.709, full range."""
        frame.time_base = Fraction(1, 25)
        self._graph.push(frame)
        mapped = self._graph.pull()
        assert isinstance(mapped, VideoFrame), "a graph of video filters gives video"
        return mapped


def to_standard(coded: NDArray[np.float64], transfer: int, primaries: int) -> NDArray[np.float64]:
    """Return RGB of BT.709, 0 to 1, for coded HDR [..., 3], 0 to 1.

    Light is compressed by its brightest channel, so that hues stay (BT.2390-10, 5.4.1), brought to BT.709's primaries, and
    coded for BT.1886's display (2.4).
    """
    nits = _from_pq(coded) if transfer == int(ColorTrc.SMPTE2084) else _from_hlg(coded)
    brightest = np.maximum(nits.max(axis=-1, keepdims=True), 1e-6)
    light = nits * (_from_pq(_compressed(_to_pq(brightest))) / brightest) / WHITE_NITS
    if primaries != _BT709:
        light = light @ _TO_BT709.T
    return np.asarray(np.clip(light, 0, 1) ** (1 / 2.4))


def _compressed(pq: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2390-10, 5.4.1: unchanged up to the knee, then a Hermite spline to the white of what comes out; no lift of black."""
    peak = _to_pq(np.array(SOURCE_PEAK_NITS))
    most = _to_pq(np.array(WHITE_NITS)) / peak
    knee = 1.5 * most - 0.5
    e1 = np.minimum(pq / peak, 1)
    t = (np.maximum(e1, knee) - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return np.asarray(np.where(e1 < knee, e1, spline) * peak)


# SMPTE ST 2084, as in BT.2100-2, table 4
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _from_pq(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    power = np.clip(coded, 0, 1) ** (1 / _M2)
    return np.asarray(10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (np.asarray(nits) / 10000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _from_hlg(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100-2, table 5: the inverse of the camera's curve, then the system gamma of a display of 1,000 nits."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
    luminance = np.maximum(scene @ (0.2627, 0.6780, 0.0593), 1e-9)[..., None]
    return np.asarray(SOURCE_PEAK_NITS * luminance**0.2 * scene)


@cache
def _cube(transfer: int, primaries: int) -> bytes:
    """Return the mapping as a text in the .cube format, red changing fastest."""
    axis = np.linspace(0, 1, _GRID)
    blues, greens, reds = np.meshgrid(axis, axis, axis, indexing="ij")
    mapped = to_standard(np.stack([reds, greens, blues], axis=-1).reshape(-1, 3), transfer, primaries)
    lines = "\n".join(f"{red:.6f} {green:.6f} {blue:.6f}" for red, green, blue in mapped.tolist())
    return f"LUT_3D_SIZE {_GRID}\n{lines}\n".encode()
