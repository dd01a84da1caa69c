"""What a stage promised of its outcomes: one per sample, in order, of the right kind, writing what it declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import Any

from shardprep.core.outcome import Dropped, Failed, Joined, Kept, Outcome, Split
from shardprep.core.quantity import counted
from shardprep.core.sample import KEY_PATTERN, Record, Sample
from shardprep.core.stage import Stage, stage_name


def broken_promise(stage: Stage, batch: Sequence[Sample], outcomes: Any) -> Failed | None:
    """Return what is wrong with the outcomes of a batch, or None."""
    name = stage_name(stage)
    if not isinstance(outcomes, list):
        return _wrong(f"{name} returned {type(outcomes).__name__}; a stage returns a list with one outcome per sample")
    if len(outcomes) != len(batch):
        return _wrong(
            f"{name} returned {counted(len(outcomes), 'outcome')} for {counted(len(batch), 'sample')}; a stage returns exactly one each"
        )
    for sample, outcome in zip(batch, outcomes, strict=True):
        problem = _problem(stage, sample, outcome)
        if problem:
            return _wrong(f"{name} returned {problem}")
    problem = _join_problem(outcomes) if stage.group_by is not None else None
    return _wrong(f"{name} returned {problem}") if problem else None


def _problem(stage: Stage, sample: Sample, outcome: object) -> str | None:
    match outcome:
        case Kept(kept) if stage.group_by is None:
            return _kept_problem(stage, sample, kept)
        case Split() if not stage.splits:
            return f"Split for {sample.key} but does not declare `splits`"
        case Split(children):
            return _split_problem(sample, children)
        case Kept(kept):
            return _joined_problem(sample, kept)
        case Joined() if stage.group_by is None:
            return f"Joined for {sample.key} but does not declare `group_by`"
        case Dropped() | Failed() | Joined():
            return None
    return f"{type(outcome).__name__} for {sample.key}; a stage returns Kept, Dropped, Failed, Split or Joined"


def _kept_problem(stage: Stage, sample: Sample, kept: object) -> str | None:
    if not isinstance(kept, Sample):
        return f"Kept({type(kept).__name__}) for {sample.key}; what is kept is a Sample"
    if kept.key != sample.key:
        return f"the sample {kept.key} in the place of {sample.key}; outcomes come in the order of the batch"
    if undeclared := next((name for name in _changes(sample, kept) if name not in stage.writes), None):
        return f"{sample.key} with {undeclared} written, which it does not declare in `writes`"
    lost = next((name for name in _losses(sample, kept) if name not in stage.writes), None)
    return (
        f"{sample.key} without {lost}; a stage that keeps a sample takes nothing away that it does not declare in `writes`"
        if lost
        else None
    )


def _joined_problem(sample: Sample, kept: object) -> str | None:
    if not isinstance(kept, Sample):
        return f"Kept({type(kept).__name__}) for {sample.key}; what is kept is a Sample"
    if KEY_PATTERN.fullmatch(sample.key) and not KEY_PATTERN.fullmatch(kept.key):
        return f"the sample {kept.key!r} in the place of {sample.key}; keys are of a-z 0-9 _ -"
    return None


def _join_problem(outcomes: Sequence[Outcome]) -> str | None:
    """Every joined sample names one that the same call keeps, under a key that no other has."""
    kept = [outcome.sample.key for outcome in outcomes if isinstance(outcome, Kept)]
    if len(set(kept)) < len(kept):
        return f"two samples with the key {next(key for key in kept if kept.count(key) > 1)}; each sample of a group has a key of its own"
    lost = next((outcome.into for outcome in outcomes if isinstance(outcome, Joined) and outcome.into not in kept), None)
    return f"Joined({lost!r}), and keeps no sample with that key in the same call" if lost is not None else None


def _split_problem(sample: Sample, children: Sequence[tuple[str, object]]) -> str | None:
    keys: set[str] = set()
    # In a foreign pipeline keys are as they come.
    is_ours = KEY_PATTERN.fullmatch(sample.key) is not None
    for key, child in children:
        if key in keys or (is_ours and not KEY_PATTERN.fullmatch(key)):
            return f"the child {key!r} of {sample.key}; children have keys of their own of a-z 0-9 _ -, see `child_key`"
        keys.add(key)
        if not isinstance(child, Kept | Dropped | Failed):
            return f"{type(child).__name__} for the child {key}; a child is Kept, Dropped or Failed"
        if isinstance(child, Kept) and child.sample.key != key:
            return f"the sample {child.sample.key} as the child {key}"
    return None


def _changes(before: Sample, after: Sample) -> Iterator[str]:
    """Yield the columns and roles that were added or changed."""
    yield from _written(before.record, after.record)
    yield from (role for role, member in after.members.items() if before.members.get(role) is not member)


def _losses(before: Sample, after: Sample) -> Iterator[str]:
    """Yield the columns and roles that are there no more."""
    yield from _removed(before.record, after.record)
    yield from (role for role in before.members if role not in after.members)


def _written(before: Record, after: Record, prefix: str = "") -> Iterator[str]:
    for name, value in after.items():
        old = before.get(name)
        # Of a copy the leaves are the same objects.
        if value is old:
            continue
        if isinstance(value, Mapping):
            yield from _written(old if isinstance(old, Mapping) else {}, value, f"{prefix}{name}.")
        elif not _is_same(value, old):
            yield f"{prefix}{name}"


def _removed(before: Record, after: Record, prefix: str = "") -> Iterator[str]:
    for name, value in before.items():
        if isinstance(value, Mapping):
            new = after.get(name)
            yield from _removed(value, new if isinstance(new, Mapping) else {}, f"{prefix}{name}.")
        elif value is not None and name not in after:
            yield f"{prefix}{name}"


def _is_same(new: Any, old: Any) -> bool:
    if new is old:
        return True
    if type(new) is not type(old):
        return False
    if isinstance(new, (list, tuple)):
        return len(new) == len(old) and (all(map(is_, new, old)) or all(map(_is_same, new, old)))
    if hasattr(new, "tolist"):
        return _is_same(new.tolist(), old.tolist())
    is_nan = new != new and old != old
    return bool(is_nan or new == old)


def _wrong(detail: str) -> Failed:
    return Failed("wrong-outcomes", detail)
