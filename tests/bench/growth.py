"""Time and memory as the number of samples grows 1x, 10x, 100x: raw, a pass, a selection, packing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from shardprep.driver.run import run
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from tests.bench.measure import claimed, emptied, machine
from tests.bench.resident import run_watched
from tests.bench.stages import ScoreSize

FILE_BYTES = 4096
WORKERS = 2
TIMES = (1, 10, 100)
"""The last against the first is the ratio; fixed costs are in both."""


@dataclass(frozen=True)
class Found:
    """What a run over `num` samples took."""

    num: int
    seconds: dict[str, float]
    driver_mib: float
    worker_mib: float

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few samples: shows that the program works, not how ours grows")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_run(options.one)))
        return
    base = 2 if options.quick else 120
    place = claimed("growth", options.quick)
    print(f"bench-growth: {', '.join(str(base * times) for times in TIMES)} samples of {FILE_BYTES} bytes, {WORKERS} workers; {machine()}")
    rounds = 1 if options.quick else options.rounds
    found = [_median([_measured(base * times, emptied(place)) for _ in range(rounds)]) for times in TIMES]
    first, middle, last = found
    for name in last.seconds:
        steps = [f"{one.seconds[name] / one.num * 1e3:7.2f}" for one in found]
        print(f"{name:8s} ms per sample: {' '.join(steps)}")
    marginal = [(b.total - a.total) / (b.num - a.num) * 1e3 for a, b in ((first, middle), (middle, last))]
    print(f"each further sample, without fixed costs: {marginal[0]:.2f} ms from 1x to 10x, {marginal[1]:.2f} ms from 10x to 100x")
    print(f"seconds per sample, 10x to 100x against 1x to 10x: {marginal[1] / marginal[0]:.3f} (1 is linear, below 1 better)")
    print(
        f"memory, 100x / 1x: driver {last.driver_mib / first.driver_mib:.3f}, worker {last.worker_mib / first.worker_mib:.3f} (1 is flat)"
    )
    print(f"ratio {marginal[1] / marginal[0]:.3f}")


def _median(rounds: Sequence[Found]) -> Found:
    """Return the medians: the smallest run takes a second, of which half may be the machine's."""
    return Found(
        rounds[0].num,
        {name: median(one.seconds[name] for one in rounds) for name in rounds[0].seconds},
        median(one.driver_mib for one in rounds),
        median(one.worker_mib for one in rounds),
    )


def _measured(num: int, place: Path) -> Found:
    """Run over `num` samples in processes of their own."""
    _write_files(place / "files", num)
    peaks = run_watched(sys.executable, "-m", "tests.bench.growth", "--one", place)
    found = Found(num, json.loads(peaks.output.splitlines()[-1]), peaks.driver_mib, peaks.worker_mib)
    print(
        f"  {num:6d} samples: {found.total:7.2f} s, driver {found.driver_mib:6.1f} MiB, largest worker {found.worker_mib:6.1f} MiB",
        flush=True,
    )
    return found


def _run(place: Path) -> dict[str, float]:
    """Make every step and return the seconds of each."""
    recipe = Recipe(
        name="bench-growth",
        source=SourceSpec(videos=str(place / "files"), samples_per_shard=16),
        output=str(place / "out"),
        settings=RunSettings(workers=WORKERS),
        steps=(
            Pass(name="scores", stages=(ScoreSize(),)),
            Gather(name="good", does=Select(where="scores.size > 0")),
            Gather(name="train", does=Pack(samples_per_shard=64)),
        ),
    )
    return {step.name: step.seconds for step in run(recipe).steps}


def _write_files(folder: Path, num: int) -> None:
    random = np.random.default_rng(0)
    for number in range(num):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(FILE_BYTES))


if __name__ == "__main__":
    main()
