"""Stages outside shardprep: in a plain webdataset pipeline, or on one sample in a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from shardprep.core.blob import BytesBlob, FileBlob, read_blob
from shardprep.core.fingerprint import canonical_json
from shardprep.core.outcome import Dropped, Failed, Joined
from shardprep.core.sample import RECORD_SUFFIX, Member, Sample, flatten, role_of
from shardprep.core.stage import Stage, Worker
from shardprep.errors import ShardprepError
from shardprep.runtime.item import Item, Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.pipeline import run_stages
from shardprep.runtime.rows import plain_value
from shardprep.runtime.task import WorkSettings
from shardprep.shards.packed_record import unpack_record

WebSample = dict[str, Any]
"""A sample as webdataset yields it: `__key__`, and bytes by suffix."""


class SampleFailed(ShardprepError):
    """A stage failed on a sample, outside a run that would have recorded it."""


def as_webdataset(
    *stages: Stage, worker: Worker | None = None, on_failure: Literal["raise", "drop"] = "raise"
) -> Callable[[Iterable[WebSample]], Iterator[WebSample]]:
    """Return a function for `webdataset.WebDataset(...).compose(...)` that runs the stages over undecoded samples.

    Dropped samples are left out. A failed one raises SampleFailed, or is left out with `on_failure="drop"`. The `json`
    member comes back as bytes with the new columns, new members as bytes under their suffixes.
    """

    def run(samples: Iterable[WebSample]) -> Iterator[WebSample]:
        for item in run_on((from_webdataset(sample) for sample in samples), stages, worker):
            try:
                if isinstance(item.outcome, Failed):
                    raise SampleFailed(f"{item.sample.key}: {item.stage} failed: {item.outcome.detail}")
                if item.outcome is None:
                    yield to_webdataset(item.sample)
            except SampleFailed:
                if on_failure == "raise":
                    raise

    return run


def apply_stages(source: Sample | str | Path, *stages: Stage, worker: Worker | None = None) -> list[Sample | Dropped | Failed]:
    """Run stages on one sample, or on a video or image file, and return what it became: one entry, or one per child."""
    sample = source if isinstance(source, Sample) else from_file(Path(source))
    items = run_on([sample], stages, worker)
    return [item.sample if item.outcome is None else item.outcome for item in items if not isinstance(item.outcome, Joined)]


def run_on(samples: Iterable[Sample], stages: Iterable[Stage], worker: Worker | None = None) -> Iterator[Item]:
    """Run stages over samples in this process and yield what they became, in order."""
    worker = worker or Worker()
    stages = tuple(stages)
    processes = {id(stage): stage.open(worker) for stage in stages}
    with Work(WorkSettings(threads=worker.threads, on_corrupt=worker.on_corrupt), Journal(None)) as work:
        yield from run_stages(stages, processes, (Item(sample.key, sample) for sample in samples), work)


def from_file(path: Path) -> Sample:
    """Return a video or image file as a sample whose key is its name."""
    suffix = path.suffix.lower().lstrip(".")
    member = Member(suffix, FileBlob(str(path), 0, path.stat().st_size))
    return Sample(path.stem, {"source": {"path": path.name, "name": path.name, "bytes": path.stat().st_size}}, {role_of(suffix): member})


def from_webdataset(sample: Mapping[str, Any]) -> Sample:
    """Return an undecoded webdataset sample as ours; ValueError where a member is no bytes."""
    record: Any = {}
    members: dict[str, Member] = {}
    for suffix, value in sample.items():
        if suffix.startswith("__"):
            continue
        if suffix == RECORD_SUFFIX:
            record = unpack_record(json.loads(value) if isinstance(value, (bytes, str)) else value)
        elif isinstance(value, bytes):
            members[role_of(suffix)] = Member(suffix, BytesBlob(value))
        else:
            raise ValueError(f"{sample['__key__']}.{suffix} is a {type(value).__name__}; put the stages before .decode()")
    return Sample(sample["__key__"], record, members)


def to_webdataset(sample: Sample) -> WebSample:
    """Return a sample as webdataset has them before decoding; SampleFailed where its record is no JSON."""
    members = {member.suffix: read_blob(member.blob) for member in sample.members.values()}
    # Others' records may have columns without a group, which a ledger has not.
    try:
        record = {name: plain_value(name, value, None) for name, value in flatten(sample.record)}
    except ValueError as error:
        raise SampleFailed(f"{sample.key}: {error}") from error
    return {"__key__": sample.key, RECORD_SUFFIX: canonical_json(Sample("").with_columns(record).record).encode(), **members}
