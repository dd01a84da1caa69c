"""Runs that are killed, and runs that meet: what is left in the end is what an undisturbed run leaves."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardprep.driver.verify import verify
from shardprep.testing.videos import Shot, draw, encode
from tests.driver.outputs import check_fates, digests, files, shard_digests, strays
from tests.driver.program import start

FINAL = (".tar", "index.parquet", "manifest.json", "README.md")
SETTINGS = ("seconds=0.05",)
CHANGED = (*SETTINGS, "min_seconds=0.5", 'where="clip.index < 3"')
"""Other settings of the same recipe: other clips, another selection."""


@dataclass(frozen=True)
class Whole:
    """What an undisturbed run left."""

    files: dict[str, str]
    shards: dict[str, dict[str, str]]
    fates: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class House:
    """Videos, and the outputs of undisturbed runs over them, once made."""

    folder: Path

    @property
    def videos(self) -> Path:
        return self.folder / "videos"


def begin(house: House, output: Path, settings: Sequence[str] = (), watch: tuple[Path, str] | None = None) -> subprocess.Popen[str]:
    return start("real", house.videos, output, settings, watch)


def finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said


def kill(process: subprocess.Popen[str]) -> bool:
    """Kill the whole process tree at once; return whether the driver was still there."""
    was_there = process.poll() is None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        assert not was_there
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while left := session(process.pid):
        assert time.monotonic() < deadline, f"processes {left} outlived the kill"
        time.sleep(0.01)
    return was_there


def session(leader: int) -> list[int]:
    """Return the live processes of a session, whatever group they are in."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, *rest = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(rest[2]) == leader and state not in "ZX":
                found.append(int(folder.name))
    return found


def whole(house: House, output: Path, settings: Sequence[str] = ()) -> Whole:
    """Run undisturbed."""
    started = time.monotonic()
    finish(begin(house, output, settings))
    seconds = time.monotonic() - started
    assert strays(output) == []
    return Whole(digests(output, *FINAL), shard_digests(output), dict(check_fates(output)), seconds)


def check(output: Path, expected: Whole) -> None:
    """Assert that an output is what an undisturbed run leaves."""
    assert digests(output, *FINAL) == expected.files
    assert shard_digests(output) == expected.shards
    assert strays(output) == []
    assert dict(check_fates(output)) == expected.fates
    assert [str(problem) for problem in verify(str(output))] == []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Five videos of two to four shots in three shards."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "videos").mkdir()
    for number in range(5):
        shots = [Shot(seconds=0.4 + 0.2 * k, px_per_second=60, seed=10 * number + k) for k in range(2 + number % 3)]
        (folder / "videos" / f"v{number}.mp4").write_bytes(encode(draw(shots, height=90, width=160)))
    return House(folder)


@pytest.fixture(scope="module")
def undisturbed(house: House) -> Whole:
    return whole(house, house.folder / "undisturbed", SETTINGS)


@pytest.fixture(scope="module")
def changed(house: House) -> Whole:
    return whole(house, house.folder / "changed", CHANGED)


def test_the_two_settings_differ(undisturbed: Whole, changed: Whole) -> None:
    assert undisturbed.fates["train.output.kept"] == 8
    assert changed.fates["train.output.kept"] == 9
    assert undisturbed.files.keys() != changed.files.keys()


# --- at random moments


def run_killed(house: House, output: Path, moments: random.Random, num_kills: int, undisturbed: Whole) -> int:
    """Run, kill and run again until a run comes to its end; return the number of kills, at most `num_kills`."""
    for killed in range(num_kills):
        process = begin(house, output, SETTINGS)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moments.uniform(0, 0.7 * undisturbed.seconds))
        if not kill(process):
            return killed
    finish(begin(house, output, SETTINGS))
    return num_kills


def kill_at_random(house: House, folder: Path, undisturbed: Whole, seed: int, num_kills: int) -> int:
    """Kill runs until so many died; return the number of outputs that they were spread over."""
    moments = random.Random(seed)
    num_outputs = left = 0
    left = num_kills
    while left:
        output = folder / f"out-{num_outputs}"
        left -= run_killed(house, output, moments, min(left, 8), undisturbed)
        finish(begin(house, output, SETTINGS))
        check(output, undisturbed)
        num_outputs += 1
    return num_outputs


def test_four_kills_at_random_moments(house: House, undisturbed: Whole, tmp_path: Path) -> None:
    kill_at_random(house, tmp_path, undisturbed, seed=1, num_kills=4)


@pytest.mark.prove
def test_thirty_kills_at_random_moments(house: House, undisturbed: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    num_outputs = kill_at_random(house, tmp_path, undisturbed, seed=2, num_kills=30)
    with capsys.disabled():
        sys.stdout.write(f"\n30 kills, spread over {num_outputs} outputs: each ended as an undisturbed run\n")


# --- before every single change of the output


def changes(house: House, output: Path, settings: Sequence[str] = SETTINGS) -> list[str]:
    """Run undisturbed and return the changes that the run made to the output, in order."""
    log = output.with_suffix(".log")
    finish(begin(house, output, settings, (log, "0")))
    return log.read_text().splitlines()


def kill_before(house: House, output: Path, number: int, settings: Sequence[str]) -> str:
    """Run until just before a change, and return that change; the whole group is dead then."""
    log = output.with_suffix(".log")
    log.unlink(missing_ok=True)
    process = begin(house, output, settings, (log, str(number)))
    said, _ = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGKILL, 0), said
    kill(process)
    lines = log.read_text().splitlines() if log.exists() else []
    return lines[number - 1] if len(lines) >= number else ""


def test_a_kill_while_the_manifest_is_written(house: House, undisturbed: Whole, tmp_path: Path) -> None:
    found = changes(house, tmp_path / "watched")
    last = next(number for number, line in enumerate(found, 1) if line.startswith("os.rename train/manifest.json"))
    output = tmp_path / "out"
    assert kill_before(house, output, last, SETTINGS) == "os.rename train/manifest.json"
    assert not (output / "train/manifest.json").exists()
    assert len(list(output.glob("train/*/manifest.json"))) == 1, "the packing is whole, and nobody points to it yet"
    finish(begin(house, output, SETTINGS))
    check(output, undisturbed)


@pytest.mark.prove
@pytest.mark.parametrize("over", ["nothing", "what other settings made"])
def test_a_kill_before_every_change_of_the_output(
    house: House, undisturbed: Whole, changed: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str], over: str
) -> None:
    def prepare(output: Path) -> Path:
        if over != "nothing":
            shutil.copytree(house.folder / "changed", output)
        return output

    found = changes(house, prepare(tmp_path / "watched"))
    for name in ("set.json", "digests.json", "manifest.json", "index.parquet"):
        assert any(f"rename {folder.name}/{name}" in line for line in found for folder in (tmp_path / "watched").iterdir()), name
    assert over == "nothing" or any(line.startswith("os.remove clips/000000-") for line in found)
    seen = []
    for number in range(1, len(found) + 1):
        output = prepare(tmp_path / f"out-{number}")
        seen.append(kill_before(house, output, number, SETTINGS))
        finish(begin(house, output, SETTINGS))
        check(output, undisturbed)
        shutil.rmtree(output)
    with capsys.disabled():
        sys.stdout.write(f"\nkilled before each of {len(found)} changes over {over}: {sorted({*map(kind_of, seen)})}\n")


def kind_of(change: str) -> str:
    """Return a change without what is different in every run: `link 000000.parquet`, `rename set.json`."""
    what, _, path = change.removeprefix("os.").partition(" ")
    return f"{what} {re.sub(r'[0-9a-f]{8,}', '*', path.rpartition('/')[2])}"


# --- a kill, and then other settings


def test_other_settings_after_a_kill(house: House, undisturbed: Whole, changed: Whole, tmp_path: Path) -> None:
    output = tmp_path / "out"
    num = len(changes(house, tmp_path / "watched"))
    kill_before(house, output, num // 2, SETTINGS)
    kill_before(house, output, num // 3, CHANGED)
    finish(begin(house, output, CHANGED))
    check(output, changed)
    kill_before(house, output, num // 2, SETTINGS)
    finish(begin(house, output, SETTINGS))
    check(output, undisturbed)


@pytest.mark.prove
def test_other_settings_after_kills_at_random_changes(house: House, undisturbed: Whole, changed: Whole, tmp_path: Path) -> None:
    moments = random.Random(3)
    output = tmp_path / "out"
    num = len(changes(house, tmp_path / "watched"))
    for _ in range(12):
        wanted, settings = moments.choice([(undisturbed, SETTINGS), (changed, CHANGED)])
        kill_before(house, output, moments.randint(1, num), settings)
        if moments.random() < 0.5:
            finish(begin(house, output, settings))
            check(output, wanted)


# --- two runs at once


def run_twice(house: House, output: Path, settings: Sequence[str], delay: float = 0.0) -> None:
    """Start two whole runs on one output and wait for both."""
    first = begin(house, output, settings)
    time.sleep(delay)
    second = begin(house, output, settings)
    finish(first)
    finish(second)


def test_two_runs_started_at_the_same_moment(house: House, undisturbed: Whole, tmp_path: Path) -> None:
    for repetition in range(2):
        output = tmp_path / f"out-{repetition}"
        run_twice(house, output, SETTINGS)
        check(output, undisturbed)
    before = files(output)
    finish(begin(house, output, SETTINGS))
    assert files(output) == before, "a third run finds nothing to do"


@pytest.mark.prove
def test_two_runs_started_within_moments_of_each_other(house: House, undisturbed: Whole, changed: Whole, tmp_path: Path) -> None:
    moments = random.Random(4)
    output = tmp_path / "out"
    for _ in range(6):
        run_twice(house, output, SETTINGS, moments.uniform(0, 1))
        check(output, undisturbed)
        # Now there is something to supersede, which one run takes away while the other reads it.
        run_twice(house, output, CHANGED, moments.uniform(0, 1))
        check(output, changed)


# --- the driver alone is killed


def test_workers_die_with_the_driver(house: House, undisturbed: Whole, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = begin(house, output, ["seconds=0.5"])
    deadline = time.monotonic() + 60
    while not (output / "features/set.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    assert len(session(process.pid)) > 1, "there are workers"
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while left := session(process.pid):
        assert time.monotonic() < deadline, f"{left} outlived the driver"
        time.sleep(0.1)
    finish(begin(house, output, SETTINGS))
    assert strays(output) == []
    check_fates(output)
