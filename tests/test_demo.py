"""`make demo` by its own commands, but for the installing: short, and its last words are commands that work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MAX_LINES = 60

pytestmark = pytest.mark.prove


@pytest.fixture(scope="module")
def said(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """What the demo prints where nothing is left to install, and where it was made."""
    demo = tmp_path_factory.mktemp("demo") / "demo"
    targets = [f"{root}/.venv/{name}" for name in (".made", ".core", ".models")]
    # What is installed stands: the targets are named as older than everything.
    old = [word for target in [*targets, *(target.removeprefix(f"{root}/") for target in targets)] for word in ("-o", target)]
    command = ["make", "--no-print-directory", *old, "demo", f"DEMO={demo}", f"BIN={Path(sys.executable).parent}", f"MAKE=true {demo}"]
    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return demo, done.stdout.splitlines()


def test_the_demo_is_short(said: tuple[Path, list[str]]) -> None:
    # Installing says four lines more.
    assert len(said[1]) + 4 < MAX_LINES, "\n".join(said[1])
    assert (said[0] / "out" / "train" / "manifest.json").is_file()


def test_its_last_words_are_commands_that_work(said: tuple[Path, list[str]], root: Path) -> None:
    commands = said[1][-3:]
    assert all("/shardprep " in command for command in commands)
    for command in commands:
        words = re.sub(r"^\S*/shardprep", f"{sys.executable} -m shardprep.cli", command)
        done = subprocess.run(
            ["/bin/sh", "-c", words],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) > 3
