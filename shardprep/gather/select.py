"""Select: which samples of a set are kept, decided by an expression over their columns; only ledgers are written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from shardprep.core.outcome import Dropped
from shardprep.expressions.engine import QueryLimits, connect
from shardprep.expressions.query import Query, run_query
from shardprep.expressions.syntax import parse_order
from shardprep.expressions.tables import Path, concat, project, resolve
from shardprep.gather.settings import Select
from shardprep.runtime.item import Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.rows import Outgoing, Result
from shardprep.runtime.task import ShardResult, ShardTask
from shardprep.runtime.write import ShardWriter
from shardprep.shards.join import Chain, chain_table
from shardprep.shards.ledger import InputRow, OutputRow
from shardprep.shards.store import Store

Decisions = Mapping[str, Dropped | None]
"""Why each sample is dropped, or None where it is kept."""

_STAGE = "select"


def select_shards(
    select: Select, tasks: Sequence[ShardTask], chains: Mapping[str, Chain], storage_options: Mapping[str, object] | None
) -> Iterator[ShardResult]:
    """Decide and commit the shards of a selection; `chains` are those of all shards, which a limit or a draw needs.

    Only the columns that the selection names are read, and only ledgers.
    """
    selection = Selection(select)
    if not select.is_global:
        for task in tasks:
            table = chain_table(task.chain, storage_options, selection.columns)
            yield write_selection(task, table["key"].to_pylist(), selection.decide(table))
    elif tasks:
        tables = {shard: chain_table(chain, storage_options, selection.columns) for shard, chain in chains.items()}
        decisions = selection.decide(concat(tables.values()))
        for task in tasks:
            yield write_selection(task, tables[task.shard]["key"].to_pylist(), decisions)


class Selection:
    """A selection whose expression is parsed once, however many shards it decides on."""

    def __init__(self, select: Select) -> None:
        self._select = select
        self._query = Query(select.where)
        self._paths: Sequence[Path] = [column.path for column in self._query.reads]
        self._order: Sequence[Path] = () if select.sort is None else parse_order(connect(QueryLimits()), select.sort)

    @property
    def columns(self) -> tuple[str, ...]:
        """The dotted names of the columns and structs that the selection names."""
        return tuple(".".join(path) for path in (*self._paths, *self._order))

    def decide(self, table: pa.Table) -> Decisions:
        """Return the decision on every row of a table of `key` and columns; a column that the table lacks is null.

        All samples of a set are needed where `Select.is_global`. The order of the rows does not matter.
        """
        where = self._select.where
        keys: list[str] = table["key"].to_pylist()
        answers = self._query.filter(_with_columns(table, self._paths))
        unknown = Dropped("unknown", f"{where!r} is null: a column that it reads has no value")
        refused = Dropped("where", where)
        decisions = {key: None if answer else unknown if answer is None else refused for key, answer in zip(keys, answers, strict=True)}
        kept = sorted(key for key, dropped in decisions.items() if dropped is None)
        for dropped, chosen in self._thinned(kept, table):
            decisions |= dict.fromkeys(set(kept) - set(chosen), dropped)
            kept = chosen
        return decisions

    def _thinned(self, kept: list[str], table: pa.Table) -> Iterator[tuple[Dropped, list[str]]]:
        """Yield why samples go and the keys that stay, after the draw and after the limit; `kept` is sorted."""
        select = self._select
        if select.sample is not None:
            share = isinstance(select.sample, float)
            drawn = f"{select.sample:.6g} of the samples" if share else f"{select.sample} samples"
            if share:
                kept = [key for key in kept if _draw(select.seed, key) < select.sample]
            else:
                kept = sorted(sorted(kept, key=lambda key: _draw(select.seed, key))[: int(select.sample)])
            yield Dropped("not-drawn", f"the draw of {drawn} (seed {select.seed}) left it out"), kept
        if select.limit is not None:
            detail = f"it comes after the first {select.limit} by {select.sort or 'key'}"
            yield Dropped("over-limit", detail), self._first(kept, table)

    def _first(self, kept: list[str], table: pa.Table) -> list[str]:
        select = self._select
        if select.sort is None or not kept:
            return kept[: select.limit]
        rows = _with_columns(table, [("key",), *self._order])
        chosen = set(kept)
        rows = rows.filter(pa.array([key in chosen for key in rows["key"].to_pylist()], pa.bool_())).sort_by("key")
        return sorted(run_query(rows, select=["key"], order_by=select.sort, limit=select.limit)["key"].to_pylist())


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


def _with_columns(table: pa.Table, paths: Sequence[Path]) -> pa.Table:
    """Return a table of just these columns, null where the table lacks one: a shard in which no sample has a value has no such column."""
    return project(table, [resolve(table.schema, path) or path for path in paths]) if paths else table.select(["key"])


def _draw(seed: int, key: str) -> float:
    """Return a number in [0, 1) that depends on seed and key alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8]) / 2**64
