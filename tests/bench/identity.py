"""A pass that rewrites every member unchanged, against copying the same tars member by member with Python's tarfile."""

from __future__ import annotations

import argparse
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from shardprep.executors.local import default_workers
from shardprep.recipe.model import RAW, Pass, Recipe
from shardprep.sources.spec import SourceSpec
from tests.bench.measure import claimed, compare, emptied, machine, take_turns
from tests.bench.stages import RewriteVideo

OURS, ALONE, TARFILE = "a pass that rewrites", "the same, one worker", "tarfile, member by member"


@dataclass(frozen=True)
class Size:
    """How much is copied."""

    num_files: int
    file_bytes: int
    files_per_shard: int


FULL = Size(128, 16 << 20, 16)
QUICK = Size(6, 1 << 18, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few small files, once: shows that the program works, not how fast ours is")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    place = emptied(claimed("identity", options.quick))
    total = size.num_files * size.file_bytes / 2**30
    print(
        f"bench-identity: {size.num_files} members, {total:.2f} GiB, {default_workers(1)} workers and one, fsync on all sides; {machine()}",
        flush=True,
    )
    recipe = _recipe(place, size)
    run(recipe, RunOptions(until=RAW))
    tars = sorted((place / "out" / RAW).glob("*.tar"))
    turns = take_turns(
        {
            OURS: lambda: _rewrite(recipe, place, default_workers(1)),
            ALONE: lambda: _rewrite(recipe, place, 1),
            TARFILE: lambda: _copy(tars, place / "copy"),
        },
        1 if options.quick else options.rounds,
    )
    _check(place)
    shutil.rmtree(place)
    compare(turns, ALONE, {TARFILE: 1.3})
    _, found = compare(turns, OURS, {TARFILE: 1.3})
    print(f"ratio {found:.3f}")


def _recipe(place: Path, size: Size) -> Recipe:
    """Return the recipe, its source files of random bytes written."""
    (place / "files").mkdir()
    random = np.random.default_rng(0)
    for number in range(size.num_files):
        (place / "files" / f"{number:04d}.mp4").write_bytes(random.bytes(size.file_bytes))
    source = SourceSpec(videos=str(place / "files"), samples_per_shard=size.files_per_shard)
    steps = (Pass(name="same", stages=(RewriteVideo(),)),)
    return Recipe(name="bench-identity", source=source, steps=steps, output=str(place / "out"))


def _rewrite(recipe: Recipe, place: Path, num_workers: int) -> None:
    _settle(place / "out" / "same")
    run(recipe, RunOptions(workers=num_workers))


def _copy(tars: list[Path], folder: Path) -> None:
    """Copy each tar as `tarfile` does it, and make sure that it is on the disk, as ours does."""
    _settle(folder)
    folder.mkdir()
    for path in tars:
        with open(folder / path.name, "wb") as file:
            with tarfile.open(path) as source, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as out:
                for member in source:
                    out.addfile(member, source.extractfile(member))
            file.flush()
            os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Remove what a turn before made, and wait until the disk has nothing left to do."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()


def _check(place: Path) -> None:
    """Both copies hold the same members: equal work."""
    ours, theirs = ([_names(path) for path in sorted(folder.glob("*.tar"))] for folder in (place / "out" / "same", place / "copy"))
    if ours != theirs:
        raise SystemExit("the two copies hold different members")


def _names(path: Path) -> list[tuple[str, int]]:
    with tarfile.open(path) as tar:
        return [(member.name, member.size) for member in tar]


if __name__ == "__main__":
    main()
