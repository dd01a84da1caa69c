"""The first failure of a step, for its summary: who failed, where and why."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from shardprep.errors import ShardError, StoreError
from shardprep.shards.counts import num_lost
from shardprep.shards.ledger import InputRow, OutputRow
from shardprep.shards.set import Committed, ShardSet


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One sample that failed."""

    key: str
    stage: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.key}: {self.stage or 'source'}: {self.detail or self.reason}"


def first_failure(shard_set: ShardSet, committed: Mapping[str, Committed]) -> Failure | None:
    """Return the first sample that failed, of the first shard that has one; one ledger is opened for it."""
    shard = min((shard for shard, one in committed.items() if num_lost(one.counts, "failed")), default=None)
    if shard is None:
        return None
    # A summary that cannot say which one still says how many.
    with suppress(ShardError, StoreError):
        ledger = shard_set.ledger(committed[shard].ledger)
        rows: list[InputRow | OutputRow] = [*ledger.inputs, *ledger.outputs]
        for row in rows:
            if row.fate == "failed":
                return Failure(key=row.key, stage=row.stage or "", reason=row.reason or "", detail=row.detail or "")
    return None
