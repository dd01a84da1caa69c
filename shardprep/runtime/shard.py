"""The loop over one shard: read, work, write, commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from shardprep.core.fingerprint import digest
from shardprep.core.outcome import Failed
from shardprep.core.reads import roles_of
from shardprep.core.sample import Sample
from shardprep.core.stage import Process
from shardprep.errors import Forbidden, ShardError, ShardprepError, StoreError, Unavailable
from shardprep.runtime.guarded import guarded, unreadable_reason
from shardprep.runtime.item import Item, Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.pipeline import run_stages
from shardprep.runtime.reuse import find_earlier, sample_digest
from shardprep.runtime.rows import Result, result_of
from shardprep.runtime.same_weights import check_weights
from shardprep.runtime.task import ShardResult, ShardTask
from shardprep.runtime.write import ShardWriter, find_standing
from shardprep.shards.checked import CheckedBlob
from shardprep.shards.join import read_chain
from shardprep.shards.set import Committed
from shardprep.shards.store import Store
from shardprep.sources.entry import SourceEntry, open_entry
from shardprep.sources.refused import check_store


def make_shard(task: ShardTask, processes: Mapping[int, Process]) -> ShardResult:
    """Make one shard and commit it; `processes` are the opened stages by `id`.

    Raises Unavailable, ShardError, StoreError or WeightsChanged where nothing could be committed.
    """
    store = Store(task.out_url, task.storage_options)
    if standing := find_standing(task, store):
        return _adopted(standing, task)
    journal = Journal(task.journal)
    try:
        with Work(task.settings, journal, task.alone, task.verdicts) as work:
            return _make(task, processes, work, store)
    except (ShardError, StoreError):
        # Another run that was first has taken away what this one was reading.
        if standing := find_standing(task, store):
            return _adopted(standing, task)
        raise
    finally:
        journal.close()


def _adopted(standing: Committed, task: ShardTask) -> ShardResult:
    return ShardResult(shard=task.shard, committed=standing, adopted=True, worked_on=0, seconds={})


def _make(task: ShardTask, processes: Mapping[int, Process], work: Work, store: Store) -> ShardResult:
    items, digests = _inputs(task)
    earlier = find_earlier(task, store)
    reused = earlier.results(digests, store, together=task.joins)
    todo = [item for item in items if item.origin not in reused]
    with ShardWriter(task, store, work) as writer:
        made = _results(run_stages(task.stages, processes, _checked(todo, task, work), work), task, digests)
        video_seconds = 0.0
        for item in items:
            result = reused[item.origin] if item.origin in reused else next(made)
            writer.add(result)
            video_seconds += _seconds(item.sample.record) or sum(_seconds(out.row.record) for out in result.outgoing)
        # A generator that is asked once more runs what follows its last sample.
        assert next(made, None) is None, "more results than samples"
        _check_inputs(task)
        # A file that is written over changes under the tensors that a library has mapped of it.
        check_weights(task.weights, local_only=True)
        committed, adopted = writer.commit(num_reused=len(reused), reused_seconds=earlier.seconds_per_sample * len(reused))
    return ShardResult(
        shard=task.shard,
        committed=committed,
        adopted=adopted,
        worked_on=len(todo),
        seconds=dict(work.seconds),
        errors=tuple(work.errors),
        video_seconds=video_seconds,
    )


def _seconds(record: Mapping[str, Any]) -> float:
    """Return how long a sample's clip or video is, 0.0 where nothing says so yet."""
    found = (record.get(group, {}).get("seconds") for group in ("clip", "media"))
    return next((float(value) for value in found if isinstance(value, (int, float))), 0.0)


def _inputs(task: ShardTask) -> tuple[list[Item], dict[str, str]]:
    """Return the input samples in order, those that cannot be read with their failure, and the digests of all."""
    if task.chain:
        samples = read_chain(task.chain, task.storage_options)
        digests = {sample.key: sample_digest(sample, task.reads, task.is_base) for sample in samples}
        items = [Item(sample.key, sample) for sample in samples]
    else:
        items = [_from_source(entry, task) for entry in task.entries]
        digests = {entry.key: digest(entry.identity()) for entry in task.entries}
    return items, digests


def _checked(items: Iterable[Item], task: ShardTask, work: Work) -> Iterator[Item]:
    """Yield the items as stages ask for them, after their members were read once: a decoder shows rot as a picture, or blames the video."""
    roles = roles_of(task.reads)
    for item in items:
        for blob in (item.sample.members[role].blob for role in roles if role in item.sample.members):
            if isinstance(blob, CheckedBlob):
                blob.check(work.journal.beat)
        yield item


def _from_source(entry: SourceEntry, task: ShardTask) -> Item:
    if entry.failure:
        return Item(entry.key, Sample(entry.key, entry.record), entry.failure, "source")
    # Of a list's many web servers one may be gone for good; that is its samples' fault, once trying again did not help.
    is_blamed = task.is_last_attempt and entry.is_on_web

    def check(refusal: Forbidden) -> None:
        check_store(entry, refusal, task.witnesses, task.source_options)

    try:
        return Item(entry.key, guarded(open_entry(entry, task.source_options), check, if_unavailable=is_blamed))
    except (OSError, ShardprepError) as error:
        if isinstance(error, Unavailable) and not is_blamed:
            raise
        if isinstance(error, Forbidden):
            check(error)
        return Item(entry.key, Sample(entry.key, entry.record), Failed(unreadable_reason(error), str(error)), "source")


def _check_inputs(task: ShardTask) -> None:
    """Raise ShardError where an input tar has gone meanwhile: its samples failed for want of it, and not by themselves."""
    for at in task.chain:
        path = Store(at.url, task.storage_options).path(at.tar) if at.tar else None
        if path is not None and not path.exists():
            raise ShardError(f"{path} was removed while shard {task.shard} of {task.step} was made from it; run the recipe again")


def _results(items: Iterable[Item], task: ShardTask, digests: Mapping[str, str]) -> Iterator[Result]:
    for origin, group in groupby(items, key=lambda item: item.origin):
        yield result_of(origin, list(group), digests[origin], task)
