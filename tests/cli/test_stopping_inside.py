"""Ctrl-C and SIGTERM while a worker is inside of outline or pack, before a store that takes its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fates import make_files
from tests.s3_server import Request, S3Server, serving

RECIPE = """
name: stopped
source: {videos: files, samples_per_shard: 2}
output: s3://bucket/OUT
workers: 1
steps:
  - train: {pack: {samples_per_shard: 2}}
"""
COMMAND = [sys.executable, "-m", "shardprep.cli", "run", "recipe.yaml", "--storage-options", "store.json"]
PHASES = {"outline": ".rows", "pack": ".tar"}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with serving() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, s3: S3Server) -> Path:
    make_files(tmp_path / "files", 4)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("OUT", tmp_path.name))
    (tmp_path / "store.json").write_text(json.dumps(s3.options))
    return tmp_path


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT], 3), ([signal.SIGINT, signal.SIGINT], 4), ([signal.SIGTERM], 4)])
def test_stopped_inside(place: Path, s3: S3Server, phase: str, signals: list[signal.Signals], code: int) -> None:
    def is_picked(request: Request) -> bool:
        return request.method == "PUT" and "/train/" in request.path and request.path.endswith(PHASES[phase])

    with (
        s3.holding(is_picked) as held,
        subprocess.Popen(COMMAND, cwd=place, stderr=subprocess.PIPE, text=True, start_new_session=True) as run,
    ):
        assert held.reached.wait(120)
        for number in signals:
            os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
            time.sleep(0.3)
        asked = time.monotonic()
        if code == 3:
            # The shard in work is finished.
            held.answer()
        _, told = run.communicate(timeout=60)
        seconds = time.monotonic() - asked
    assert run.returncode == code, told
    assert seconds < 10
    assert "Run the recipe again to make them." in told
    assert "Traceback" not in told
    assert not [name for name in s3.names(place.name) if name.endswith("train/manifest.json")]
    again = subprocess.run(COMMAND, cwd=place, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert [name for name in s3.names(place.name) if name.endswith("train/manifest.json")]
