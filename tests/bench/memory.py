"""The peak memory of a worker over 10 minutes of 1080p, against 2 minutes of the same."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from tests.bench.footage import Footage, make
from tests.bench.measure import claimed, emptied, machine, take_turns, workplace
from tests.bench.resident import Peaks, run_watched

MEMORY_MIB = 2048
SHORT, LONG = "2 minutes", "10 minutes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small videos: shows that the program works, not how much ours takes")
    parser.add_argument("--preset", default="ultrafast", help="of x264; the default keeps it short, slower ones hold a few frames more")
    options = parser.parse_args()
    place = claimed("memory", options.quick)
    # Easy pictures: quick to make and to code. What is held in memory does not depend on what is in a picture.
    kind = {"seconds": 1, "height": 90, "width": 160} if options.quick else {"seconds": 20, "height": 1080, "width": 1920}
    videos = {
        name: make(Footage(**kind, seed=7, noise=0, shot_seconds=(5, 12), repeats=repeats), workplace("videos"))
        for name, repeats in ((SHORT, 6), (LONG, 30))
    }
    print(f"bench-memory: --memory {MEMORY_MIB}MiB, one video in work; {machine()}")
    peaks: dict[str, Peaks] = {}

    def work_on(name: str) -> None:
        peaks[name] = _run(videos[name], emptied(place), options.preset)
        print(f"{name}: peak {peaks[name].worker_mib:.0f} MiB of a worker, {peaks[name].driver_mib:.0f} MiB of the driver", flush=True)

    take_turns({name: lambda name=name: work_on(name) for name in videos}, 1)
    worst = max(found.worker_mib for found in peaks.values())
    growth = peaks[LONG].worker_mib / peaks[SHORT].worker_mib
    print(f"peak_mib {worst:.0f} (at most {MEMORY_MIB}: {'met' if worst <= MEMORY_MIB else 'NOT MET'})")
    print(f"{LONG} / {SHORT}: at most 1.1: {'met' if growth <= 1.1 else 'NOT MET'}")
    print(f"ratio {growth:.3f}")


def _run(video: Path, place: Path, preset: str) -> Peaks:
    """Probe, detect and cut one video, full size, and score it uncut: the steps whose memory could grow with its length."""
    recipe = {
        "name": "bench-memory",
        "source": {"videos": str(video)},
        "output": str(place / "out"),
        "workers": 1,
        "steps": [
            {"clips": ["probe_media", "detect_scenes", {"cut_clips": {"preset": preset}}]},
            {"scores": ["score_flow", "score_sharpness", "score_exposure"], "from": "raw"},
        ],
    }
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run_watched(sys.executable, "-m", "shardprep.cli", "run", place / "recipe.yaml", "--memory", f"{MEMORY_MIB}MiB")


if __name__ == "__main__":
    main()
