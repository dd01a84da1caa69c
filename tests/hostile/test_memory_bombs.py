"""Small files that ask for gigabytes: they fail, and what lies beside them goes through."""

from __future__ import annotations

from pathlib import Path

from shardprep.stages.probe_media import ProbeMedia
from shardprep.testing.videos import Shot, draw, encode
from tests.fates import fates, run_over
from tests.mp4_boxes import frames_of_one_byte, mp4, track

NUM_FRAMES = 85_000_000


def bomb() -> bytes:
    """Return an MP4 of 592 bytes that says of itself that it has 85 million frames."""
    return mp4(track(tables=frames_of_one_byte(NUM_FRAMES)))


def heavy() -> bytes:
    """Return an MP4 whose claim of 40 million frames could be true: it has a byte for each."""
    return mp4(track(tables=frames_of_one_byte(40_000_000)), num_data_bytes=40_000_000)


def test_a_video_that_asks_for_gigabytes_fails_and_the_others_go_through(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "bomb.mp4").write_bytes(bomb())
    (files / "heavy.mp4").write_bytes(heavy())
    (files / "good.mp4").write_bytes(encode(draw([Shot(seconds=0.2)], height=32, width=32)))
    assert (files / "bomb.mp4").stat().st_size < 700
    run_over(files, tmp_path / "out", ProbeMedia(), memory="512MiB")
    found = {key.partition("-")[0]: (fate.fate, fate.reason) for key, fate in fates(tmp_path / "out").items()}
    assert found == {"bomb": ("failed", "damaged"), "heavy": ("failed", "out-of-memory"), "good": ("kept", None)}
