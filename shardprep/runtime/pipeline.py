"""The way of samples through the stages of a pass: in order, in batches that depend on the samples and settings alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from shardprep.core.outcome import Dropped, Failed, Joined, Kept, Outcome, Split
from shardprep.core.plan import PlannedPass, watches
from shardprep.core.reads import is_column
from shardprep.core.sample import Sample
from shardprep.core.stage import Process, SizedProcess, Stage, stage_name
from shardprep.runtime.byte_budget import ByteBudget
from shardprep.runtime.call import call_stage
from shardprep.runtime.item import Item, Prepared, Work, applies
from shardprep.runtime.prepare import decodes, prepare


def run_stages(stages: Sequence[Stage], processes: Mapping[int, Process], items: Iterable[Item], work: Work) -> Iterator[Item]:
    """Yield what becomes of the items, in their order; children of one item follow each other."""
    segments = PlannedPass("", tuple(stages)).segments
    # Half of the memory is for frames; all segments work at the same time, each on its own samples.
    limit = work.settings.memory_bytes // 2 // max(1, sum(map(decodes, segments)))
    for segment in segments:
        items = _run_segment(segment, processes, items, work, ByteBudget(limit))
    yield from items


def _run_segment(
    segment: Sequence[Stage], processes: Mapping[int, Process], items: Iterable[Item], work: Work, budget: ByteBudget
) -> Iterator[Item]:
    sizes = {place: process.size for place, stage in enumerate(segment) if isinstance(process := processes[id(stage)], SizedProcess)}
    items = prepare(segment, (_judged(item, work) for item in items), work, budget, sizes)
    for place, stage in enumerate(segment):
        # Every stage may hold a batch back, so each gets its part of the budget.
        share = budget.limit // (2 * len(segment))
        items = _run_stage(stage, place, processes[id(stage)], items, work, share)
    for item in items:
        budget.release(item.prepared.num_bytes)
        yield replace(item, prepared=Prepared())


def _judged(item: Item, work: Work) -> Item:
    """Return the item with its verdict, where its sample is known to kill or hang a worker."""
    verdict = work.verdicts.get(item.sample.key) if item.outcome is None else None
    return item if verdict is None else replace(item, outcome=verdict, stage=verdict.detail.split(":")[0].split()[0])


def _run_stage(stage: Stage, place: int, process: Process, items: Iterable[Item], work: Work, max_bytes: int) -> Iterator[Item]:
    held: list[Item] = []
    num_live = num_bytes = 0
    for item in items:
        held.append(item)
        # Those that are out already hold their frames, too, until the ones before them are through.
        num_bytes += item.prepared.num_bytes
        num_live += _waits_for(stage, place, item)
        full = num_live >= stage.batch_size or num_bytes >= max_bytes
        if not stage.group_by and (full or not num_live):
            yield from _work_on(stage, place, process, held, work)
            held, num_live, num_bytes = [], 0, 0
    yield from _work_on(stage, place, process, held, work)


def _waits_for(stage: Stage, place: int, item: Item) -> bool:
    """Whether the item takes part in a call of the stage."""
    frameless = item.prepared.failure is not None and stage.frames is not None
    return item.outcome is None and applies(stage, item.sample) and not frameless and place not in item.prepared.outcomes


def _work_on(stage: Stage, place: int, process: Process, held: Sequence[Item], work: Work) -> Iterator[Item]:
    live = [item for item in held if _waits_for(stage, place, item)]
    outcomes: dict[int, Outcome] = {}
    receivers: dict[int, str] = {}
    for batch in _batches(stage, live):
        samples = [replace(item.sample, frames=item.prepared.frames.get(place)) for item in batch]
        answers = call_stage(stage, process, samples, work)
        outcomes |= zip(map(id, batch), answers, strict=True)
        receivers |= _receivers(batch, answers)
    for item in held:
        joined = replace(item, receiver=receivers[id(item)]) if id(item) in receivers else item
        yield from _after(stage, place, joined, outcomes.get(id(item)))


def _receivers(batch: Sequence[Item], answers: Sequence[Outcome]) -> dict[int, str]:
    """Return the origins of the samples that joined ones went into, by `id` of the joined item; the contract says that they are there."""
    origins = {answer.sample.key: item.origin for item, answer in zip(batch, answers, strict=True) if isinstance(answer, Kept)}
    return {id(item): origins[answer.into] for item, answer in zip(batch, answers, strict=True) if isinstance(answer, Joined)}


def _batches(stage: Stage, live: Sequence[Item]) -> list[list[Item]]:
    if not live:
        return []
    if stage.group_by is None:
        return [list(live)]
    column = stage.group_by
    grouped = groupby(sorted(live, key=lambda item: str(item.sample.get(column))), key=lambda item: str(item.sample.get(column)))
    return [list(group) for _, group in grouped]


def _after(stage: Stage, place: int, item: Item, outcome: Outcome | None) -> Iterator[Item]:
    """Yield what one item is after the stage."""
    name = stage_name(stage)
    if item.outcome is not None:
        yield item
    elif not applies(stage, item.sample):
        yield replace(item, not_applicable=True, stage=item.stage or name)
    elif outcome is not None:
        yield from _settled(item, outcome, name)
    elif watches(stage) and isinstance(seen := item.prepared.outcomes.get(place), Kept):
        yield replace(item, sample=_with_written(item.sample, seen.sample, stage))
    else:
        said = item.prepared.outcomes.get(place) or item.prepared.failure
        assert said is not None, f"{name} neither ran nor watched nor failed on {item.sample.key}"
        yield from _settled(item, said, name)


def _with_written(sample: Sample, seen: Sample, stage: Stage) -> Sample:
    """Return the sample with what a watcher wrote: it saw the sample as it was before the stages ahead of its own."""
    columns = {name: seen.get(name) for name in stage.writes if is_column(name)}
    members = {name: seen.members[name] for name in stage.writes if name in seen.members}
    return replace(sample.with_columns(columns), members={**sample.members, **members})


def _settled(item: Item, outcome: Outcome, stage: str) -> Iterator[Item]:
    match outcome:
        case Kept(sample):
            yield replace(item, sample=replace(sample, frames=None))
        case Dropped() | Failed() | Joined():
            yield replace(item, outcome=outcome, stage=stage)
        case Split(children):
            if not children:
                yield replace(item, outcome=Dropped("no-children"), stage=stage)
            prepared = item.prepared
            for key, child in children:
                sample = replace(child.sample, frames=None) if isinstance(child, Kept) else replace(item.sample, key=key, members={})
                fate = None if isinstance(child, Kept) else child
                yield replace(item, sample=sample, outcome=fate, stage=stage if fate else None, prepared=prepared)
                # The bytes of the frames are given back once, with the first child.
                prepared = Prepared()
