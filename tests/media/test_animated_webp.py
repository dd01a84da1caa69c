"""Animated WebP: frames and times are those of the file, and a damaged one fails its sample."""

from __future__ import annotations

import errno
import io
import random
import struct
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import AllFrames, FramesWanted, Times
from shardprep.driver.run import run
from shardprep.media import animated_webp
from shardprep.media.animated_webp import BadWebp, copy_frames
from shardprep.media.copy_cut import cut_copy
from shardprep.media.cut import cut_exact
from shardprep.media.decode import DecodeError, decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.probe import probe
from shardprep.media.timeline import read_timeline
from shardprep.sources.entry import SourceEntry, SourceMember, open_entry
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.probe_media import ProbeMedia
from shardprep.stages.score_flow import ScoreFlow
from shardprep.testing import videos
from tests.fates import fates, recipe_of

MS = [100, 40, 200, 333]


def pictures(count: int = 4, *, mode: str = "RGB", height: int = 33, width: int = 47) -> list[np.ndarray]:
    """Noise in which a part changes from picture to picture, so that the encoder stores parts at an offset."""
    rng = np.random.default_rng(7)
    shown = rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    made = []
    for place in range(count):
        shown = shown.copy()
        shown[4 + place : 14 + place, 6:20] = rng.integers(0, 256, (10, 14, len(mode)), dtype=np.uint8)
        made.append(shown)
    return made


def webp(images: Sequence[np.ndarray], ms: Sequence[int] = MS, **options: object) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.fromarray(image) for image in images]
    first.save(file, "webp", save_all=True, append_images=others, duration=list(ms), **{"lossless": True, "exact": True, **options})
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def anmf(image: np.ndarray, x: int, y: int, ms: int, *, dispose: bool = False, blend: bool = True) -> bytes:
    """Return a frame at an offset (RFC 9649, 2.7.1.1)."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "webp", lossless=True, exact=True)
    stored = file.getvalue()[12:]
    bits = stored if stored[:4] == b"VP8L" else stored[18:]
    sizes = b"".join(value.to_bytes(3, "little") for value in (x // 2, y // 2, image.shape[1] - 1, image.shape[0] - 1, ms))
    return chunk(b"ANMF", sizes + bytes([dispose | (not blend) << 1]) + bits)


def assembled(width: int, height: int, frames: Sequence[bytes], loops: int = 3) -> bytes:
    head = bytes([0x12, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + chunk(b"VP8X", head) + chunk(b"ANIM", b"\xff\x00\xff\xff" + struct.pack("<H", loops)) + b"".join(frames)
    return chunk(b"RIFF", body)


def decoded(data: bytes) -> tuple[list[np.ndarray], list[float]]:
    images: list[np.ndarray] = []
    seconds: list[float] = []

    def see(frame: object) -> None:
        images.append(frame.image.copy())
        seconds.append(frame.seconds)

    decode_frames(BytesBlob(data), [FramesWanted(AllFrames())], {0: see})
    return images, seconds


@pytest.mark.parametrize(("height", "width"), [(33, 47), (64, 48), (1, 1), (1, 5)])
def test_frames_and_times_are_those_of_the_file(height: int, width: int) -> None:
    shown = pictures(height=height, width=width) if height > 1 else [np.full((height, width, 3), 60 * k, np.uint8) for k in range(4)]
    data = webp(shown)
    images, seconds = decoded(data)
    assert seconds == pytest.approx([0, 0.1, 0.14, 0.34], abs=1e-9)
    assert all(np.array_equal(image, want) for image, want in zip(images, shown, strict=True))
    timeline = read_timeline(BytesBlob(data))
    assert timeline.end_seconds == pytest.approx(0.673, abs=1e-9)
    assert (timeline.num_frames, timeline.is_timed, timeline.can_seek) == (4, True, True)
    picked = decode_frames(BytesBlob(data), [FramesWanted(Times((0.35, 0.12)))]).frames[0]
    assert picked.indices == (3, 1)
    assert np.array_equal(picked.images, np.stack([shown[3], shown[1]]))


@pytest.mark.parametrize("quality", [20, 90])
def test_lossy_frames_are_pillows(quality: int) -> None:
    data = webp(pictures(), lossless=False, quality=quality)
    images, _ = decoded(data)
    with Image.open(io.BytesIO(data)) as image:
        for place, got in enumerate(images):
            image.seek(place)
            assert np.array_equal(got, np.asarray(image.convert("RGB")))
    assert len(images) == 4


def test_transparent_frames_lie_over_black() -> None:
    shown = pictures(mode="RGBA")
    images, _ = decoded(webp(shown))
    for image, want in zip(images, shown, strict=True):
        over_black = want[..., :3].astype(float) * want[..., 3:] / 255
        assert np.abs(image - over_black).max() <= 1


def test_parts_are_put_where_they_belong_blended_and_disposed_of() -> None:
    def flat(height: int, width: int, *rgba: int) -> np.ndarray:
        return np.full((height, width, 4), rgba, np.uint8)

    data = assembled(
        20,
        12,
        [
            anmf(flat(12, 20, 10, 200, 30, 255), 0, 0, 50),
            anmf(flat(4, 6, 250, 0, 0, 0), 2, 4, 60),  # blended: nothing of it is seen
            anmf(flat(4, 6, 250, 0, 0, 255), 4, 2, 70, dispose=True),
            anmf(flat(2, 2, 0, 0, 250, 255), 18, 10, 80),
            anmf(flat(6, 8, 9, 9, 9, 0), 12, 0, 90, blend=False),  # not blended: it makes a hole
        ],
    )
    images, seconds = decoded(data)
    assert seconds == pytest.approx([0, 0.05, 0.11, 0.18, 0.26])
    ground = np.full((12, 20, 3), (10, 200, 30), np.uint8)
    red, blue = ground.copy(), ground.copy()
    red[2:6, 4:10] = (250, 0, 0)
    blue[2:6, 4:10] = 0
    blue[10:, 18:] = (0, 0, 250)
    hole = blue.copy()
    hole[:6, 12:] = 0
    for image, want in zip(images, [ground, ground, red, blue, hole], strict=True):
        assert np.array_equal(image, want)


def test_no_time_means_a_tenth_of_a_second_as_in_browsers() -> None:
    frame = np.full((4, 4, 4), 255, np.uint8)
    data = assembled(4, 4, [anmf(frame * place, 0, 0, ms) for place, ms in enumerate([0, 10, 11, 1, 60_000])])
    assert decoded(data)[1] == pytest.approx([0, 0.1, 0.2, 0.211, 0.311])
    assert read_timeline(BytesBlob(data)).end_seconds == pytest.approx(60.311)


@pytest.mark.parametrize(
    ("mode", "lossless", "pixel_format", "colour_range"),
    [("RGB", True, "argb", "full"), ("RGB", False, "yuv420p", "limited"), ("RGBA", False, "yuva420p", "limited")],
)
def test_facts_are_those_of_the_webp(mode: str, lossless: bool, pixel_format: str, colour_range: str) -> None:
    data = webp(pictures(mode=mode), lossless=lossless)
    facts = probe(BytesBlob(data))
    assert (facts.container, facts.codec, facts.profile) == ("webp", "webp", "unknown")
    assert (facts.pixel_format, facts.colour_range) == (pixel_format, colour_range)
    assert (facts.width, facts.height, facts.num_frames, facts.bytes) == (47, 33, 4, len(data))
    assert (facts.seconds, facts.is_vfr) == (pytest.approx(0.673), True)
    assert facts.fps == pytest.approx(3 / 0.34)
    still = io.BytesIO()
    Image.fromarray(pictures(1, mode=mode)[0]).save(still, "webp", lossless=lossless)
    alone = probe(BytesBlob(still.getvalue()))
    assert (alone.container, alone.codec, alone.num_frames) == ("webp_pipe", "webp", 1)
    assert (alone.pixel_format, alone.colour_range) == (pixel_format, colour_range)


def test_it_is_cut_into_clips_exactly_and_not_copied() -> None:
    data = BytesBlob(webp(pictures(8, height=64, width=48), [100] * 8))
    (clip,) = cut_exact(data, [[(0.2, 0.6)]], EncodeSettings())
    facts = probe(clip.blob)
    assert (facts.num_frames, facts.codec, facts.seconds) == (4, "h264", pytest.approx(0.4))
    with pytest.raises(DecodeError, match="mode: exact") as error:
        cut_copy(data, [[(0, 1)]])
    assert error.value.reason == "no-container"


def test_a_file_that_is_cut_short_fails_or_ends_at_its_last_whole_frame() -> None:
    shown = pictures()
    data = webp(shown)
    kept = set()
    for size in range(30, len(data), 97):
        cut = BytesBlob(data[:size])
        with pytest.raises(DecodeError) as error:
            read_timeline(cut)
        assert error.value.reason in ("truncated", "damaged", "no-frames")
        try:
            result = decode_frames(cut, [FramesWanted(Times((9.0,)))], on_corrupt="keep")
        except DecodeError:
            continue
        kept.add(result.timeline.num_frames)
        assert np.array_equal(result.frames[0].images[0], shown[result.timeline.num_frames - 1])
    assert kept == {1, 2, 3}
    with pytest.raises(DecodeError, match="RIFF chunk ends at byte") as error:
        read_timeline(BytesBlob(data[:-1]))
    assert error.value.reason == "truncated"


@pytest.mark.parametrize("lossless", [True, False])
def test_flipped_bytes_fail_the_sample_or_change_a_picture(lossless: bool) -> None:
    data = webp(pictures(), lossless=lossless)
    rng = random.Random(5)
    reasons = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for place in [*range(16, 120), *(rng.randrange(120, len(data)) for _ in range(60))]:
            changed = bytearray(data)
            changed[place] ^= rng.choice([0x01, 0x80, 0xFF])
            try:
                decoded(bytes(changed))
            except DecodeError as error:
                reasons.add(error.reason)
    assert {"damaged", "truncated"} & reasons
    assert reasons <= {"damaged", "decode-error", "truncated", "too-large", "not-a-video", "no-frames", "no-video-stream"}


def test_a_damaged_frame_fails_and_says_which() -> None:
    data = webp([*pictures(3)])
    place = data.rindex(b"VP8L") + 14
    with pytest.raises(DecodeError, match=r"webp: Pillow says: .*; after frame 1") as error:
        decoded(data[:place] + b"\xff" * 12 + data[place + 12 :])
    assert error.value.reason == "decode-error"


def test_claims_are_refused_before_anything_of_their_size_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = anmf(np.zeros((2, 2, 4), np.uint8), 0, 0, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DecodeError, match="frames of 16383x16383 pixels; at most") as error:
            read_timeline(BytesBlob(assembled(16383, 16383, [frame])))
        assert error.value.reason == "too-large"
        with pytest.raises(DecodeError, match="a canvas of 16385x1 pixels; at most 16384 on a side") as error:
            read_timeline(BytesBlob(assembled(16385, 1, [frame])))
        assert error.value.reason == "too-large"
        with pytest.raises(DecodeError, match=r"2000 frames of 4000x4000 take 128000000000 bytes of temporary space, at most") as error:
            read_timeline(BytesBlob(assembled(4000, 4000, [frame] * 2000)))
        assert error.value.reason == "too-large"
        monkeypatch.setattr(animated_webp, "MAX_FILE_BYTES", 100)
        with pytest.raises(BadWebp, match="at most 100 are read"):
            copy_frames(BytesBlob(webp(pictures())), 1 << 20)
        monkeypatch.undo()
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(DecodeError, match="decompression bomb"):
            read_timeline(BytesBlob(webp(pictures())))


def test_a_full_disk_is_not_the_samples_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(animated_webp.ScratchFile, "write", full)
    with pytest.raises(OSError, match="No space left") as error:
        read_timeline(BytesBlob(webp(pictures())))
    assert error.value.errno == errno.ENOSPC


def test_frames_are_held_one_at_a_time_and_nothing_is_left_behind(tmp_path: Path) -> None:
    program = """
import resource, sys, tempfile
from shardprep.core.blob import BytesBlob
from shardprep.media.timeline import read_timeline
tempfile.tempdir = sys.argv[2]
data = open(sys.argv[1], "rb").read()
read_timeline(BytesBlob(data[:1 << 20] if len(sys.argv) > 3 else data), on_corrupt="keep")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""
    (tmp_path / "tmp").mkdir()
    frame = np.full((1000, 1000, 4), 255, np.uint8)

    def peak_mib(count: int) -> int:
        path = tmp_path / f"{count}.webp"
        path.write_bytes(assembled(1000, 1000, [anmf(frame * place, 0, 0, 20) for place in range(count)]))
        done = subprocess.run([sys.executable, "-c", program, path, tmp_path / "tmp"], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert peak_mib(60) < peak_mib(3) + 40  # 60 frames are 172 MiB
    assert not list((tmp_path / "tmp").iterdir())


def test_a_moving_webp_of_a_source_is_its_video_and_a_still_one_its_image(tmp_path: Path) -> None:
    still = io.BytesIO()
    Image.fromarray(pictures(1)[0]).save(still, "webp")
    for name, data in (("moving.webp", webp(pictures())), ("still.webp", still.getvalue()), ("a.mp4", b"x")):
        (tmp_path / name).write_bytes(data)

    def roles(*names: str) -> dict[str, str]:
        members = tuple(SourceMember(name.rpartition(".")[2], f"{tmp_path}/{name}", 0, (tmp_path / name).stat().st_size) for name in names)
        entry = SourceEntry(key="a", path="a", size=1, version="1", members=members, captions=())
        return {role: member.suffix for role, member in open_entry(entry).members.items()}

    assert roles("moving.webp") == {"video": "video.webp"}
    assert roles("still.webp") == {"image": "webp"}
    assert roles("a.mp4", "moving.webp") == {"video": "mp4", "image": "webp"}


def test_a_real_run_finds_scenes_cuts_clips_and_scores_them_as_of_a_video(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    shots = [videos.Shot(seconds=1, px_per_second=speed, seed=seed) for seed, speed in ((1, 40), (2, 20), (3, 60))]
    shown = list(videos.draw(shots, height=96, width=128, fps=20))
    moving = webp(shown, [50] * len(shown))
    (files / "moving.webp").write_bytes(moving)
    (files / "video.mkv").write_bytes(videos.encode(shown, fps=20, container="matroska", codec="ffv1", pixel_format="bgr0"))
    (files / "torn.webp").write_bytes(moving[: len(moving) // 2])
    Image.fromarray(shown[0]).save(files / "still.webp", lossless=True)
    sources = SourceSpec(videos=str(files), images=True)
    stages = (ProbeMedia(), DetectScenes(), CutClips(), ScoreFlow())
    recipe = recipe_of(files, tmp_path / "out", *stages, memory="512MiB")
    run(replace(recipe, source=sources))
    found = {key.partition("-")[0]: (fate.fate, fate.reason) for key, fate in fates(tmp_path / "out").items()}
    assert found == {"moving": ("kept", None), "video": ("kept", None), "torn": ("failed", "truncated"), "still": ("kept", None)}
    clips = outputs(tmp_path / "out")
    (still,) = clips.pop("still")
    assert (still["media"]["container"], still["media"]["num_frames"]) == ("webp_pipe", 1)
    assert [len(clips[name]) for name in ("moving", "video")] == [3, 3]
    for one, other in zip(clips["moving"], clips["video"], strict=True):
        assert one["clip"]["starts"] == pytest.approx(other["clip"]["starts"])
        assert one["media"]["num_frames"] == other["media"]["num_frames"] == 20
        assert one["scores"]["flow"] == pytest.approx(other["scores"]["flow"], rel=0.02)


def outputs(out: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the columns of the kept outputs by the name of their source, in the order of their keys."""
    found: dict[str, list[dict[str, Any]]] = {}
    rows = [row for path in (out / "work").glob("0*.parquet") for row in pq.ParquetFile(path).read().to_pylist()]
    for row in sorted(rows, key=lambda row: row["key"]):
        if row["role"] == "output" and row["fate"] == "kept":
            found.setdefault(row["key"].partition("-")[0], []).append(row)
    return found
