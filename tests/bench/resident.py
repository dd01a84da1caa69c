"""Running a command while noting how much memory its processes take, as the operating system counts it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import ROOT

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Peaks:
    """The largest resident size (`VmHWM`) of the driver and of any of its workers, in MiB, and what the command printed."""

    driver_mib: float
    worker_mib: float
    output: str


def run_watched(*arguments: str | Path) -> Peaks:
    """Run a command of ours to its end; its spawned children are the workers.

    The kernel keeps each process's peak, so that only what grows in the last moments of a process can be missed.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([str(one) for one in arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        peaks: dict[int, float] = {}
        while process.poll() is None:
            for pid in (process.pid, *_workers(process.pid)):
                peaks[pid] = max(peaks.get(pid, 0.0), _peak_mib(pid))
            time.sleep(_POLL_SECONDS)
        output.seek(0)
        words = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} ended with {process.returncode}:\n{words[-3000:]}")
    driver = peaks.pop(process.pid)
    return Peaks(driver, max(peaks.values(), default=0.0), words)


def _workers(pid: int) -> list[int]:
    """Return the processes that multiprocessing spawned, without its resource tracker."""
    try:
        children = {child for thread in Path(f"/proc/{pid}/task").iterdir() for child in (thread / "children").read_text().split()}
    except OSError:
        return []
    return [int(child) for child in children if b"spawn_main" in _command_line(child)]


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
