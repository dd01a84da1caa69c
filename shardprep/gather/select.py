"""Select: which samples of a set are kept, decided by an expression over their columns; only ledgers are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from shardprep.core.outcome import Dropped
from shardprep.core.sample import Sample
from shardprep.expressions.query import evaluate, run_query
from shardprep.expressions.tables import arrow_table
from shardprep.gather.settings import Select
from shardprep.runtime.item import Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.rows import Outgoing, Result
from shardprep.runtime.task import ShardResult, ShardTask
from shardprep.runtime.write import ShardWriter
from shardprep.shards.ledger import InputRow, OutputRow
from shardprep.shards.store import Store

Decisions = Mapping[str, Dropped | None]
"""Why each sample is dropped, or None where it is kept."""

_STAGE = "select"


def decide(select: Select, samples: Sequence[Sample]) -> Decisions:
    """Return the decision on every sample; all of the set's samples are needed where `sort`, `limit` or a number of samples is set."""
    answers = evaluate(select.where, [sample.record for sample in samples])
    decisions: dict[str, Dropped | None] = {}
    for sample, answer in zip(samples, answers, strict=True):
        unknown = Dropped("unknown", f"{select.where!r} is null: a column that it reads has no value")
        decisions[sample.key] = None if answer else unknown if answer is None else Dropped("where", select.where)
    kept = [sample for sample in samples if decisions[sample.key] is None]
    for reason, chosen in _thinned(select, kept):
        gone = {sample.key for sample in kept} - {sample.key for sample in chosen}
        decisions |= dict.fromkeys(gone, Dropped(reason))
        kept = chosen
    return decisions


def write_selection(task: ShardTask, samples: Sequence[Sample], decisions: Decisions) -> ShardResult:
    """Commit the ledger of one shard of a selection."""
    work = Work(task.settings, Journal(None))
    with ShardWriter(task, Store(task.out_url, task.storage_options), work) as writer:
        for sample in samples:
            dropped = decisions[sample.key]
            if dropped is None:
                row = OutputRow(key=sample.key, parent=sample.key, fate="kept")
                writer.add(Result(InputRow(key=sample.key, fate="kept", into=(sample.key,)), [Outgoing(row)]))
            else:
                row_in = InputRow(key=sample.key, fate="dropped", stage=_STAGE, reason=dropped.reason, detail=dropped.detail or None)
                writer.add(Result(row_in, ()))
        committed, adopted = writer.commit(num_reused=0)
    return ShardResult(shard=task.shard, committed=committed, adopted=adopted, worked_on=len(samples), seconds={})


def _thinned(select: Select, kept: Sequence[Sample]) -> list[tuple[str, list[Sample]]]:
    """Return what is left after the draw and after the limit, with the reason of those that went."""
    steps: list[tuple[str, list[Sample]]] = []
    if select.sample is not None:
        drawn = sorted(kept, key=lambda sample: _draw(select.seed, sample.key))
        if isinstance(select.sample, float):
            kept = [sample for sample in drawn if _draw(select.seed, sample.key) < select.sample]
        else:
            kept = drawn[: select.sample]
        steps.append(("not-drawn", list(kept)))
    if select.limit is not None:
        steps.append(("over-limit", _first(select, sorted(kept, key=lambda sample: sample.key))))
    return steps


def _first(select: Select, kept: Sequence[Sample]) -> list[Sample]:
    if select.sort is None or not kept:
        return list(kept)[: select.limit]
    table = arrow_table([{"key": sample.key, **sample.record} for sample in kept])
    first = run_query(table, select=["key"], order_by=select.sort, limit=select.limit)
    chosen = set(first["key"].to_pylist())
    return [sample for sample in kept if sample.key in chosen]


def _draw(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on seed and key alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8]) / 2**64
