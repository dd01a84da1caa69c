"""A whole run as a program, so that it can be killed: `python -m tests.driver.program RECIPE VIDEOS OUTPUT [NAME=VALUE …]`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from tests.driver.killing import KILL
from tests.driver.recipes import counted, real

ROOT = Path(__file__).parent.parent.parent

WATCHED = Path(__file__).parent / "watched"
"""Holds the module by which every process of a run is watched: its workers import nothing of this program."""


def start(
    recipe: str, videos: Path, output: Path, settings: Sequence[str] = (), watch: tuple[Path, str] | None = None
) -> subprocess.Popen[str]:
    """Start a run as the leader of a session of its own; `watch`: a log of its changes, and when it dies (see `killing`)."""
    environment = {**os.environ, "PYTHONPATH": f"{WATCHED}{os.pathsep}{ROOT}"} | (
        {KILL: f"{watch[0]}|{watch[1]}|{output}"} if watch else {}
    )
    command = [sys.executable, "-m", "tests.driver.program", recipe, str(videos), str(output), *settings]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return] # the pipes


if __name__ == "__main__":
    name, videos, output, *words = sys.argv[1:]
    settings = {setting: json.loads(value) for setting, _, value in (word.partition("=") for word in words)}
    retry = settings.pop("retry", False)
    run({"real": real, "counted": counted}[name](Path(videos), Path(output), **settings), RunOptions(retry=retry))
