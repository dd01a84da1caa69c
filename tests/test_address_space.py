"""A limit of the address space (`ulimit -v`), as some clusters set it: 1.5 GB is enough for the core, and less is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shardprep.errors import RunFailed
from shardprep.executors import slot
from shardprep.testing.videos import Shot, draw, encode


def limited(root: Path, kib: int, *arguments: str, stack_kib: int = 8192) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line with so much address space for each of its processes."""
    script = 'ulimit -v "$1"; ulimit -s "$2"; shift 2; exec "$@"'
    line = ["bash", "-c", script, "limited", str(kib), str(stack_kib), sys.executable, "-m", "shardprep.cli", *arguments]
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


RECIPE = """
name: limited
source: {{videos: {videos}, samples_per_shard: 1}}
output: {out}
workers: 2
steps:
  - clips: [probe_media, {{drop_where: "media.seconds < 0.5"}}, cut_clips: {{min_seconds: 0.1, max_seconds: 1, short_side_px: 64}}]
  - scores: [score_sharpness, score_exposure]
  - good: {{select: {{where: "scores.sharpness >= 0", sort: "scores.sharpness DESC", limit: 9}}}}
  - more: [score_flow]
  - train: {{pack: {{seed: 0}}}}
"""


@pytest.mark.parametrize("kib", [1_500_000, 1_200_000])
def test_expressions_and_packing_work_in_what_is_said_to_be_enough(tmp_path: Path, videos: Path, kib: int) -> None:
    """With the stacks that threads get where somebody set them large."""
    recipe, out = tmp_path / "recipe.yaml", str(tmp_path / "out")
    recipe.write_text(RECIPE.format(videos=videos, out=out))
    for words in (("run", str(recipe)), ("select", f"{out}/scores", "scores.sharpness > 0"), ("verify", out)):
        done = limited(tmp_path, kib, *words, stack_kib=65_536)
        assert done.returncode == 0, f"{words[0]}: {done.stderr[-2000:]}"


def test_where_no_thread_can_be_started_one_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "ProcessPool", no_thread)
    monkeypatch.setattr(slot, "address_space_limit", lambda: 1 << 30)
    said = r"cannot be started \(can't start new thread\), and a process may have 1\.0 GiB of address space .*take fewer `workers`"
    with pytest.raises(RunFailed, match=said):
        slot.Slot(None, 1, str(tmp_path)).start(abs, 1)


def no_thread(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


def test_less_is_one_message_that_says_what_is_needed(root: Path, tmp_path: Path, videos: Path) -> None:
    for kib in (1_000_000, 400_000):
        recipe = (str(root / "recipes" / "first-clips.yaml"), "--input", str(videos), "--output", str(tmp_path / "out"))
        done = limited(root, kib, "run", *recipe)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: a process may have {kib / 1024:.1f} MiB of address space (`ulimit -v`), and ")
        assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()
