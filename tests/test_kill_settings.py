"""Runs with different settings that meet, and are killed: the later one is refused, nothing mixes, and a rerun of either ends right."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardprep.driver.plan import plan
from shardprep.driver.verify import verify
from tests.driver.agreement import check_agreement
from tests.driver.outputs import current_packing, digests, make_sources, shard_digests, strays
from tests.driver.program import start
from tests.driver.recipes import counted
from tests.test_kill import finish, kill
from tests.test_kill_packing import agree

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "one": {"length": 2, "where": "scores.number >= 2"},
    "other": {"length": 3, "where": "scores.number >= 5"},
}
"""Another selection, and another stage on what it leaves: they differ on all that follows."""


@dataclass(frozen=True)
class Place:
    """Videos, and outputs of runs over them."""

    folder: Path

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    def begin(self, output: Path, name: str) -> subprocess.Popen[str]:
        words = {"length": str(SETTINGS[name]["length"]), "where": f'"{SETTINGS[name]["where"]}"'}
        return start("counted", self.videos, output, [f"{setting}={word}" for setting, word in words.items()])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    make_sources(made.videos, range(10))
    return made


def contents(output: Path) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return the digests of the training set that counts, and of all shards of the other sets."""
    return digests(current_packing(output / "train"), ".tar", "index.parquet"), {
        name: found for name, found in shard_digests(output).items() if name != "train"
    }


def meet(place: Place, output: Path, moments: random.Random, longest: float) -> int:
    """Start two runs with different settings, kill one, both or none; return how many were refused."""
    processes = {}
    for name in moments.sample(sorted(SETTINGS), 2):
        processes[name] = place.begin(output, name)
        time.sleep(moments.uniform(0, 3))
    doomed = moments.choice([[], [], ["one"], ["other"], ["one", "other"]])
    for name in doomed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[name].wait(timeout=moments.uniform(0, longest))
        kill(processes[name])
    refused = 0
    for name, process in processes.items():
        if name not in doomed:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0 or "shardprep.errors.OutputInUse: " in said, said
            refused += process.returncode != 0
    assert refused < 2, "of two that live one goes on"
    if (output / "raw/set.json").exists():
        check_agreement(output)
    agree(output)
    return refused


def pairs(place: Place, num_pairs: int, seed: int) -> int:
    """Return how many runs were refused; every output in the end is just what an undisturbed run leaves."""
    moments = random.Random(seed)
    expected = {}
    started = time.monotonic()
    for name in SETTINGS:
        finish(place.begin(place.folder / name, name))
        expected[name] = contents(place.folder / name)
    seconds = (time.monotonic() - started) / 2
    refused = 0
    for number in range(num_pairs):
        output = place.folder / f"pair-{number}"
        refused += meet(place, output, moments, seconds)
        for name in moments.sample(sorted(SETTINGS), 2):
            finish(place.begin(output, name))
            recipe = counted(place.videos, output, **SETTINGS[name])
            assert contents(output) == expected[name]
            assert set(check_agreement(output, recipe).values()) == {3}
            assert agree(output)
            assert not plan(recipe).has_work
        assert [str(problem) for problem in verify(str(output))] == []
        assert strays(output) == []
        shutil.rmtree(output)
    return refused


def test_two_pairs_of_runs_with_different_settings(place: Place) -> None:
    pairs(place, 2, seed=5)


@pytest.mark.prove
@pytest.mark.timeout(7200)
def test_twenty_pairs_of_runs_with_different_settings(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    refused = pairs(place, 20, seed=6)
    with capsys.disabled():
        sys.stdout.write(f"\n20 pairs of runs with different settings: {refused} runs were refused; reruns of either ended right\n")
    assert refused >= 3, "they met"
