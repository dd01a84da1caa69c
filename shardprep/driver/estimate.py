"""What is still to come, judged by what was made so far: samples, bytes and worker-seconds of the shards that a run would make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shardprep.driver.state import StepState
from shardprep.shards.counts import num_inputs, num_outputs
from shardprep.shards.set import Committed

Expected = Mapping[str, float | None]
"""Samples by shard; None where nothing tells."""


@dataclass(frozen=True)
class Rates:
    """What became of one input sample on average."""

    kept: float
    num_bytes: float
    seconds: float

    @classmethod
    def of(cls, made: Iterable[Committed]) -> Rates | None:
        """Return the rates of the shards that were made so far; None where none was, or all were empty."""
        shards = list(made)
        inputs = sum(num_inputs(shard.counts) for shard in shards)
        if not inputs:
            return None
        return cls(
            kept=sum(num_outputs(shard.counts) for shard in shards) / inputs,
            num_bytes=sum(shard.tar_bytes for shard in shards) / inputs,
            seconds=sum(shard.cost_seconds for shard in shards) / inputs,
        )


def to_make(state: StepState) -> list[str]:
    """Return the shards that a run would make: those to do, and those that follow."""
    return [*state.todo, *state.follows]


def total(expected: Expected, shards: Iterable[str]) -> float | None:
    """Return the samples of some shards; None where one of them is unknown."""
    numbers = [expected.get(shard) for shard in shards]
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def outputs(state: StepState, inputs: Expected, rates: Rates | None, *, keeps_number: bool) -> dict[str, float | None]:
    """Return the samples that come out of each shard: counted where it is done, else by rate, or as many as go in (at most)."""
    expected: dict[str, float | None] = {}
    for shard in state.info.shards:
        going_in = inputs.get(shard)
        if shard in state.seen and shard not in state.todo:
            expected[shard] = num_outputs(state.seen[shard].counts)
        elif going_in is None or (rates is None and not keeps_number):
            expected[shard] = None
        else:
            expected[shard] = going_in * (rates.kept if rates else 1.0)
    return expected
