"""A limit of the address space (`ulimit -v`), as some clusters set it: 1.5 GB is enough for the core, and less is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shardprep.testing.videos import Shot, draw, encode


def limited(root: Path, kib: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line with so much address space for each of its processes."""
    line = ["bash", "-c", 'ulimit -v "$1"; shift; exec "$@"', "limited", str(kib), sys.executable, "-m", "shardprep.cli", *arguments]
    return subprocess.run(line, cwd=root, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.mp4").write_bytes(encode(draw([Shot(seconds=1)], height=96, width=128)))
    return folder


def test_the_core_works_in_1_5_gb(root: Path, tmp_path: Path, videos: Path) -> None:
    recipe = (str(root / "recipes" / "first-clips.yaml"), "--input", str(videos), "--output", str(tmp_path / "out"))
    out = str(tmp_path / "out")
    for words in (("--version",), ("plan", *recipe), ("run", *recipe), ("table", f"{out}/scores"), ("verify", out), ("status", out)):
        done = limited(root, 1_500_000, *words)
        assert done.returncode == 0, f"{words[0]}: {done.stderr[-2000:]}"
    assert "complete" in done.stdout


def test_less_is_one_message_that_says_what_is_needed(root: Path, tmp_path: Path, videos: Path) -> None:
    for kib in (1_000_000, 400_000):
        recipe = (str(root / "recipes" / "first-clips.yaml"), "--input", str(videos), "--output", str(tmp_path / "out"))
        done = limited(root, kib, "run", *recipe)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: a process may have {kib / 1024:.1f} MiB of address space (`ulimit -v`), and ")
        assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()
