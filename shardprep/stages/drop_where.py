"""Dropping samples by an expression over their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shardprep.core.outcome import Dropped, Failed, Kept, Outcome
from shardprep.core.reads import Column, Read, value_of
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnTypes, Process, Stage, Worker

if TYPE_CHECKING:
    from shardprep.expressions.query import Query


@dataclass(frozen=True, kw_only=True)
class DropWhere(Stage):
    """Drop samples for which an SQL expression over their columns holds: `media.seconds < 2 OR scores.flow < 0.5`."""

    expression: str
    """True drops the sample, false keeps it."""
    null: Literal["keep", "drop", "fail"] = "fail"
    """What happens where the expression is null, mostly because a column of it is missing."""
    batch_size: int = 1024

    version = 1
    accepts = ()

    def __post_init__(self) -> None:
        # An expression that does not parse is an error of the recipe, before anything runs.
        self._query()

    @property
    def reads(self) -> tuple[Read, ...]:
        return self._query().reads

    def check_columns(self, available: ColumnTypes) -> None:
        from shardprep.expressions.condition import check_condition

        check_condition(self.expression, available)

    def open(self, worker: Worker) -> Process:
        query = self._query()

        def process(batch: Sequence[Sample]) -> Sequence[Outcome]:
            verdicts = query.evaluate([sample.record for sample in batch])
            return [self._outcome(sample, verdict, query.reads) for sample, verdict in zip(batch, verdicts, strict=True)]

        return process

    def _outcome(self, sample: Sample, verdict: bool | None, columns: Sequence[Column]) -> Outcome:
        if verdict is not None:
            return Dropped("where", self.expression) if verdict else Kept(sample)
        missing = ", ".join(str(column) for column in columns if value_of(sample.record, column.path) is None)
        detail = f"{self.expression} is null" + (f": no {missing}" if missing else "")
        match self.null:
            case "keep":
                return Kept(sample)
            case "drop":
                return Dropped("null-in-expression", detail)
            case "fail":
                return Failed("null-in-expression", detail)

    def _query(self) -> Query:
        from shardprep.expressions.query import Query

        return Query(self.expression)
