"""A file that ends too early is noticed in every container, and no whole one is taken for such a file."""

from __future__ import annotations

import struct
import subprocess
from functools import cache
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from shardprep.core.blob import BytesBlob, FileBlob
from shardprep.core.frames import AllFrames, FramesWanted
from shardprep.media.container import DecodeError
from shardprep.media.decode import decode_frames
from shardprep.media.timeline import read_timeline
from shardprep.media.whole_file import missing_end
from shardprep.testing import videos

# Options of ffmpeg per file: every container, and what could be taken for damage.
FILES = {
    "b-frames.mkv": "-c:v libx264 -bf 3 -c:a aac",
    "streamed.mkv": "-c:v libx264 -c:a libmp3lame -live 1",
    "vp8.webm": "-c:v libvpx -c:a libopus",
    "streamed.webm": "-c:v libvpx -c:a libvorbis -live 1",
    "flv1.flv": "-c:v flv -c:a libmp3lame",
    "unfinished.flv": "-c:v libx264 -c:a aac -flvflags no_duration_filesize",
    "h264.ts": "-c:v libx264 -c:a aac",
    "mpeg2.ts": "-c:v mpeg2video -q:v 2 -bf 2 -c:a mp2",
    "blu-ray.m2ts": "-c:v libx264 -c:a ac3 -mpegts_m2ts_mode 1",
    "mpeg4.avi": "-c:v mpeg4 -c:a libmp3lame",
    "h264.avi": "-c:v libx264 -bf 2 -c:a pcm_s16le",
    "wmv2.wmv": "-c:v wmv2 -c:a wmav2",
    "moving.gif": "-an",
    "fragmented.mp4": "-c:v libx264 -c:a aac -g 25 -movflags frag_keyframe+empty_moov",
    "dash.mp4": "-c:v libx264 -c:a aac -g 25 -movflags frag_keyframe+empty_moov+default_base_moof+global_sidx",
    "plain.mp4": "-c:v libx264 -bf 3 -c:a aac",
    "faststart.mp4": "-c:v libx264 -c:a aac -movflags +faststart",
    "edited.mov": "-ss 0.7 -c:v libx264 -bf 3 -c:a aac",
    "theora.ogv": "-c:v libtheora -c:a libvorbis",
    "variable.mkv": "-vf select='not(mod(n\\,7))+lt(mod(n\\,11)\\,4)' -fps_mode vfr -c:v libx264",
    "variable.mp4": "-vf select='not(mod(n\\,7))+lt(mod(n\\,11)\\,4)' -fps_mode vfr -c:v libx264",
    "variable.wmv": "-vf select='not(mod(n\\,7))+lt(mod(n\\,11)\\,4)' -fps_mode vfr -c:v wmv2",
    "late.mkv": "-output_ts_offset 5 -c:v libx264 -c:a aac",
    "late.flv": "-output_ts_offset 5 -c:v libx264 -c:a aac",
    "late.avi": "-output_ts_offset 2 -c:v mpeg4",
    "long-sound.mkv": "-af apad=whole_dur=9 -c:v libx264 -c:a aac",
    "long-sound.flv": "-af apad=whole_dur=9 -c:v libx264 -c:a aac",
}


@cache
def made(name: str, folder: Path) -> bytes:
    path = folder / name
    source = "-f lavfi -i testsrc2=s=160x120:r=25:d=4 -f lavfi -i sine=1000:d=4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *source.split(), *FILES[name].split(), str(path)]
    subprocess.run([part.replace("'", "") for part in command], check=True, timeout=120)
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


def decode(data: bytes, on_corrupt: str = "fail") -> int:
    """Return how many frames come out where every one is decoded."""
    seen: list[int] = []
    blob = BytesBlob(data)
    timeline = read_timeline(blob, on_corrupt=on_corrupt)
    decode_frames(
        blob, [FramesWanted(AllFrames(), colour="none")], {0: lambda f: seen.append(f.index)}, timeline=timeline, on_corrupt=on_corrupt
    )
    return len(seen)


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_no_part_of_one(name: str, folder: Path) -> None:
    assert decode(made(name, folder)) > 20


@pytest.mark.parametrize("share", [0.3, 0.55, 0.9])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_ends_too_early_fails(name: str, share: float, folder: Path) -> None:
    data = made(name, folder)
    # A transport stream says nothing of its length: only a torn packet tells.
    size = round(share * len(data))
    size += 7 if not size % 188 or not size % 192 else 0
    with pytest.raises(DecodeError) as error:
        read_timeline(BytesBlob(data[:size]))
    assert error.value.reason == "truncated" or "cut short" in str(error.value)
    if error.value.reason == "truncated":
        assert f"{size}" in str(error.value)
        assert 0 < decode(data[:size], "keep") < decode(data)


@pytest.mark.parametrize("name", ["b-frames.mkv", "flv1.flv"])
def test_an_end_that_was_allocated_and_never_written_fails(name: str, folder: Path) -> None:
    data = made(name, folder)
    half = len(data) // 2
    with pytest.raises(DecodeError, match=r"announces 4\.\d s"):
        decode(data[:half] + bytes(len(data) - half))


@pytest.mark.parametrize("name", ["h264.ts", "plain.mp4", "b-frames.mkv", "mpeg4.avi", "wmv2.wmv", "moving.gif"])
def test_what_others_append_is_no_damage(name: str, folder: Path) -> None:
    assert decode(made(name, folder) + b"TAG and more words") > 20


@pytest.mark.parametrize("appended", [b"\x1f\x43\xb6\x75" + bytes(30), b"\xec" + bytes(30), bytes(64), b"\x1f\x43\xb6", b"\xec"])
def test_an_element_without_a_length_ends_the_walk(appended: bytes, folder: Path) -> None:
    """What lies behind the last element is nobody's: no damage, and nothing to stumble over."""
    assert missing_end(BytesBlob(made("vp8.webm", folder) + appended), "matroska") is None


def test_a_recording_that_begins_inside_a_packet_is_whole(folder: Path) -> None:
    assert read_timeline(BytesBlob(made("h264.ts", folder)[188 * 3 + 77 :])).num_frames > 20


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.ts"])
def test_a_transport_stream_cut_between_packets_fails_at_its_torn_picture(name: str, folder: Path) -> None:
    data = made(name, folder)
    num_packets = len(data) // 188
    for share in (0.3, 0.55, 0.7):
        # Where the picture before is complete, the next one's first packet says so.
        cut = next(k for k in range(round(share * num_packets), num_packets) if not is_beginning(data, k) and not is_beginning(data, k - 1))
        with pytest.raises(DecodeError, match="damaged|Invalid data") as error:
            decode(data[: cut * 188])
        assert error.value.reason == "decode-error"


def is_beginning(data: bytes, packet: int) -> bool:
    """Whether a packet of 188 bytes begins a picture or holds none: video is on PID 256."""
    head = int.from_bytes(data[packet * 188 : packet * 188 + 3])
    return bool(head & 0x4000) or head & 0x1FFF != 256


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_half_an_image_fails(suffix: str) -> None:
    _, image = cv2.imencode(f".{suffix}", np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    data = image.tobytes()
    assert decode(data) == 1
    with pytest.raises(DecodeError):
        decode(data[: len(data) * 55 // 100])


def test_a_thumbnail_inside_a_jpeg_is_not_its_end() -> None:
    _, image = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    data, thumbnail = image.tobytes(), image.tobytes()[:2000] + b"\xff\xd9"
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert decode(data) == 1
    with pytest.raises(DecodeError, match="end marker"):
        decode(data[: len(data) * 80 // 100])


def test_real_files_are_whole(shared: Path) -> None:
    paths = [path for path in sorted((shared / "videos").iterdir()) if path.suffix != ".md"]
    assert len(paths) == 24
    for path in paths:
        assert read_timeline(FileBlob(str(path), 0, path.stat().st_size)).num_frames >= 3


def test_a_recording_whose_elements_have_no_length_is_walked_block_by_block(folder: Path) -> None:
    data = bytearray(made("b-frames.mkv", folder))
    for element in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"):
        place = data.find(element)
        while place >= 0:
            # The leading zeros of a length say how many bytes it has; all ones behind them mean that nobody knew.
            count = 9 - data[place + 4].bit_length()
            data[place + 4 : place + 4 + count] = bytes([0xFF >> (count - 1)]) + b"\xff" * (count - 1)
            place = data.find(element, place + 5)
    assert missing_end(BytesBlob(bytes(data)), "matroska") is None
    assert missing_end(BytesBlob(bytes(data[: len(data) * 55 // 100])), "matroska") is not None


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "avi", "flv"])
def test_a_damaged_first_key_frame_is_no_recording_that_begins_between_key_frames(container: str) -> None:
    whole = videos.encode(videos.draw([videos.Shot(seconds=2, px_per_second=90, seed=1)]), key_every=24, container=container)
    assert decode(whole) == 48
    with pytest.raises(DecodeError, match="before the first frame"):
        decode(videos.damage(whole, 0))
