"""Stages that misbehave on one sample, in every way that a stage can, and what became of the samples."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shardprep.core.frames import AllFrames, Frame, FramesWanted
from shardprep.core.outcome import Dropped, Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Process, Stage, Watcher, Worker
from shardprep.driver.model import RunOptions, RunSummary
from shardprep.driver.run import run
from shardprep.errors import Unavailable
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec

CULPRIT = "v5.mp4"


def abort() -> None:
    os.abort()


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(0)


def leave_politely() -> None:
    sys.exit(3)


def hang() -> None:
    time.sleep(1000)


def hang_with_the_gil() -> None:
    # PyDLL, other than CDLL, holds the GIL: no thread of the process runs any more.
    ctypes.PyDLL(None).sleep(1000)


def complain() -> None:
    raise RuntimeError("the flow does not converge")


def run_out_of_memory() -> None:
    raise MemoryError("cannot hold the latents")


MISDEEDS: dict[str, Callable[[], None]] = {f.__name__: f for f in (abort, segfault, leave, leave_politely, hang, hang_with_the_gil)}
MISDEEDS |= {f.__name__: f for f in (complain, run_out_of_memory)}
ANSWERS: dict[str, Callable[[list[Any]], Any]] = {
    "too_few": lambda outcomes: outcomes[:-1],
    "too_many": lambda outcomes: [*outcomes, outcomes[-1]],
    "nothing": lambda outcomes: None,
    "samples": lambda outcomes: [outcome.sample for outcome in outcomes],
    "other_key": lambda outcomes: [Kept(replace(outcome.sample, key="other")) for outcome in outcomes],
    "undeclared": lambda outcomes: [Kept(outcome.sample.with_columns({"scores.more": 1.0})) for outcome in outcomes],
}


@dataclass(frozen=True, kw_only=True)
class Misbehave(Stage):
    """Scores its samples, but for the culprit, on which it does what `how` says."""

    how: str
    batch_size: int = 1
    timeout_seconds: float = 20

    accepts = ()
    writes = {"scores.size": "double"}

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        outcomes = [Kept(sample.with_columns({"scores.size": float(len(batch))})) for sample in batch]
        if any(is_culprit(sample) for sample in batch):
            if self.how in ANSWERS:
                return ANSWERS[self.how](outcomes)
            MISDEEDS[self.how]()
        return outcomes


@dataclass(frozen=True, kw_only=True)
class MisbehaveWatching(Stage):
    """Counts frames, but misbehaves at the second frame of the culprit: in the thread that decodes."""

    how: str
    timeout_seconds: float = 20

    frames = FramesWanted(AllFrames(), colour="none")
    writes = {"scores.frames": "int64"}

    def watch(self, sample: Sample) -> Watcher:
        return _Counter(self, sample)


class _Counter:
    def __init__(self, stage: MisbehaveWatching, sample: Sample) -> None:
        self._stage, self._sample, self._count = stage, sample, 0

    def see(self, frame: Frame) -> None:
        self._count += 1
        if self._count == 2 and is_culprit(self._sample):
            MISDEEDS[self._stage.how]()

    def finish(self) -> Outcome:
        return Kept(self._sample.with_columns({"scores.frames": self._count}))


@dataclass(frozen=True, kw_only=True)
class NeedMemory(Stage):
    """Fits batches of two; the culprit fits nowhere."""

    batch_size: int = 8
    spare: bool = False
    """Whether the culprit fits as well."""

    accepts = ()
    writes = {"scores.size": "double"}

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        if len(batch) > 2 or (not self.spare and any(map(is_culprit, batch))):
            raise MemoryError(f"cannot hold {len(batch)} samples")
        return [Kept(sample.with_columns({"scores.size": float(len(batch))})) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class FailToOpen(Stage):
    """Does something while it is opened."""

    how: str
    accepts = ()

    def open(self, worker: Worker) -> Process:
        MISDEEDS[self.how]()
        return self.process


@dataclass(frozen=True, kw_only=True)
class AskServer(Stage):
    """Asks a server that is down for the first calls, counted in a file."""

    log: str
    down: int
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        with Path(self.log).open("a+") as file:
            file.write("x")
            file.seek(0)
            calls = len(file.read())
        if calls <= self.down:
            raise Unavailable("the caption server at localhost:1 refuses connections")
        return [Kept(sample) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class Linger(Stage):
    """Notes the process it runs in, and waits where that is asked for."""

    folder: str
    seconds: float = 0.0
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        for sample in batch:
            (Path(self.folder) / f"{sample.key[:2]}-{time.monotonic_ns()}").write_text(str(os.getpid()))
        time.sleep(self.seconds)
        return [Kept(sample) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class DropOne(Stage):
    """Drops v1, so that there is a decision among the accidents."""

    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Dropped("unwanted") if sample.get("source.name") == "v1.mp4" else Kept(sample) for sample in batch]


def is_culprit(sample: Sample) -> bool:
    return sample.get("source.name") == CULPRIT


def make_files(folder: Path, count: int = 8) -> Path:
    """Write files that only look like videos: nothing decodes them."""
    folder.mkdir()
    for number in range(count):
        (folder / f"v{number}.mp4").write_bytes(bytes([number]) * 100)
    return folder


def recipe_of(sources: Path, output: Path, *stages: Stage, samples_per_shard: int = 8, **settings: Any) -> Recipe:
    """One pass over a folder of sources."""
    return Recipe(
        name="test",
        source=SourceSpec(videos=str(sources), samples_per_shard=samples_per_shard),
        output=str(output),
        settings=RunSettings(**{"workers": 1, "max_failed": 100, "memory": "64MiB", **settings}),
        steps=(Pass(name="work", stages=stages),),
    )


def run_over(sources: Path, output: Path, *stages: Stage, options: RunOptions | None = None, **settings: Any) -> RunSummary:
    return run(recipe_of(sources, output, *stages, **settings), options)


@dataclass(frozen=True)
class Fate:
    """A row of an input sample, as a stranger reads it."""

    fate: str
    stage: str | None
    reason: str | None
    detail: str | None


def fates(output: Path, step: str = "work") -> dict[str, Fate]:
    """Return the fate of every input of a step by the first characters of its key, read from the ledgers with pyarrow."""
    found: dict[str, Fate] = {}
    for path in sorted((output / step).glob("0*.parquet")):
        for row in pq.ParquetFile(path).read(columns=["role", "key", "fate", "stage", "reason", "detail"]).to_pylist():
            if row.pop("role") == "input":
                key = row.pop("key")[:2]
                assert key not in found, f"{key} has two fates"
                found[key] = Fate(**row)
    return found


def scores(output: Path, column: str = "size", step: str = "work") -> Mapping[str, float]:
    """Return a score of every output by the first characters of its key."""
    found = {}
    for path in sorted((output / step).glob("0*.parquet")):
        for row in pq.ParquetFile(path).read(columns=["role", "key", "fate", "scores"]).to_pylist():
            if row["role"] == "output" and row["fate"] == "kept":
                found[row["key"][:2]] = row["scores"][column]
    return found
