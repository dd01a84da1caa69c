"""Stages that misbehave, in every way that a stage can; workers import this file, so it imports little."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shardprep.core.frames import AllFrames, Frame, FramesWanted
from shardprep.core.outcome import Dropped, Kept, Outcome
from shardprep.core.progress import gets_on
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Process, Stage, Watcher, Worker
from shardprep.errors import Unavailable

CULPRIT = "v5.mp4"
SIZE: Mapping[str, ColumnType] = {"scores.size": "double"}
NUM_FRAMES: Mapping[str, ColumnType] = {"scores.frames": "int64"}


def abort() -> None:
    os.abort()


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(0)


def leave_politely() -> None:
    sys.exit(3)


class RustPanic(BaseException):
    """Stands for pyo3's PanicException, which derives from BaseException too."""


class Wordless(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise TypeError("no words")


def panic() -> None:
    raise RustPanic("called `Option::unwrap()` on a `None` value")


def cancel() -> None:
    raise asyncio.CancelledError


def exit_a_generator() -> None:
    raise GeneratorExit


def fail_without_words() -> None:
    raise Wordless


def interrupt() -> None:
    raise KeyboardInterrupt


def eat() -> None:
    eaten = bytearray(3 << 30)
    time.sleep(1000)
    del eaten


def hang() -> None:
    time.sleep(1000)


def work_on() -> None:
    """Take long, and say all the while that it gets on."""
    for _ in range(20):
        time.sleep(0.1)
        gets_on()


def hang_with_the_gil() -> None:
    # PyDLL, other than CDLL, holds the GIL: no thread of the process runs any more.
    ctypes.PyDLL(None).sleep(1000)


def hang_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def complain() -> None:
    raise RuntimeError("the flow does not converge")


def lose_the_device() -> None:
    # In the words of torch; afterwards every call of a real process fails so.
    raise RuntimeError("CUDA error: device-side assert triggered")


def run_out_of_memory() -> None:
    raise MemoryError("cannot hold the latents")


MISDEEDS: dict[str, Callable[[], None]] = {f.__name__: f for f in (abort, segfault, leave, leave_politely, hang, hang_with_the_gil)}
MISDEEDS |= {f.__name__: f for f in (eat, panic, cancel, exit_a_generator, fail_without_words, interrupt)}
MISDEEDS |= {f.__name__: f for f in (hang_deaf, complain, lose_the_device, run_out_of_memory, work_on)}
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
    """Scores its samples, but for some, on which it does what `how` says by file name."""

    how: Mapping[str, str]
    batch_size: int = 1
    timeout_seconds: float = 20

    accepts = ()
    writes = SIZE

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        outcomes = [Kept(sample.with_columns({"scores.size": float(len(batch))})) for sample in batch]
        for how in (self.how[name] for sample in batch if (name := sample.get("source.name")) in self.how):
            if how in ANSWERS:
                return ANSWERS[how](outcomes)
            MISDEEDS[how]()
        return outcomes


@dataclass(frozen=True, kw_only=True)
class MisbehaveWatching(Stage):
    """Counts frames, but misbehaves at the second frame of the culprit: in the thread that decodes."""

    how: str
    timeout_seconds: float = 20

    frames = FramesWanted(AllFrames(), colour="none")
    writes = NUM_FRAMES

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
    writes = SIZE

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        if len(batch) > 2 or (not self.spare and any(map(is_culprit, batch))):
            raise MemoryError(f"cannot hold {len(batch)} samples")
        return [Kept(sample.with_columns({"scores.size": float(len(batch))})) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class AbortOnChild(Stage):
    """Aborts on one child of the culprit."""

    key_end: str
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        for sample in batch:
            if is_culprit(sample) and sample.key.endswith(self.key_end):
                os.abort()
        return [Kept(sample) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class RemoveTars(Stage):
    """Removes the tars of a folder."""

    folder: str
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        for tar in Path(self.folder).glob("*.tar"):
            tar.unlink()
        return [Kept(sample) for sample in batch]


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
    batch_size: int = 1
    accepts: tuple[str, ...] = ()

    writes = SIZE

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        for sample in batch:
            (Path(self.folder) / f"{sample.key[:2]}-{time.monotonic_ns()}").write_text(str(os.getpid()))
        time.sleep(self.seconds)
        return [Kept(sample.with_columns({"scores.size": float(len(batch))})) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class LingerThen(Stage):
    """Notes the process it runs in, and misbehaves on any sample."""

    folder: str
    how: str
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        (Path(self.folder) / batch[0].key).write_text(str(os.getpid()))
        MISDEEDS[self.how]()
        return [Kept(sample) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class DropOne(Stage):
    """Drops v1, so that there is a decision among the accidents."""

    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Dropped("unwanted") if sample.get("source.name") == "v1.mp4" else Kept(sample) for sample in batch]


def is_culprit(sample: Sample) -> bool:
    return sample.get("source.name") == CULPRIT
