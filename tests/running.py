"""Running one stage on one sample, as the runtime does, on really decoded frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shardprep.core.blob import Blob, BytesBlob, FileBlob
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.plan import watches
from shardprep.core.sample import Member, Sample, merge_records
from shardprep.core.stage import Stage, Worker
from shardprep.media.decode import decode_frames


def sample_of(data: bytes | Path | Blob, suffix: str = "mp4", record: Mapping[str, Any] | None = None, key: str = "key") -> Sample:
    """Return a sample whose video (or image, by its suffix) is `data`."""
    if isinstance(data, Path):
        data, suffix = FileBlob(str(data), 0, data.stat().st_size), data.suffix[1:]
    member = Member(suffix, BytesBlob(data) if isinstance(data, bytes) else data)
    return Sample(key, record or {}, {member.role: member})


def run_stage(stage: Stage, sample: Sample, worker: Worker | None = None) -> Outcome:
    """Return the stage's outcome of the sample."""
    if stage.frames is None:
        return stage.open(worker or Worker())([sample])[0]
    blob = (sample.members.get("video") or sample.members["image"]).blob
    if watches(stage):
        watcher = stage.watch(sample)
        decode_frames(blob, [stage.frames], {0: watcher.see})
        return watcher.finish()
    frames = decode_frames(blob, [stage.frames]).frames[0]
    return stage.open(worker or Worker())([replace(sample, frames=frames)])[0]


def kept(outcome: Outcome) -> Sample:
    """Return the sample of an outcome that keeps it."""
    assert isinstance(outcome, Kept), outcome
    return outcome.sample


def run_stages(stages: list[Stage], sample: Sample) -> Sample:
    """Return the sample after several stages that keep it."""
    for stage in stages:
        sample = replace(sample, record=merge_records(sample.record, kept(run_stage(stage, sample)).record))
    return sample
