"""What can be known before a run is said before it, with exit code 2 and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shardprep.cli.app import app

RECIPE = "source: {{videos: videos}}\nsteps:\n  - clips: [cut_clips: {settings}]\n"


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{preset: bogus}", "preset 'bogus': libx264 has the presets ultrafast"),
        (
            "{encoder: nosuch}",
            "cut_clips: encoder 'nosuch' is none that clips can be made with; there is libx264, libx265, libsvtav1, h264_nvenc",
        ),
        ("{encoder: libsvtav1, preset: veryfast}", "libsvtav1 has the presets 13"),
        ("{encoder: mpeg4}", "MPEG-4 part 2 takes no times finer than 1/65535 s"),
        ("{crf: 60}", "with libx264 it is 0 to 51"),
        ("{encoder: h264_nvenc}", "cut_clips: encoder h264_nvenc cannot be opened on this machine: it needs an NVIDIA GPU"),
    ],
)
def test_an_encoder_that_cannot_be_is_said(tmp_path: Path, command: str, settings: str, words: str) -> None:
    if "nvenc" in settings and os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a GPU")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    (tmp_path / "r.yaml").write_text(RECIPE.format(settings=settings))
    result = CliRunner().invoke(
        app, [command, str(tmp_path / "r.yaml"), "--input", str(tmp_path / "videos"), "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert f"{tmp_path / 'r.yaml'}:3: " in result.stderr
    assert words in result.stderr
    assert not (tmp_path / "out").exists()
