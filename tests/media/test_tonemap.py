"""HDR becomes a picture of the standard range that looks like it, by BT.2390's curve."""

from __future__ import annotations

import io
import subprocess
from itertools import pairwise
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import FramesWanted, Times
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.probe import probe
from shardprep.media.tonemap import to_standard

PQ, HLG = 16, 18
BT2020 = 9


def pq(nits: float) -> float:
    """ST 2084's curve, as its annex writes it."""
    y = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def gray(nits: float) -> float:
    return float(to_standard(np.full((1, 3), pq(nits)), PQ, BT2020)[0, 0])


def test_light_below_the_knee_is_shown_as_it_is() -> None:
    for nits in (0.1, 1, 10, 50, 80):
        assert gray(nits) == pytest.approx((nits / 203) ** (1 / 2.4), rel=2e-3)


def test_the_curve_rises_to_white_at_the_peak() -> None:
    values = [gray(nits) for nits in (0, 1, 10, 50, 100, 150, 203, 300, 500, 700, 1000)]
    assert all(low < high for low, high in pairwise(values))
    assert values[0] == pytest.approx(0, abs=1e-3)
    assert values[-1] == pytest.approx(1, abs=1e-3)
    assert gray(4000) == pytest.approx(1, abs=1e-3)
    # Diffuse white stays bright and leaves room for what is brighter.
    assert 0.8 < gray(203) < 0.92


def test_hlg_and_pq_of_the_same_light_come_out_alike() -> None:
    # BT.2408, table 1: diffuse white is HLG 75 %, PQ 58 %, 203 nits on a display of 1,000; and 18 % gray is 38 %.
    white = to_standard(np.full((1, 3), 0.75), HLG, BT2020)[0]
    assert white == pytest.approx(to_standard(np.full((1, 3), 0.58), PQ, BT2020)[0], abs=0.01)
    dark = to_standard(np.full((1, 3), 0.38), HLG, BT2020)[0]
    assert dark == pytest.approx(to_standard(np.full((1, 3), pq(26)), PQ, BT2020)[0], abs=0.02)


def test_hues_stay() -> None:
    red = to_standard(np.array([[pq(600), pq(60), pq(60)]]), PQ, 1)[0] ** 2.4
    assert red[0] / red[1] == pytest.approx(10, rel=0.02)
    assert red[1] == pytest.approx(red[2], rel=1e-6)


def test_primaries_are_brought_to_bt709() -> None:
    # Gray stays gray; a green of BT.709 is a mixture in BT.2020 (BT.2087-0).
    mixed = np.array([0.3293, 0.9195, 0.0880]) * 60
    coded = np.array([[pq(nits) for nits in mixed]])
    assert to_standard(coded, PQ, BT2020)[0] ** 2.4 * 203 == pytest.approx([0, 60, 0], abs=0.8)


GRAYS = [0.0, 1.0, 10.0, 40.0, 100.0, 203.0, 500.0, 1000.0]


DIM = np.random.default_rng(1).uniform(4, 70, (8, 3))
"""Colours of BT.2020 in nits, below the knee: light that is shown as it is."""


def colour_bars(transfer: str, coded: NDArray[np.float64]) -> bytes:
    """Return eight bars of these coded colours as an h264 of 10 bits, whose chroma has all its pixels."""
    image = np.round(np.tile(coded.repeat(32, axis=0), (64, 1, 1)) * 65535).astype("<u2")
    options = "-vf scale=out_color_matrix=bt2020:out_range=tv,format=yuv444p10le -c:v libx264 -qp 0 -f matroska -"
    tags = ["-x264-params", f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=tv"]
    source = "-f rawvideo -pix_fmt rgb48le -s 256x64 -r 25 -i -"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source.split(), *tags, *options.split()]
    return subprocess.run(command, input=image.tobytes(), capture_output=True, check=True, timeout=60).stdout


def shown(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the colours of a display of BT.709 with this light, 0 to 255 (BT.2087, BT.1886)."""
    primaries = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
    return 255 * np.clip(nits / 203 @ primaries.T, 0, 1) ** (1 / 2.4)


def colours_of(data: bytes) -> NDArray[np.float64]:
    [clip] = cut_exact(BytesBlob(data), [[(0, 1)]], EncodeSettings(crf=1))
    image = decode_frames(clip.blob, [FramesWanted(Times((0.0,)))]).frames[0].images[0]
    return image[8:-8].reshape(-1, 8, 32, 3)[:, :, 8:24].mean(axis=(0, 2))


def test_dim_colours_of_pq_are_those_of_ffmpegs_own_filters(tmp_path: Path) -> None:
    data = colour_bars("smpte2084", np.vectorize(pq)(DIM))
    path = tmp_path / "pq.mkv"
    path.write_bytes(data)
    # There is no compression below the knee, so nothing of ffmpeg's other curves is compared.
    filters = "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=clip:desat=0,zscale=t=bt709:m=bt709:r=full,format=gbrp"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-vf", filters, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    theirs = np.frombuffer(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout, np.uint8)
    theirs = theirs.reshape(64, 8, 32, 3)[:, :, 8:24].mean(axis=(0, 2))
    assert np.abs(colours_of(data) - theirs).max() < 5
    assert np.abs(colours_of(data) - theirs).mean() < 2
    assert np.abs(theirs - shown(DIM)).max() < 3


def test_dim_colours_of_hlg_are_those_of_the_same_light() -> None:
    # The inverse of BT.2100's display of 1,000 nits; ffmpeg's zscale takes each channel by itself and is up to 50 of 255 beside it.
    luminance = DIM @ np.array([0.2627, 0.6780, 0.0593]) / 1000
    scene = DIM / 1000 * luminance[:, None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    assert np.abs(colours_of(colour_bars("arib-std-b67", coded)) - shown(DIM)).max() < 5


def hdr_video(transfer: str, values: NDArray[np.float64]) -> bytes:
    """Return eight gray bars of these coded values as an h264 of 10 bits."""
    luma = np.round((16 + 219 * values) * 256).astype(np.uint16)
    planes = np.stack([np.tile(luma.repeat(32), (64, 1)), *[np.full((64, 256), 128 * 256, np.uint16)] * 2], axis=-1)
    frame = VideoFrame.from_ndarray(planes, format="yuv444p16le").reformat(format="yuv420p10le")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p10le"
        tags = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
        stream.codec_context.options = {"qp": "1", "x264-params": tags}
        for k in range(3):
            frame.pts = k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def bars_of(blob: BytesBlob) -> NDArray[np.int64]:
    image = decode_frames(blob, [FramesWanted(Times((0.0,)))]).frames[0].images[0].astype(int)
    assert np.abs(image[32, 16::32].max(axis=1) - image[32, 16::32].min(axis=1)).max() <= 4, "gray stays gray"
    return image[32, 16::32].mean(axis=1)


def test_clips_of_hdr_are_of_the_standard_range() -> None:
    blob = BytesBlob(hdr_video("smpte2084", np.array([pq(nits) for nits in GRAYS])))
    assert probe(blob).hdr
    [clip] = cut_exact(blob, [[(0, 1)]], EncodeSettings(crf=1))
    facts = probe(clip.blob)
    assert (facts.hdr, facts.pixel_format, facts.colour_range) == (False, "yuv420p", "limited")
    with av.open(clip.blob.open()) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
    assert bars_of(clip.blob) == pytest.approx([255 * gray(nits) for nits in GRAYS], abs=3)


def test_clips_of_hlg_are_of_the_standard_range() -> None:
    coded = np.linspace(0, 1, 8)
    blob = BytesBlob(hdr_video("arib-std-b67", coded))
    assert probe(blob).hdr
    [clip] = cut_exact(blob, [[(0, 1)]], EncodeSettings(crf=1))
    assert bars_of(clip.blob) == pytest.approx(255 * to_standard(np.stack([coded] * 3, axis=-1), HLG, BT2020)[:, 0], abs=3)


def test_hdr_is_kept_where_it_is_so_set() -> None:
    blob = BytesBlob(hdr_video("smpte2084", np.array([pq(nits) for nits in GRAYS])))
    [clip] = cut_exact(blob, [[(0, 1)]], EncodeSettings(crf=1, tonemap="none"))
    assert probe(clip.blob).hdr
    assert bars_of(clip.blob) == pytest.approx([255 * pq(nits) for nits in GRAYS], abs=3)


def test_equal_frames_give_equal_bytes() -> None:
    data = hdr_video("smpte2084", np.array([pq(nits) for nits in GRAYS]))
    copies = {cut_exact(BytesBlob(data), [[(0, 1)]], EncodeSettings(short_side_px=32))[0].blob.open().read() for _ in range(3)}
    assert len(copies) == 1
