"""Taking turns and timing: every ratio comes from pairs measured one after the other in one run."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Cost:
    """What one turn took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all processors in this process and those that it waited for: what a busy machine changes less."""


Turns = Mapping[str, Sequence[Cost]]


def workplace(part: str) -> Path:
    """Return the folder of one benchmark below build/, made where it is absent."""
    folder = ROOT / "build" / "bench" / part
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def claimed(part: str, quick: bool) -> Path:
    """Return the folder of one benchmark; unless it is the quick one, when no other runs, and others wait until this process ends."""
    if quick:
        return workplace(f"{part}-quick")
    fd = os.open(workplace("") / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another benchmark is running; waiting for its end", flush=True)
        fcntl.flock(fd, fcntl.LOCK_EX)
    return workplace(part)


def emptied(folder: Path) -> Path:
    """Return the folder, empty, with nothing left to be written to the disk from before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.sync()
    return folder


def timed(work: Callable[[], Cost | None]) -> Cost:
    """Run `work` and return what it took, or what it says itself that it took."""
    cpu, started = _cpu_seconds(), time.perf_counter()
    own = work()
    return own or Cost(time.perf_counter() - started, _cpu_seconds() - cpu)


def take_turns(sides: Mapping[str, Callable[[], Cost | None]], rounds: int) -> Turns:
    """Run the sides one after the other, so many rounds, and say what each turn took."""
    turns: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, work in sides.items():
            cost = timed(work)
            turns[name].append(cost)
            print(f"  round {number + 1}: {name:32s} {cost.wall:8.2f} s wall {cost.cpu:8.2f} s cpu", flush=True)
    return turns


def ratio(turns: Turns, one: str, other: str) -> Cost:
    """Return how many times as long `one` took as `other`: the median over the rounds."""
    pairs = list(zip(turns[one], turns[other], strict=True))
    return Cost(median(a.wall / b.wall for a, b in pairs), median(a.cpu / b.cpu if b.cpu else 0.0 for a, b in pairs))


def compare(turns: Turns, one: str, bounds: Mapping[str, float]) -> tuple[str, float]:
    """Print the ratios of `one` to others beside their bounds; return the one that is furthest below its bound, in wall time."""
    found = {}
    for other, bound in bounds.items():
        times = ratio(turns, one, other)
        found[other] = times.wall
        met = "met" if times.wall <= bound else "NOT MET"
        print(f"{one} / {other}: {times.wall:.3f} of its wall time (at most {bound}: {met}), {times.cpu:.3f} of its cpu time")
    best = min(bounds, key=lambda other: found[other] / bounds[other])
    return best, found[best]


def command(*arguments: str | Path, folder: Path | None = None, path: str = "") -> None:
    """Run a command to its end; its words are shown where it fails."""
    environment = os.environ | ({"PATH": f"{path}{os.pathsep}{os.environ.get('PATH', '')}"} if path else {})
    done = subprocess.run([str(one) for one in arguments], cwd=folder or ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def machine() -> str:
    """Return what this machine is, in a line."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{len(os.sched_getaffinity(0))} cores ({names[0] if names else 'unknown'})"
    return f"{cores}, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"


def _cpu_seconds() -> float:
    uses = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)
