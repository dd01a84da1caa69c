"""Stages for the tests of the runtime: what they saw is what they write."""

from __future__ import annotations

import gc
import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.core.frames import AllFrames, Frame, Frames, FramesWanted, PerSecond
from shardprep.core.outcome import Dropped, Failed, Joined, Kept, Outcome, Split
from shardprep.core.sample import Sample, child_key
from shardprep.core.stage import ColumnType, Filter, Map, Stage, Watcher

BATCH: Mapping[str, ColumnType] = {"batch": "member", "scores.batch": "int64"}
FRAMES: Mapping[str, ColumnType] = {"scores.frames": "int64"}
ALIVE: Mapping[str, ColumnType] = {"scores.alive": "int64", "scores.batch": "int64"}
HASH: Mapping[str, ColumnType] = {"scores.hash": "string", "trace": "member"}
LENGTH: Mapping[str, ColumnType] = {"scores.length": "int64"}


@dataclass(frozen=True, kw_only=True)
class TellBatch(Stage):
    """Writes who was in its batch, and what their frames were, after a random while."""

    batch_size: int = 3
    max_seconds: float = 0.01

    frames = FramesWanted(PerSecond(10))
    writes = BATCH

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        time.sleep(random.random() * self.max_seconds)
        told = "\n".join(f"{s.key} {s.frames and hashlib.sha256(s.frames.images).hexdigest()}" for s in batch).encode()
        return [Kept(s.with_member("batch.txt", BytesBlob(told)).with_columns({"scores.batch": len(batch)})) for s in batch]


@dataclass(frozen=True, kw_only=True)
class CountAlive(Stage):
    """Writes how many samples' frames are in memory."""

    batch_size: int = 100

    frames = FramesWanted(PerSecond(10))
    writes = ALIVE

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        # Decoding goes on while this stage works.
        time.sleep(0.05)
        alive = sum(type(one) is Frames for one in gc.get_objects())
        return [Kept(sample.with_columns({"scores.alive": alive, "scores.batch": len(batch)})) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class WatchHash(Stage):
    """Writes a digest of all frames as a column and as a member."""

    frames = FramesWanted(AllFrames(), colour="gray")
    writes = HASH

    def watch(self, sample: Sample) -> Watcher:
        return _Hasher(sample)


class _Hasher:
    def __init__(self, sample: Sample) -> None:
        self._sample, self._hash = sample, hashlib.sha256()

    def see(self, frame: Frame) -> None:
        self._hash.update(frame.image)

    def finish(self) -> Outcome:
        told = self._hash.hexdigest()
        return Kept(self._sample.with_columns({"scores.hash": told}).with_member("trace.txt", BytesBlob(told.encode())))


@dataclass(frozen=True, kw_only=True)
class SplitInTwo(Stage):
    """Two children with half of the bytes each; none where there is but one byte."""

    splits = True
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Split(tuple(self._children(sample))) for sample in batch]

    def _children(self, sample: Sample) -> list[tuple[str, Kept | Dropped | Failed]]:
        data = read_blob(sample.members["video"].blob)
        halves = [data[: len(data) // 2], data[len(data) // 2 :]] if len(data) > 1 else []
        keys = [child_key(sample.key, index) for index in range(len(halves))]
        return [(key, Kept(replace(sample, key=key).with_member("mp4", BytesBlob(half)))) for key, half in zip(keys, halves, strict=True)]


@dataclass(frozen=True, kw_only=True)
class DropOdd(Filter):
    """Drops every other sample, with frames or without."""

    wants_frames: bool = False

    @property
    def frames(self) -> FramesWanted | None:
        return FramesWanted(PerSecond(1)) if self.wants_frames else None

    reads = ("source.name",)

    def judge(self, sample: Sample) -> Dropped | None:
        return Dropped("odd") if int(sample.get("source.name")[1:].split(".")[0]) % 2 else None


@dataclass(frozen=True, kw_only=True)
class Measure(Map):
    """Writes the number of bytes."""

    accepts = ("video",)
    writes = LENGTH

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"scores.length": sample.members["video"].blob.size})


@dataclass(frozen=True, kw_only=True)
class JoinPairs(Stage):
    """One sample per group, with the bytes of all."""

    group_by: str = "meta.pair"
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        key = f"{batch[0].get(self.group_by)}-joined"
        data = b"".join(read_blob(sample.members["video"].blob) for sample in batch)
        joined = replace(batch[0], key=key).with_member("mp4", BytesBlob(data))
        return [Kept(joined), *(Joined(key) for _ in batch[1:])]
