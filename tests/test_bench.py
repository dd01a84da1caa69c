"""Every benchmark runs, in its small mode, and ends with the line that `make bench` is read by."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

LAST_LINE = {
    "cut": r"ratio \d+\.\d{3}",
    "fused": r"ratio \d+\.\d{3}",
    "identity": r"ratio \d+\.\d{3}",
    "memory": r"ratio \d+\.\d{3}",
    "import_": r"seconds \d+\.\d{3} import, \d+\.\d{3} help",
    "growth": r"ratio -?\d+\.\d{3}",
}


def test_every_benchmark_of_the_makefile_is_tested(root: Path) -> None:
    line = next(line for line in (root / "Makefile").read_text().splitlines() if line.startswith("BENCHES"))
    assert line.partition(":=")[2].split() == [name.rstrip("_") for name in LAST_LINE]


@pytest.mark.parametrize("name", LAST_LINE)
def test_a_benchmark_ends_with_its_figure(root: Path, name: str) -> None:
    command = [sys.executable, "-m", f"tests.bench.{name}", "--quick"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(LAST_LINE[name], done.stdout.splitlines()[-1]), done.stdout
