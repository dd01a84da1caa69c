"""Which of several video streams is taken: one for all that reads the file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from shardprep.core.blob import Blob, BytesBlob
from shardprep.core.frames import Fractions, FramesWanted
from shardprep.media.container import DecodeError
from shardprep.media.copy_cut import cut_copy
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.probe import probe

RED, PATTERN = (160, 120), (320, 240)


def two_streams(folder: Path, *options: str) -> Blob:
    """Return a red film and a moving pattern in one file."""
    file = folder / "two.mp4"
    sources = "-f lavfi -i color=red:s=160x120:r=10:d=4 -f lavfi -i testsrc2=s=320x240:r=25:d=3 -map 0 -map 1 -c:v libx264".split()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *sources, *options, str(file)]
    subprocess.run(command, check=True, timeout=120)
    return BytesBlob(file.read_bytes())


SECOND = ("-disposition:v:1", "default", "-disposition:v:0", "0")
FIRST = ("-disposition:v:1", "0", "-disposition:v:0", "default")
COVER = ("-c:v:0", "mjpeg", "-disposition:v:0", "attached_pic", "-disposition:v:1", "0")
NEITHER = ("-disposition:v:1", "0", "-disposition:v:0", "0")


@pytest.mark.parametrize(
    ("options", "size"), [(SECOND, PATTERN), (FIRST, RED), (NEITHER, RED), (COVER, PATTERN)], ids=["second", "first", "neither", "cover"]
)
def test_the_stream_that_is_marked_as_default_is_taken_by_all(options: tuple[str, ...], size: tuple[int, int], tmp_path: Path) -> None:
    blob = two_streams(tmp_path, *options)
    facts = probe(blob)
    frames = decode_frames(blob, [FramesWanted(Fractions((0.5,)))]).frames[0]
    assert (facts.width, facts.height, facts.num_frames) == (*size, 40 if size == RED else 75)
    assert (frames.width, frames.height, frames.num_frames) == (*size, facts.num_frames)
    for (clip,) in (cut_exact(blob, [[(0.0, 1.0)]], EncodeSettings()), cut_copy(blob, [[(0.0, 1.0)]])):
        assert not isinstance(clip, DecodeError)
        assert (probe(clip.blob).width, probe(clip.blob).height) == size


def test_decord_which_may_take_another_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    with pytest.raises(DecodeError, match="several video streams, of which decord may take another; use decoder: pyav"):
        decode_frames(two_streams(tmp_path, *FIRST), [FramesWanted(Fractions((0.5,)))], decoder="decord")
