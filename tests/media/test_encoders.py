"""Every encoder with its own words for quality and speed, and what is said where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import pytest
from av.codec.context import CodecContext

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.errors import RecipeError
from shardprep.media.cut import cut_exact
from shardprep.media.encode import EncodeSettings
from shardprep.media.encoders import ENCODERS, check_encoder, encoder_options
from shardprep.media.probe import probe
from shardprep.testing.videos import moving

SOFTWARE = [name for name, encoder in ENCODERS.items() if not encoder.needs_gpu]
CODECS = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "av1"}


def cut(name: str, crf: int | None = None, preset: str | None = None) -> BytesBlob:
    settings = EncodeSettings(encoder=name, crf=crf, preset=preset)
    [clip] = cut_exact(BytesBlob(moving(50, seconds=1)), [[(0.0, 1.0)]], settings)
    return BytesBlob(read_blob(clip.blob))


@pytest.mark.parametrize("name", SOFTWARE)
def test_clips_come_out_alike_and_its_quality_is_heard(name: str) -> None:
    first, again, low = cut(name), cut(name), cut(name, crf=ENCODERS[name].quality[1])
    assert first.data == again.data
    facts = probe(first).columns()
    assert facts["media.num_frames"] == 24
    assert CODECS[name] in facts["media.codec"]
    assert len(low.data) < len(first.data)


@pytest.mark.parametrize("name", SOFTWARE)
def test_no_option_is_left_unheard(name: str) -> None:
    context = CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt, context.time_base = 320, 240, "yuv420p", Fraction(1, 25)
    context.options = encoder_options(name, None, ENCODERS[name].presets[-1])
    context.open()
    assert context.options == {}, "ffmpeg leaves here what no encoder took"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nosuch",), "encoder 'nosuch' is none that clips can be made with; there is libx264, libx265"),
        (("libx264", None, "bogus"), "preset 'bogus': libx264 has the presets ultrafast, superfast"),
        (("libsvtav1", None, "veryfast"), "preset 'veryfast': libsvtav1 has the presets 13, 12"),
        (("mpeg4",), "encoder 'mpeg4' is none that clips can be made with .MPEG-4 part 2 takes no times finer"),
        (("libsvtav1", 0), r"crf 0: with libsvtav1 it is 1 to 63, lower is better .24 by default."),
    ],
)
def test_what_an_encoder_does_not_have_is_said(arguments: tuple[str, int | None, str | None], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        check_encoder(*arguments)


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")
def test_nvenc_without_a_gpu_is_said() -> None:
    with pytest.raises(RecipeError, match="h264_nvenc cannot be opened on this machine: it needs an NVIDIA GPU with an encoder"):
        check_encoder("h264_nvenc")


def test_checking_says_nothing_of_its_own() -> None:
    program = f"from shardprep.media.encoders import check_encoder\nfor name in {SOFTWARE}: check_encoder(name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
