"""A clip holds exactly the frames of its intervals, in a file that every decoder takes."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shardprep.core.blob import Blob, BytesBlob, FileBlob, read_blob
from shardprep.core.frames import AllFrames, FramesWanted, Times
from shardprep.media.clips import Clip, Run, place_frames
from shardprep.media.container import DecodeError
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.orientation import UPRIGHT
from shardprep.media.probe import probe
from shardprep.media.shape import FrameShaper
from shardprep.media.timeline import read_timeline
from shardprep.testing import videos

QUICK = EncodeSettings(preset="ultrafast")


def numbers_in(blob: Blob) -> list[int]:
    seen: list[int] = []
    decode_frames(blob, [FramesWanted(AllFrames())], {0: lambda frame: seen.append(videos.number_in(frame.image))})
    return seen


def decoded_times(blob: Blob, fps: float = 24) -> list[float]:
    """Return when each frame is shown, as PyAV alone decodes it, and when the last one ends."""
    with av.open(blob.open()) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    return [*times, times[-1] + 1 / fps]


def cut_one(data: bytes | Blob, *intervals: tuple[float, float], settings: EncodeSettings = QUICK) -> Clip:
    result = cut_exact(BytesBlob(data) if isinstance(data, bytes) else data, [intervals], settings)[0]
    assert isinstance(result, Clip), result
    return result


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "flv"])
@pytest.mark.parametrize("key_every", [7, 250])
def test_clips_hold_exactly_the_frames_of_their_intervals(container: str, key_every: int) -> None:
    blob = BytesBlob(videos.numbered(96, container=container, key_every=key_every))
    times = decoded_times(blob)
    bounds = [(0, 13), (13, 14), (40, 77), (90, 96)]
    clips = cut_exact(blob, [[(times[a], times[b])] for a, b in bounds], QUICK)
    for (a, b), clip in zip(bounds, clips, strict=True):
        assert isinstance(clip, Clip)
        assert numbers_in(clip.blob) == list(range(a, b))
        assert clip.intervals == ((pytest.approx(times[a], abs=1e-9), pytest.approx(times[b], abs=1e-3)),)


def test_an_avi_is_cut_by_counting() -> None:
    clip = cut_one(videos.numbered(60, container="avi"), (10 / 24, 20 / 24))
    assert len(numbers_in(clip.blob)) == 10


def test_a_bound_between_frames_belongs_to_the_frame_shown_next() -> None:
    assert numbers_in(cut_one(videos.numbered(48), (9.5 / 24, 12.5 / 24)).blob) == [10, 11, 12]


def test_a_clip_of_several_intervals_is_one_video() -> None:
    clip = cut_one(videos.numbered(96), (0, 5 / 24), (50 / 24, 53 / 24))
    assert numbers_in(clip.blob) == [0, 1, 2, 3, 4, 50, 51, 52]
    facts = probe(clip.blob)
    assert not facts.is_vfr
    assert facts.seconds == pytest.approx(8 / 24)


def test_overlapping_clips_share_one_sweep() -> None:
    clips = cut_exact(BytesBlob(videos.numbered(48)), [[(0, 1)], [(0.5, 1.5)], [(0.5, 0.75)]], QUICK)
    assert [len(numbers_in(clip.blob)) for clip in clips] == [24, 24, 6]


def test_a_variable_rate_is_kept() -> None:
    clip = cut_one(videos.variable_rate(), (0.5, 2.0))
    seconds = decode_frames(clip.blob, [FramesWanted(Times((0.0,)))]).timeline.seconds
    expected = [time - 0.5 for time in videos.VARIABLE_TIMES if 0.5 <= time < 2.0]
    assert seconds == pytest.approx(expected, abs=1e-4)
    assert probe(clip.blob).seconds == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("fps", [24.0, 30.0, 30000 / 1001, 60.0])
def test_the_own_rate_of_a_matroska_takes_every_frame_once(fps: float) -> None:
    data = videos.numbered(90, container="matroska", fps=fps)
    clip = cut_one(data, (0, 100), settings=EncodeSettings(preset="ultrafast", fps=round(fps, 2)))
    assert numbers_in(clip.blob) == list(range(90))
    assert probe(clip.blob).fps == pytest.approx(fps, rel=1e-9)


def test_a_third_of_a_second_is_a_bound_also_where_time_is_in_milliseconds() -> None:
    data = videos.numbered(90, container="matroska", fps=30)
    assert numbers_in(cut_one(data, (1 / 3, 2 / 3)).blob) == list(range(10, 20))
    assert numbers_in(cut_one(data, (2 / 3, 4 / 3)).blob) == list(range(20, 40))


def test_ntsc_rates_are_exact() -> None:
    clip = cut_one(videos.numbered(96), (0, 4), settings=EncodeSettings(preset="ultrafast", fps=29.97))
    with av.open(clip.blob.open()) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert times == pytest.approx([k * 1001 / 30000 for k in range(120)], abs=1e-9)


def test_a_rate_can_be_set() -> None:
    clip = cut_one(videos.numbered(96), (1, 3), settings=EncodeSettings(preset="ultrafast", fps=8))
    assert numbers_in(clip.blob) == list(range(24, 72, 3))
    assert probe(clip.blob).fps == 8
    faster = cut_one(videos.numbered(24), (0, 1), settings=EncodeSettings(preset="ultrafast", fps=48))
    assert numbers_in(faster.blob) == [k // 2 for k in range(48)]


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_rotation_is_baked_in(degrees: int, corner: tuple[int, int]) -> None:
    clip = cut_one(videos.rotated(degrees), (0, 1))
    facts = probe(clip.blob)
    assert facts.rotation == 0
    assert (facts.width, facts.height) == ((160, 120) if degrees % 180 == 0 else (120, 160))
    image = decode_frames(clip.blob, [FramesWanted(Times((0.0,)))]).frames[0].images[0]
    row, column = (10 if place == 0 else -10 for place in corner)
    assert image[row, column, 0] > 150 > 60 > image[row, column, 1]


def test_odd_sides_lose_one_pixel_and_scaled_ones_are_even() -> None:
    data = videos.odd_size()
    facts = probe(cut_one(data, (0, 1)).blob)
    assert (facts.width, facts.height) == (100, 74)
    facts = probe(cut_one(data, (0, 1), settings=EncodeSettings(short_side_px=50)).blob)
    assert (facts.width, facts.height) == (68, 50)
    facts = probe(cut_one(data, (0, 1), settings=EncodeSettings(short_side_px=500)).blob)
    assert (facts.width, facts.height) == (100, 74)


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(100, 178, (60, 106)), (90, 161, (60, 108)), (161, 90, (108, 60)), (64, 48, (64, 48))]
)
def test_a_scaled_picture_has_the_even_size_nearest_to_its_shape(width: int, height: int, expected: tuple[int, int]) -> None:
    data = videos.encode(videos.draw([videos.Shot(seconds=0.1)], height=height, width=width), codec="mpeg4")
    facts = probe(cut_one(data, (0, 1), settings=EncodeSettings(short_side_px=60)).blob)
    assert (facts.width, facts.height) == expected


def test_cropping_moves_nothing() -> None:
    data = videos.odd_size()
    wish = FramesWanted(Times((0.0,)))
    source = decode_frames(BytesBlob(data), [wish]).frames[0].images[0]
    clip = decode_frames(cut_one(data, (0, 1), settings=EncodeSettings(crf=1)).blob, [wish]).frames[0].images[0]
    assert np.abs(source[:74, :100].astype(int) - clip).mean() < 3


@pytest.mark.parametrize(
    ("pixel_format", "codec"),
    [
        ("yuvj420p", "libx264"),
        ("yuv420p10le", "libx264"),
        ("yuv444p", "libx264"),
        ("yuv422p", "libx264"),
        ("bgr0", "ffv1"),
        ("yuvj420p", "mjpeg"),
    ],
)
def test_levels_are_kept_from_any_pixel_format(pixel_format: str, codec: str) -> None:
    bars = np.zeros((96, 128, 3), np.uint8)
    for k in range(4):
        bars[:, 32 * k : 32 * k + 32] = (0, 85, 170, 255)[k]
    data = videos.encode(
        [bars] * 5, codec=codec, pixel_format=pixel_format, container="matroska", options={"crf": "1"} if codec == "libx264" else {}
    )
    clip = cut_one(data, (0, 1), settings=EncodeSettings(crf=1))
    facts = probe(clip.blob)
    assert (facts.pixel_format, facts.colour_range, facts.codec) == ("yuv420p", "limited", "h264")
    image = decode_frames(clip.blob, [FramesWanted(Times((0.0,)))]).frames[0].images[0]
    assert [int(image[48, 32 * k + 16].mean()) for k in range(4)] == pytest.approx([0, 85, 170, 255], abs=4)


def test_colour_tags_are_kept() -> None:
    frames = videos.draw([videos.Shot(seconds=0.3)])
    tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    clip = cut_one(videos.encode(frames, options={"x264-params": tags}), (0, 1), settings=EncodeSettings(tonemap="none"))
    with av.open(clip.blob.open()) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (9, 16, 9)
    assert probe(clip.blob).hdr


@pytest.mark.parametrize(("primaries", "matrix"), [(9, 9), (1, 1), (2, 1)], ids=["bt2020", "bt709", "unspecified"])
def test_rgb_takes_the_matrix_of_its_primaries(primaries: int, matrix: int) -> None:
    """And is tagged so: a player that took the other matrix would show other colours."""
    frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), (220, 40, 60), np.uint8), format="rgb24")
    frame.color_primaries = primaries
    shaper = FrameShaper(frame, UPRIGHT, Fraction(1), None, "none")
    shaped = shaper.shape(frame)
    assert shaper.colorspace == matrix
    kr, kb = {9: (0.2627, 0.0593), 1: (0.2126, 0.0722)}[matrix]
    luma = 16 + 219 / 255 * (kr * 220 + (1 - kr - kb) * 40 + kb * 60)
    assert shaped.to_ndarray()[10, 10] == pytest.approx(luma, abs=1)


def test_pixels_that_are_not_square_stay_so() -> None:
    wide = videos.encode(videos.draw([videos.Shot(seconds=0.2)]), options={"x264-params": "sar=2/1"})
    assert probe(cut_one(wide, (0, 1)).blob).aspect == pytest.approx(8 / 3)


@pytest.mark.parametrize(("height", "width"), [(120, 160), (240, 320), (640, 362), (240, 426)])
def test_equal_inputs_give_equal_bytes(height: int, width: int) -> None:
    data = videos.three_shots(height=height, width=width)
    settings = EncodeSettings(keep_audio=True)
    noise = np.random.default_rng(0)
    copies = set()
    for size in (1, 1 << 16, 1 << 20):
        # What lies in freed memory must not matter.
        held = [noise.bytes(size) for _ in range(8)]
        del held
        copies.add(read_blob(cut_one(data, (0.5, 2), settings=settings).blob))
    assert len(copies) == 1
    first = copies.pop()
    assert b"Lavf" not in first
    assert first.index(b"moov") < first.index(b"mdat")


def test_a_clip_does_not_depend_on_the_others() -> None:
    blob = BytesBlob(videos.three_shots())
    together = cut_exact(blob, [[(0, 1.5)], [(1.5, 2.5)], [(2.5, 4)]], QUICK)[1]
    assert read_blob(together.blob) == read_blob(cut_one(blob, (1.5, 2.5)).blob)


def test_an_interval_without_frames_is_an_error() -> None:
    result = cut_exact(BytesBlob(videos.still()), [[(5, 6)], [(0, 1)]], QUICK)
    assert isinstance(result[0], DecodeError)
    assert result[0].reason == "no-frames-inside"
    assert isinstance(result[1], Clip)


def test_damage_fails_the_clips_that_it_touches() -> None:
    moving = videos.draw([videos.Shot(seconds=4, px_per_second=100, seed=1)], height=240, width=320)
    blob = BytesBlob(videos.damage(videos.encode(moving, key_every=24), 50, 51, 52, 53))
    results = cut_exact(blob, [[(0, 1)], [(1, 2)], [(2, 3)], [(3, 4)], [(2.1, 3.5)], [(1.5, 1.9)]], QUICK)
    assert [type(result).__name__ for result in results] == ["Clip", "Clip", "DecodeError", "Clip", "DecodeError", "Clip"]
    assert "h264" in str(results[2])


def test_damage_at_the_very_start_fails_the_clips_that_begin_there() -> None:
    """Also one of a single frame, and no clip behind the next key frame."""
    moving = videos.draw([videos.Shot(seconds=2, px_per_second=100, seed=1)], height=240, width=320)
    data = bytearray(videos.encode(moving, key_every=24))
    with av.open(BytesBlob(bytes(data)).open()) as container:
        packet = next(container.demux(video=0))
    half = packet.pos + packet.size // 2
    data[half : packet.pos + packet.size] = np.random.default_rng(0).bytes(packet.pos + packet.size - half)
    blob = BytesBlob(bytes(data))
    results = cut_exact(blob, [[(0, 1 / 24)], [(1, 2)]], QUICK)
    assert [type(result).__name__ for result in results] == ["DecodeError", "Clip"]
    (alone,) = cut_exact(blob, [[(0, 1 / 24)]], QUICK)
    assert "before the first frame" in str(alone)


def test_a_pixel_is_too_small() -> None:
    result = cut_exact(BytesBlob(videos.one_pixel()), [[(0, 1)]], QUICK)[0]
    assert isinstance(result, DecodeError)
    assert result.reason == "too-small"


@pytest.mark.parametrize("make", [videos.one_frame, videos.zero_duration])
def test_frames_without_a_duration_are_cut(make: object) -> None:
    blob = BytesBlob(make())
    assert probe(cut_one(blob, (0, 10)).blob).num_frames == probe(blob).num_frames


def test_a_cut_clip_is_read_by_the_ffmpeg_command(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "clip.mp4"
    path.write_bytes(read_blob(cut_one(videos.three_shots(), (0.5, 3), settings=EncodeSettings(keep_audio=True)).blob))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert shutil.which("sh")


@pytest.mark.parametrize("name", ["full-range-1280x720.mp4", "h264-10bit.mp4", "h265.mp4", "rotation-90.mov", "av1-640x360.mkv"])
def test_real_files_keep_their_look(name: str, shared: Path) -> None:
    path = shared / "videos" / name
    blob = FileBlob(str(path), 0, path.stat().st_size)
    clip = cut_one(blob, (0, 0.5), settings=EncodeSettings(crf=10))
    facts = probe(clip.blob)
    assert (facts.pixel_format, facts.colour_range, facts.rotation) == ("yuv420p", "limited", 0)
    wish = FramesWanted(Times((0.0,)))
    source, cut = (decode_frames(b, [wish]).frames[0].images[0].astype(int) for b in (blob, clip.blob))
    assert np.abs(source - cut).mean() < 4
    assert abs(source.mean() - cut.mean()) < 1


@pytest.mark.parametrize("container", ["avi", "mp4"])
def test_a_rate_shows_the_frame_of_its_time_also_where_a_tick_is_a_frame(container: str) -> None:
    frames = videos.draw([videos.Shot(seconds=1, px_per_second=20)], height=64, width=96, fps=25)
    timeline = read_timeline(BytesBlob(videos.encode(frames, fps=25, container=container)))
    placed, _ = place_frames([Run(0, timeline.num_frames)], timeline, 10)
    assert [frame.index for frame in placed] == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
