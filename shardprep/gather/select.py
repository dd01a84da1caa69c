"""Select: which samples of a set are kept, decided by an expression over their columns; only ledgers are written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from shardprep.core.outcome import Dropped, Failed
from shardprep.expressions.query import Query, order_reads, run_query
from shardprep.expressions.tables import ColumnPath, concat, project, resolve
from shardprep.gather.settings import Select
from shardprep.runtime.item import Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.rows import Outgoing, Result
from shardprep.runtime.task import ShardResult, ShardTask
from shardprep.runtime.write import ShardWriter
from shardprep.shards.join import Chain, chain_table
from shardprep.shards.ledger import InputRow, OutputRow
from shardprep.shards.store import Store

Decisions = dict[str, Dropped | None]
"""Why each sample is dropped, or None where it is kept."""

_STAGE = "select"
_SHARD = "shardprep_shard"
_MERGED_AT = 100_000
"""Candidates that are held before they are thinned again."""


@dataclass(frozen=True)
class Cut:
    """What one shard must know of the decision over all of them."""

    last_drawn: tuple[float, str] | None = None
    """Number and key of the last sample of the draw; None where no number of samples is drawn."""
    first: frozenset[str] | None = None
    """The keys of this shard that come within the limit; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class CandidatesTask:
    """A shard whose candidates for a limit or a draw are to be found: picklable, complete."""

    step: str
    shard: str
    select: Select
    chain: Chain
    storage_options: Mapping[str, Any] | None = None
    verdicts: Mapping[str, Failed] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    journal: str | None = None


@dataclass(frozen=True)
class Candidates:
    """The samples of a shard that a limit or a draw over all shards may choose: `key` and the columns of the order."""

    shard: str
    rows: pa.Table


@dataclass(frozen=True, kw_only=True)
class SelectTask:
    """A shard of a selection to decide and commit: picklable, complete."""

    step: str
    shard: str
    select: Select
    task: ShardTask
    cut: Cut = Cut()
    verdicts: Mapping[str, Failed] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    journal: str | None = None


def find_candidates(task: CandidatesTask) -> Candidates:
    """Return the candidates of one shard; only the columns that the selection names are read, and only ledgers."""
    selection = _selection(task.select)
    return Candidates(task.shard, selection.candidates(chain_table(task.chain, task.storage_options, selection.columns)))


def choose(select: Select, found: Iterable[Candidates]) -> dict[str, Cut]:
    """Return the decision over all shards by shard; no more candidates are held at once than it keeps, and some besides."""
    selection = _selection(select)
    held = pa.table({"key": pa.array([], pa.string()), _SHARD: pa.array([], pa.string())})
    shards = []
    for one in found:
        shards.append(one.shard)
        held = concat([held, one.rows.append_column(_SHARD, pa.array([one.shard] * len(one.rows), pa.string()))])
        if len(held) > 2 * (select.sample if isinstance(select.sample, int) else select.limit or 0) + _MERGED_AT:
            held = selection.thinned(held)
    return selection.cuts(held, shards)


def select_shard(task: SelectTask) -> ShardResult:
    """Decide on the samples of one shard and commit its ledger."""
    made = task.task
    selection = _selection(task.select)
    table = chain_table(made.chain, made.storage_options, selection.columns)
    return write_selection(made, table["key"].to_pylist(), selection.decide(table, task.cut))


class Selection:
    """A selection whose expression is parsed once, however many shards it decides on."""

    def __init__(self, select: Select) -> None:
        self._select = select
        self._query = Query(select.where)
        self._paths: Sequence[ColumnPath] = [column.path for column in self._query.reads]
        self._order: Sequence[ColumnPath] = () if select.sort is None else [column.path for column in order_reads(select.sort)]

    @property
    def columns(self) -> tuple[str, ...]:
        """The dotted names of the columns and structs that the selection names."""
        return tuple(".".join(path) for path in (*self._paths, *self._order))

    def decide(self, table: pa.Table, cut: Cut) -> Decisions:
        """Return the decision on every row of a table of `key` and columns; a column that the table lacks is null.

        The order of the rows does not matter.
        """
        decisions = self._by_itself(table)
        for key in [key for key, dropped in decisions.items() if dropped is None]:
            if cut.last_drawn is not None and (_draw(self._select.seed, key), key) > cut.last_drawn:
                decisions[key] = self._not_drawn()
            elif cut.first is not None and key not in cut.first:
                detail = f"it comes after the first {self._select.limit} by {self._select.sort or 'key'}"
                decisions[key] = Dropped("over-limit", detail)
        return decisions

    def candidates(self, table: pa.Table) -> pa.Table:
        """Return `key` and the columns of the order of the samples that the decision over all shards may keep."""
        kept = {key for key, dropped in self._by_itself(table).items() if dropped is None}
        rows = _with_columns(table, [("key",), *self._order])
        return self.thinned(rows.filter(pa.array([key in kept for key in rows["key"].to_pylist()], pa.bool_())))

    def thinned(self, rows: pa.Table) -> pa.Table:
        """Return those of the candidates that may be kept whatever others there are: as many as are drawn, or within the limit."""
        number = self._select.sample
        return self._drawn(rows, number) if isinstance(number, int) else self._first(rows)

    def cuts(self, rows: pa.Table, shards: Sequence[str]) -> dict[str, Cut]:
        """Return what each shard must know; `rows` are the candidates of all, with the shard of each."""
        rows = self.thinned(rows)
        drawn = [(_draw(self._select.seed, key), key) for key in rows["key"].to_pylist()]
        last = max(drawn, default=(-1.0, "")) if isinstance(self._select.sample, int) else None
        first = {shard: frozenset[str]() for shard in shards}
        if self._select.limit is None:
            return {shard: Cut(last) for shard in shards}
        ordered = self._first(rows).sort_by(_SHARD)
        for shard, group in groupby(zip(ordered[_SHARD].to_pylist(), ordered["key"].to_pylist(), strict=True), key=itemgetter(0)):
            first[shard] = frozenset(key for _, key in group)
        return {shard: Cut(last, keys) for shard, keys in first.items()}

    def _by_itself(self, table: pa.Table) -> Decisions:
        """Return what is decided on each sample whatever others there are: the expression, and the draw of a share."""
        select, where = self._select, self._select.where
        keys: list[str] = table["key"].to_pylist()
        answers = self._query.filter(_with_columns(table, self._paths))
        unknown = Dropped("unknown", f"{where!r} is null: a column that it reads has no value")
        refused = Dropped("where", where)
        decisions = {key: None if answer else unknown if answer is None else refused for key, answer in zip(keys, answers, strict=True)}
        if isinstance(select.sample, float):
            left_out = [key for key, dropped in decisions.items() if dropped is None and _draw(select.seed, key) >= select.sample]
            decisions |= dict.fromkeys(left_out, self._not_drawn())
        return decisions

    def _not_drawn(self) -> Dropped:
        select = self._select
        drawn = f"{select.sample:.6g} of the samples" if isinstance(select.sample, float) else f"{select.sample} samples"
        return Dropped("not-drawn", f"the draw of {drawn} (seed {select.seed}) left it out")

    def _drawn(self, rows: pa.Table, number: int) -> pa.Table:
        keys = rows["key"].to_pylist()
        order = sorted(range(len(keys)), key=lambda row: (_draw(self._select.seed, keys[row]), keys[row]))
        return rows.take(pa.array(order[:number], pa.int64()))

    def _first(self, rows: pa.Table) -> pa.Table:
        select = self._select
        rows = rows.sort_by("key")
        if select.sort is None or not len(rows):
            return rows.slice(0, select.limit)
        return run_query(rows, order_by=select.sort, limit=select.limit)


# Not more than one: its database is kept open.
@lru_cache(maxsize=1)
def _selection(select: Select) -> Selection:
    return Selection(select)


def write_selection(task: ShardTask, keys: Sequence[str], decisions: Decisions) -> ShardResult:
    """Commit the ledger of one shard of a selection."""
    work = Work(task.settings, Journal(None))
    with ShardWriter(task, Store(task.out_url, task.storage_options), work) as writer:
        for key in keys:
            dropped = decisions[key]
            if dropped is None:
                row = OutputRow(key=key, parent=key, fate="kept")
                writer.add(Result(InputRow(key=key, fate="kept", into=(key,)), [Outgoing(row)]))
            else:
                row_in = InputRow(key=key, fate="dropped", stage=_STAGE, reason=dropped.reason, detail=dropped.detail or None)
                writer.add(Result(row_in, ()))
        committed, adopted = writer.commit(num_reused=0)
    return ShardResult(shard=task.shard, committed=committed, adopted=adopted, worked_on=len(keys), seconds={})


def _with_columns(table: pa.Table, paths: Sequence[ColumnPath]) -> pa.Table:
    """Return a table of just these columns, null where the table lacks one: a shard in which no sample has a value has no such column."""
    return project(table, [resolve(table.schema, path) or path for path in paths]) if paths else table.select(["key"])


def _draw(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on seed and key alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8]) / 2**64
