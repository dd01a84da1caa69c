"""One decode serves every wish, exactly; damage is never silent."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from shardprep.core.blob import BytesBlob, FileBlob
from shardprep.core.frames import (
    AllFrames,
    CropResize,
    Fractions,
    Frame,
    FramesWanted,
    LongSide,
    PerSecond,
    ShortSide,
    Stride,
    Times,
    select_frames,
)
from shardprep.media.decode import DecodeError, decode_frames, estimate_bytes
from shardprep.media.timeline import read_timeline
from shardprep.testing import videos

AT_WISHES = (Fractions((0.0, 0.1, 0.5, 0.95, 1.0)), PerSecond(3), Times((0.0, 0.5, 99.0)), Stride(5, 3, 2))


@pytest.mark.parametrize("at", AT_WISHES)
def test_selected_frames_are_those_of_a_whole_decode(at: object) -> None:
    blob = BytesBlob(videos.numbered(100, key_every=10))
    seconds = [k / 24 for k in range(100)]
    frames = decode_frames(blob, [FramesWanted(at)]).frames[0]
    assert frames.indices == tuple(select_frames(at, seconds))
    assert [videos.number_in(image) for image in frames.images] == list(frames.indices)
    assert frames.seconds == pytest.approx([seconds[i] for i in frames.indices], abs=1e-9)
    assert (frames.num_frames, frames.height, frames.width) == (100, 48, 64)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "flv", "avi"])
def test_every_container_gives_the_same_frames(container: str) -> None:
    blob = BytesBlob(videos.numbered(60, container=container, key_every=12))
    result = decode_frames(blob, [FramesWanted(Fractions((0.0, 0.25, 0.5, 0.99)))])
    assert [videos.number_in(image) for image in result.frames[0].images] == [0, 15, 30, 59]
    assert result.num_decodes == 1


@pytest.mark.parametrize("open_gop", [False, True])
def test_seeking_gives_the_same_frames_as_going_through(open_gop: bool) -> None:
    blob = BytesBlob(videos.numbered(110, key_every=10, open_gop=open_gop))
    timeline = read_timeline(blob)
    assert len(timeline.keyframes) == 11
    wish = FramesWanted(Fractions((0.15, 0.5, 0.98)))
    seen: list[int] = []
    sought = decode_frames(blob, [wish])
    gone_through = decode_frames(blob, [FramesWanted(AllFrames()), wish], {0: lambda frame: seen.append(frame.index)})
    assert np.array_equal(sought.frames[0].images, gone_through.frames[1].images)
    assert [videos.number_in(image) for image in sought.frames[0].images] == [16, 55, 107]
    assert seen == list(range(110))


def test_seeking_skips_what_nobody_asked_for() -> None:
    # Damage is met only where it is decoded: a frame behind it, in another group of pictures, is fetched without it.
    moving = videos.draw([videos.Shot(seconds=4, px_per_second=100, seed=1)], height=240, width=320)
    whole = videos.encode(moving, key_every=24)
    blob = BytesBlob(videos.damage(whole, 50, 51, 52, 53))
    with pytest.raises(DecodeError):
        decode_frames(blob, [FramesWanted(Fractions((0.0, 0.6)))])
    assert decode_frames(blob, [FramesWanted(Fractions((0.0, 0.9)))]).frames[0].indices == (0, 86)


def test_two_wishes_and_a_watcher_share_one_decode() -> None:
    blob = BytesBlob(videos.three_shots())
    some, few = FramesWanted(Fractions((0.5,)), ShortSide(60)), FramesWanted(PerSecond(1), colour="gray")
    wishes = [FramesWanted(AllFrames(), LongSide(64), "bgr"), some, few]
    shapes: set[tuple[int, ...]] = set()
    times: list[float] = []

    def see(frame: Frame) -> None:
        shapes.add(frame.image.shape)
        times.append(frame.seconds)

    result = decode_frames(blob, wishes, {0: see})
    assert result.num_decodes == 1
    assert result.frames[0] is None
    assert shapes == {(48, 64, 3)}
    assert times == [k / 24 for k in range(96)]
    assert result.frames[1].images.shape == (1, 60, 80, 3)
    assert result.frames[2].images.shape == (4, 120, 160)


def test_pixels_equal_opencvs(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(videos.three_shots())
    blob = BytesBlob(path.read_bytes())
    ours: list[np.ndarray] = []
    decode_frames(blob, [FramesWanted(AllFrames(), colour="bgr")], {0: lambda frame: ours.append(frame.image.copy())})
    capture = cv2.VideoCapture(str(path))
    theirs = [image for ok, image in iter(capture.read, (False, None)) if ok]
    assert len(ours) == len(theirs) == 96
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_gray_is_full_range() -> None:
    bars = np.zeros((48, 64, 3), np.uint8)
    bars[:, 32:] = 255
    blob = BytesBlob(videos.encode([bars] * 3, options={"qp": "1"}))
    gray = decode_frames(blob, [FramesWanted(Times((0.0,)), colour="gray")]).frames[0].images[0]
    assert gray[:, :24].max() <= 1
    assert gray[:, 40:].min() >= 254


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_frames_stand_upright(degrees: int, corner: tuple[int, int]) -> None:
    image = decode_frames(BytesBlob(videos.rotated(degrees)), [FramesWanted(Times((0.0,)))]).frames[0].images[0]
    assert image.shape == ((120, 160, 3) if degrees % 180 == 0 else (160, 120, 3))
    row, column = (10 if place == 0 else -10 for place in corner)
    red, green, _ = (int(value) for value in image[row, column])
    assert red > 150 > 60 > green


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_an_image_is_one_frame_at_zero(suffix: str) -> None:
    _, data = cv2.imencode(f".{suffix}", np.full((33, 47, 3), (10, 200, 30), np.uint8))
    frames = decode_frames(BytesBlob(data.tobytes()), [FramesWanted(Fractions((0.1, 0.9)))]).frames[0]
    assert frames.indices == (0, 0)
    assert frames.seconds == (0.0, 0.0)
    assert frames.images.shape == (2, 33, 47, 3)
    assert np.abs(frames.images[0, 16, 20].astype(int) - (30, 200, 10)).max() <= 2


def test_a_stride_that_does_not_fit_gives_no_frames() -> None:
    frames = decode_frames(BytesBlob(videos.numbered(10)), [FramesWanted(Stride(17), CropResize(16, 32))]).frames[0]
    assert frames.indices == ()
    assert frames.images.shape == (0, 16, 32, 3)


@pytest.mark.parametrize("threads", [1, 4])
def test_damage_fails_with_the_decoders_words_and_the_place(threads: int) -> None:
    seen: list[int] = []
    with pytest.raises(DecodeError, match=r"h264: .*after frame \d+ at \d") as error:
        decode_frames(
            BytesBlob(videos.damaged()), [FramesWanted(AllFrames(), colour="none")], {0: lambda f: seen.append(f.index)}, threads=threads
        )
    assert error.value.reason == "decode-error"
    assert 10 < len(seen) < 96
    assert seen == list(range(len(seen)))


def test_damage_behind_the_last_wanted_frame_does_not_matter() -> None:
    frames = decode_frames(BytesBlob(videos.damaged()), [FramesWanted(Times((0.0, 0.2)))]).frames[0]
    assert frames.indices == (0, 4)


def test_damage_can_end_the_video_at_the_last_good_frame() -> None:
    blob = BytesBlob(videos.damaged())
    seen: list[int] = []
    wishes = [FramesWanted(AllFrames(), colour="none"), FramesWanted(Fractions((0.0, 1.0)))]
    result = decode_frames(blob, wishes, {0: lambda frame: seen.append(frame.index)}, on_corrupt="keep", threads=4)
    assert result.timeline.num_frames == len(seen) < 96
    assert result.frames[1].indices == (0, len(seen) - 1)
    alone = decode_frames(blob, [wishes[1]], on_corrupt="keep")
    assert np.array_equal(alone.frames[0].images, result.frames[1].images)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("place", [0, 1, 5, 12, 20, 23])
def test_a_single_damaged_packet_is_noticed(codec: str, place: int) -> None:
    moving = videos.draw([videos.Shot(seconds=1, px_per_second=100, seed=1)], height=240, width=320)
    data = videos.damage(videos.encode(moving, codec=codec), place)
    with pytest.raises(DecodeError):
        decode_frames(BytesBlob(data), [FramesWanted(AllFrames(), colour="none")], {0: lambda frame: None})


def test_frames_that_the_packets_promised_in_vain_are_counted_by_decoding() -> None:
    # Frames before the first key frame of an open group of pictures refer to one that is not there.
    whole = videos.numbered(60, container="mpegts", key_every=20, open_gop=True)
    blob = BytesBlob(whole[188 * (len(whole) // 188 // 3) :])
    promised = read_timeline(blob).num_frames
    seen: list[int] = []
    wishes = [FramesWanted(AllFrames(), colour="rgb"), FramesWanted(Fractions((0.0, 0.5, 1.0)))]
    result = decode_frames(blob, wishes, {0: lambda frame: seen.append(videos.number_in(frame.image))})
    assert len(seen) == result.timeline.num_frames <= promised
    assert [videos.number_in(image) for image in result.frames[1].images] == [seen[0], seen[len(seen) // 2], seen[-1]]
    alone = decode_frames(blob, [wishes[1]])
    assert np.array_equal(alone.frames[0].images, result.frames[1].images)


def test_a_wish_of_all_frames_needs_its_watcher() -> None:
    with pytest.raises(AssertionError, match="one watcher"):
        decode_frames(BytesBlob(videos.still()), [FramesWanted(AllFrames())])


@pytest.mark.parametrize("name", ["huge-claim.avi", "truncated.mp4", "text.mp4", "empty.mp4", "audio-only.mp4"])
def test_hostile_files_raise_decode_errors(name: str) -> None:
    with pytest.raises(DecodeError):
        decode_frames(BytesBlob(videos.HOSTILE[name]()), [FramesWanted(Fractions((0.5,)))])


def test_estimate_grows_with_what_is_wanted() -> None:
    timeline = read_timeline(BytesBlob(videos.three_shots()))
    none = estimate_bytes(timeline, [])
    all_frames = estimate_bytes(timeline, [FramesWanted(Stride(96))])
    assert all_frames - none >= 96 * 160 * 120 * 3
    assert estimate_bytes(timeline, [FramesWanted(AllFrames())]) - none < 4 * 160 * 120 * 3


def test_decord_gives_the_same_frames_on_8_bit_files() -> None:
    pytest.importorskip("decord")
    blob = BytesBlob(videos.three_shots())
    wishes = [FramesWanted(Fractions((0.1, 0.5, 0.9))), FramesWanted(PerSecond(2), ShortSide(60), "bgr")]
    pyav, decord = (decode_frames(blob, wishes, decoder=decoder).frames for decoder in ("pyav", "decord"))
    for ours, theirs in zip(pyav, decord, strict=True):
        assert np.array_equal(ours.images, theirs.images)
        assert (ours.indices, ours.seconds, ours.num_frames) == (theirs.indices, theirs.seconds, theirs.num_frames)


def test_gray_is_the_luma_with_either_decoder() -> None:
    pytest.importorskip("decord")
    colours = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    blob = BytesBlob(videos.encode([colours] * 4))
    wishes = [FramesWanted(Times((0.0,)), colour="gray"), FramesWanted(Times((0.0,)), ShortSide(60), "rgb")]
    pyav, decord = (decode_frames(blob, wishes, decoder=decoder) for decoder in ("pyav", "decord"))
    assert np.array_equal(pyav.frames[0].images, decord.frames[0].images)
    assert np.array_equal(pyav.frames[1].images, decord.frames[1].images)
    assert (pyav.num_decodes, decord.num_decodes) == (1, 2)


def test_decord_turns_frames_upright() -> None:
    pytest.importorskip("decord")
    blob = BytesBlob(videos.rotated(90))
    wish = FramesWanted(Times((0.0,)))
    pyav, decord = (decode_frames(blob, [wish], decoder=decoder).frames[0].images for decoder in ("pyav", "decord"))
    assert np.array_equal(pyav, decord)


def test_decord_that_cannot_read_says_what_can(shared: Path) -> None:
    pytest.importorskip("decord")
    path = shared / "videos" / "av1-640x360.mkv"
    with pytest.raises(DecodeError, match="pyav"):
        decode_frames(FileBlob(str(path), 0, path.stat().st_size), [FramesWanted(Fractions((0.5,)))], decoder="decord")


def test_frame_i_of_the_frame_counter_is_frame_i(shared: Path) -> None:
    path = shared / "videos" / "frame-counter.mp4"
    blob = FileBlob(str(path), 0, path.stat().st_size)
    every: list[np.ndarray] = []
    decode_frames(blob, [FramesWanted(AllFrames(), ShortSide(100))], {0: lambda frame: every.append(frame.image.copy())})
    some = decode_frames(blob, [FramesWanted(Fractions((0.0, 0.33, 0.66, 0.99)), ShortSide(100))]).frames[0]
    assert len(every) == 30
    assert some.indices == (0, 9, 19, 29)
    assert all(np.array_equal(every[i], image) for i, image in zip(some.indices, some.images, strict=True))


def test_the_corrupted_file_fails_after_28_frames(shared: Path) -> None:
    path = shared / "videos" / "corrupted-after-start.mp4"
    blob = FileBlob(str(path), 0, path.stat().st_size)
    with pytest.raises(DecodeError, match=r"Invalid data found when processing input .*after frame 27 at 2\.700 s"):
        decode_frames(blob, [FramesWanted(AllFrames(), colour="none")], {0: lambda frame: None})
    kept = decode_frames(blob, [FramesWanted(Fractions((0.0, 1.0)))], on_corrupt="keep")
    assert kept.timeline.num_frames == 28
    assert kept.frames[0].indices == (0, 27)
