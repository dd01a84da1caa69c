"""Calling a stage on a batch: one outcome per sample whatever the stage does, short of killing the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardprep.core.outcome import Dropped, Failed, Joined, Kept, Outcome, Split
from shardprep.core.sample import Sample
from shardprep.core.stage import Process, Stage, stage_name
from shardprep.errors import ShardError, Unavailable
from shardprep.models.memory import is_out_of_memory
from shardprep.runtime.item import Work

NOT_THE_SAMPLES_FAULT = (Unavailable, ShardError)
"""Errors of the surroundings: the shard is given back, no sample is blamed."""


def call_stage(stage: Stage, process: Process, batch: Sequence[Sample], work: Work) -> list[Outcome]:
    """Return one outcome per sample, in order.

    A batch that runs out of memory is halved; one that raises, or returns the wrong number of outcomes, is worked on
    sample by sample, so that only the sample at fault fails. `Unavailable` and `ShardError` pass through.
    """
    name = stage_name(stage)
    divisible = len(batch) > 1 and stage.group_by is None
    if divisible and any(sample.key in work.alone for sample in batch):
        return [outcome for sample in batch for outcome in call_stage(stage, process, [sample], work)]
    try:
        with work.journal.call(name, [sample.key for sample in batch], stage.timeout_seconds * len(batch)), work.timed(name):
            outcomes = list(process(batch))
        problem = _problem(stage, batch, outcomes)
    except NOT_THE_SAMPLES_FAULT:
        raise
    except Exception as error:
        if divisible and is_out_of_memory(error):
            return _halved(stage, process, batch, work)
        problem = failure_of(error)
    if problem is None:
        return outcomes
    if not divisible:
        return [problem] * len(batch)
    return [outcome for sample in batch for outcome in call_stage(stage, process, [sample], work)]


def failure_of(error: Exception) -> Failed:
    """Return an exception as a sample's failure: its class may name the reason in `reason`."""
    if is_out_of_memory(error):
        return Failed("out-of-memory", _words(error))
    return Failed(getattr(error, "reason", None) or "error", _words(error))


def _halved(stage: Stage, process: Process, batch: Sequence[Sample], work: Work) -> list[Outcome]:
    work.halved += 1
    middle = len(batch) // 2
    return [*call_stage(stage, process, batch[:middle], work), *call_stage(stage, process, batch[middle:], work)]


def _problem(stage: Stage, batch: Sequence[Sample], outcomes: Sequence[Any]) -> Failed | None:
    """Return what is wrong with the outcomes of a batch, or None."""
    name = stage_name(stage)
    if len(outcomes) != len(batch):
        return Failed(
            "wrong-outcomes", f"{name} returned {len(outcomes)} outcomes for {len(batch)} samples; a stage returns exactly one each"
        )
    for sample, outcome in zip(batch, outcomes, strict=True):
        if not isinstance(outcome, Kept | Dropped | Failed | Split | Joined):
            return Failed(
                "wrong-outcomes",
                f"{name} returned {type(outcome).__name__} for {sample.key}; a stage returns Kept, Dropped, Failed, Split or Joined",
            )
        if isinstance(outcome, Split) and not stage.splits:
            return Failed("wrong-outcomes", f"{name} returned Split for {sample.key} but does not declare `splits`")
        if isinstance(outcome, Kept) and outcome.sample.key != sample.key and not stage.group_by:
            return Failed(
                "wrong-outcomes",
                f"{name} returned the sample {outcome.sample.key} in the place of {sample.key}; outcomes come in the order of the batch",
            )
    return None


def _words(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
