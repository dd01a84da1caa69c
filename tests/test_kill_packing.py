"""Runs that pack and are killed, or meet runs that pack otherwise: one whole packing counts or none, and all who are asked agree on it."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardprep.driver.status import status
from shardprep.driver.verify import verify
from shardprep.errors import ShardError
from shardprep.packed.sets import fates_table, open_set
from shardprep.packed.urls import shard_urls
from tests.driver.outputs import current_packing, digests, make_sources
from tests.driver.program import start
from tests.test_kill import finish, kill

NUM_SOURCES = 14


@dataclass(frozen=True)
class Place:
    """A pool of videos, those of them that are the source now, and outputs."""

    folder: Path

    @property
    def pool(self) -> Path:
        return self.folder / "pool"

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    def begin(self, output: Path, settings: Sequence[str] = (), when: str | None = None) -> subprocess.Popen[str]:
        log = output.with_suffix(".log")
        log.unlink(missing_ok=True)
        return start("counted", self.videos, output, (*settings, 'where="true"'), (log, when) if when else None)

    def change_sources(self, chosen: random.Random) -> None:
        """Delete three videos and bring three others in."""
        there = sorted(path.name for path in self.videos.iterdir())
        absent = sorted({path.name for path in self.pool.iterdir()} - set(there))
        for name in chosen.sample(absent, min(3, len(absent))):
            shutil.copy(self.pool / name, self.videos / name)
        for name in chosen.sample(there, 3):
            (self.videos / name).unlink()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    make_sources(made.pool, range(NUM_SOURCES))
    made.videos.mkdir()
    for path in sorted(made.pool.iterdir())[:10]:
        shutil.copy(path, made.videos / path.name)
    return made


# --- who says what


def keys_that_readers_find(output: Path) -> list[str] | None:
    """Return the keys in the packed set, on which `open_set`, its table, the fates and the shards agree; None where all refuse."""
    train = str(output / "train")
    try:
        keys = [sample.key for sample in open_set(train)]
    except ShardError:
        with pytest.raises(ShardError):
            shard_urls(train)
        return None
    assert open_set(train).table().column("key").to_pylist() == keys
    assert {row["key"] for row in fates_table(train, fate="kept").to_pylist()} == set(keys)
    assert [Path(url).parent for url in shard_urls(train)] == [current_packing(output / "train")] * len(shard_urls(train))
    return keys


def agree(output: Path) -> bool:
    """Assert that readers, status and verify say the same of the packed set; return whether it is whole."""
    if not (output / "train/set.json").exists():
        return False
    keys = keys_that_readers_find(output)
    (step,) = status(str(output / "train")).steps
    problems = [str(problem) for problem in verify(str(output / "train"))]
    assert (step.new, step.stale) == (0, 0) if keys is not None else step.new + step.stale > 0, (step, keys)
    # The card is written just before the pointer: a kill between the two leaves that of a packing which is whole as well.
    problems = [problem for problem in problems if "it is not the card of the packing" not in problem]
    assert (problems == []) == (keys is not None), (problems, keys)
    if keys is not None:
        assert len(set(keys)) == len(keys), "one key twice"
        assert sorted(keys) == sorted(sample.key for sample in open_set(str(output / "features"))), "just what stands"
        assert set(keys) <= {sample.key for sample in open_set(str(output / "raw"))}, "no deleted sample"
    return keys is not None


def contents(output: Path) -> dict[str, str]:
    """Return the digests of what a trainer reads of the packing that counts."""
    return digests(current_packing(output / "train"), ".tar", "index.parquet")


# --- kills over changed sources


def kill_somewhere(place: Place, output: Path, moments: random.Random) -> bool:
    """Run and kill: mostly while it packs, before a change of its files; return whether the run was still alive."""
    if moments.random() < 0.75:
        process = place.begin(output, when=f"{moments.randint(1, 40)}#train/")
        said, _ = process.communicate(timeout=240)
        assert process.returncode in (0, -9), said
        kill(process)
        return process.returncode == -9
    process = place.begin(output)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moments.uniform(0.5, 6))
    return kill(process)


def kill_over_changed_sources(place: Place, num_kills: int, seed: int) -> tuple[int, int]:
    """Return how often the packed set was whole after a kill, and how often it was not."""
    moments = random.Random(seed)
    output = place.folder / "out"
    finish(place.begin(output))
    killed = whole = 0
    while killed < num_kills:
        place.change_sources(moments)
        if not kill_somewhere(place, output, moments):
            assert agree(output)
            continue
        killed += 1
        whole += agree(output)
        if killed % 3 == 0:
            finish(place.begin(output))
            assert agree(output)
            fresh = place.folder / f"fresh-{killed}"
            finish(place.begin(fresh))
            assert contents(output) == contents(fresh), "what a run makes that knows of no other"
            shutil.rmtree(fresh)
            finish(place.begin(output))
            assert [str(problem) for problem in verify(str(output))] == []
    return whole, killed - whole


def test_three_kills_over_changed_sources(place: Place) -> None:
    kill_over_changed_sources(place, 3, seed=1)


@pytest.mark.prove
def test_thirty_kills_over_changed_sources(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    whole, torn = kill_over_changed_sources(place, 30, seed=2)
    with capsys.disabled():
        sys.stdout.write(
            f"\n30 kills over changed sources: {whole} times a whole packing counted, {torn} times none; all who were asked agreed\n"
        )
    assert torn > 5, "the kills were no kills in work"


# --- runs that pack otherwise


SETTINGS = {"one": ("seed=1",), "other": ("seed=2",)}


def meet(place: Place, output: Path, moments: random.Random, longest: float) -> bool:
    """Start two runs that pack otherwise, kill one, both or none; return whether a whole packing counts then."""
    processes = {}
    for name in moments.sample(sorted(SETTINGS), 2):
        processes[name] = place.begin(output, SETTINGS[name])
        time.sleep(moments.uniform(0, 3))
    doomed = moments.choice([[], ["one"], ["other"], ["one", "other"]])
    for name in doomed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[name].wait(timeout=moments.uniform(0, longest))
        kill(processes[name])
    ended = []
    for name, process in processes.items():
        if name not in doomed:
            said, _ = process.communicate(timeout=240)
            # One that finds the other there may refuse; whatever ends it is an error for people, not an accident.
            assert process.returncode == 0 or "\nshardprep.errors." in said, said
            ended.append(process.returncode == 0)
    is_whole = agree(output)
    assert is_whole or not any(ended), "who ended without an error left a whole packing"
    return is_whole


def pairs(place: Place, num_pairs: int, seed: int) -> tuple[int, int]:
    """Return how often a whole packing counted after two runs had met, and how often none did."""
    moments = random.Random(seed)
    expected = {}
    started = time.monotonic()
    for name, settings in SETTINGS.items():
        finish(place.begin(place.folder / name, settings))
        expected[name] = contents(place.folder / name)
    seconds = (time.monotonic() - started) / 2
    assert expected["one"] != expected["other"]
    whole = 0
    for number in range(num_pairs):
        output = place.folder / f"pair-{number}"
        whole += meet(place, output, moments, seconds)
        if (output / "train/manifest.json").exists():
            assert contents(output) in expected.values(), "the bytes of one of them, and of no mixture"
        for name in moments.sample(sorted(SETTINGS), 2):
            finish(place.begin(output, SETTINGS[name]))
            assert contents(output) == expected[name]
            assert agree(output)
        assert [str(problem) for problem in verify(str(output))] == []
        shutil.rmtree(output)
    return whole, num_pairs - whole


def test_two_runs_that_pack_otherwise(place: Place) -> None:
    pairs(place, 2, seed=3)


@pytest.mark.prove
def test_twenty_pairs_of_runs_that_pack_otherwise(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    whole, torn = pairs(place, 20, seed=4)
    with capsys.disabled():
        sys.stdout.write(
            f"\n20 pairs of runs with different settings: {whole} times one stood whole, {torn} times none; reruns ended right\n"
        )
