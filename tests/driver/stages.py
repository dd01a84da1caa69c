"""Stages that tell what they were asked to do: what a rerun does is counted, not timed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.core.outcome import Failed, Joined, Kept, Outcome, Split
from shardprep.core.sample import Sample, child_key
from shardprep.core.stage import ColumnType, Map, Process, Stage, Worker

LOG = "SHARDPREP_TEST_LOG"
"""Environment variable: the folder in which stages note their calls, and in which `refuse` names the sources that fail."""


_NUMBER: Mapping[str, ColumnType] = {"scores.number": "double"}
_TAIL: Mapping[str, ColumnType] = {"tail": "member", "scores.tail": "double"}
_HALF: Mapping[str, ColumnType] = {"video": "member", "clip.index": "int64"}
_RENUMBERED: Mapping[str, ColumnType] = {"scores.renumbered": "double"}
_NAME: Mapping[str, ColumnType] = {"copy.name": "string"}
_PAIR: Mapping[str, ColumnType] = {"pair.size": "int64"}


def note(line: str) -> None:
    """Append a line to the log; workers write to one file."""
    if folder := os.environ.get(LOG):
        fd = os.open(Path(folder) / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{line}\n".encode())
        os.close(fd)


def noted(folder: Path) -> list[str]:
    """Return the lines noted so far, sorted, and forget them."""
    log = folder / "log"
    lines = sorted(log.read_text().splitlines()) if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


@dataclass(frozen=True, kw_only=True)
class Number(Map):
    """The number in the source's name, scaled."""

    scale: float = 1.0

    reads = ("source.name",)
    writes = _NUMBER

    def apply(self, sample: Sample) -> Sample:
        note(f"number {sample.get('source.name')}")
        return sample.with_columns({"scores.number": float(Path(sample.get("source.name")).stem.lstrip("v") or 0) * self.scale})


@dataclass(frozen=True, kw_only=True)
class Costly(Stage):
    """Makes a member of the video's bytes, slowly; fails for the sources that `refuse` names."""

    length: int = 4
    seconds: float = 0.0

    reads = ("video", "source.name")
    writes = _TAIL

    def open(self, worker: Worker) -> Process:
        note("open costly")
        return self.process

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Sample) -> Outcome:
        note(f"costly {sample.key[:6]}")
        time.sleep(self.seconds)
        refuse = Path(os.environ.get(LOG, ".")) / "refuse"
        if refuse.exists() and sample.get("source.name") in refuse.read_text().split():
            return Failed("refused", f"{sample.get('source.name')} is refused for now")
        data = read_blob(sample.members["video"].blob)[-self.length :]
        return Kept(sample.with_member("tail.bin", BytesBlob(data * 100)).with_columns({"scores.tail": float(sum(data))}))


@dataclass(frozen=True, kw_only=True)
class Halve(Stage):
    """Splits every video into two copies."""

    splits = True
    replaces = ("video",)
    writes = _HALF

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [
            Split(
                tuple(
                    (key, Kept(Sample(key, sample.record, sample.members).with_columns({"clip.index": k})))
                    for k in range(2)
                    if (key := child_key(sample.key, k))
                )
            )
            for sample in batch
        ]


@dataclass(frozen=True, kw_only=True)
class JoinPairs(Stage):
    """Joins the samples of a group into the first of them, and counts them."""

    reads = ("meta.pair",)
    writes = _PAIR
    group_by = "meta.pair"
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        note(f"join {len(batch)}")
        first = batch[0]
        return [Kept(first.with_columns({"pair.size": len(batch)})), *(Joined(first.key) for _ in batch[1:])]


@dataclass(frozen=True, kw_only=True)
class Renumber(Map):
    """Changes the odd samples in place beside what it declares."""

    writes = _RENUMBERED

    def apply(self, sample: Sample) -> Sample:
        source: Any = sample.record["source"]
        if Path(source["name"]).stem[-1] in "13579":
            source["name"] = "changed"
        return sample.with_columns({"scores.renumbered": 1.0})


@dataclass(frozen=True, kw_only=True)
class CopyName(Map):
    """Writes the name that it sees."""

    reads = ("source.name",)
    writes = _NAME

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"copy.name": sample.get("source.name")})
