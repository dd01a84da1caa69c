"""What lies in the memory of a process: none of it gets into results, and none of it aborts the process when it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.commands import Place

ENCODE = """
import hashlib
from shardprep.core.blob import BytesBlob, read_blob
from shardprep.media.cut import cut_exact
from shardprep.media.encode import EncodeSettings
from shardprep.testing.videos import Shot, draw, encode

video = encode(draw([Shot(seconds=1, px_per_second=40, seed=1)], height=64, width=96), codec="mpeg4")
clips = [cut_exact(BytesBlob(video), [[(0.0, 1.0)]], EncodeSettings())[0] for _ in range(3)]
print({hashlib.sha256(read_blob(clip.blob)).hexdigest() for clip in clips})
"""
THREADS = """
import os, sys
import pyarrow, pyarrow.parquet, fsspec, shardprep
read = shardprep.open_set  # imported only now, with OpenCV and its thread
before = len(os.listdir("/proc/self/task"))
assert len(list(read(sys.argv[1]))) == 5
print(len(os.listdir("/proc/self/task")) - before)
"""


def _output(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_memory_that_nobody_wrote_does_not_get_into_clips() -> None:
    """x264's AVX-512 code read such memory; glibc fills it with what we ask for."""
    assert len({_output(ENCODE, MALLOC_PERTURB_=fill) for fill in ("0", "85", "170")}) == 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_reading_ledgers_leaves_no_thread_that_could_abort_the_process_when_it_ends(place: Place, undisturbed: dict[str, str]) -> None:
    """Arrow's threads that let go of Python's bytes while the interpreter ends abort it: 1 of 40 commands ended so."""
    assert place.shardprep("run", place.work / "recipe.yaml", "--until", "clips").code == 0
    assert _output(THREADS, str(place.out / "clips")) == "0\n"
