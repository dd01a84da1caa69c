"""From items that went through a pass to the rows of its ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardprep.core.fingerprint import canonical_json
from shardprep.core.outcome import Dropped, Failed, Joined
from shardprep.core.quantity import counted
from shardprep.core.reads import is_column
from shardprep.core.sample import Member, Sample, flatten
from shardprep.core.stage import stage_name
from shardprep.runtime.item import Item
from shardprep.runtime.task import ShardTask
from shardprep.shards.ledger import Fate, InputRow, OutputRow
from shardprep.sources.columns import shape_problem

WRITING, SOURCE = "write", "source"
"""Stand for a stage's name where a sample cannot be written: in a step, and in the source's set."""
MAX_RECORD_BYTES = 1 << 20
"""What the record of one sample may hold, as JSON."""

_KINDS: dict[str | None, type | tuple[type, ...]] = {"double": (int, float), "int64": int, "string": str, "bool": bool}


class Unstorable(ValueError):
    """A column that no ledger holds."""

    def __init__(self, column: str, words: str) -> None:
        super().__init__(words)
        self.column = column


@dataclass(frozen=True)
class Outgoing:
    """A row to be written with the members that belong to it."""

    row: OutputRow
    members: Sequence[Member] = ()


@dataclass(frozen=True)
class Result:
    """All that became of one input sample."""

    row: InputRow
    outgoing: Sequence[Outgoing]
    receiver: str | None = None
    """Of a joined sample: the input sample whose fate it shares; `row` says only that it went into its sample."""


def result_of(origin: str, items: Sequence[Item], digest: str | None, task: ShardTask) -> Result:
    """Return the rows of one input sample from the items that it became."""
    # A stage that joins may give its sample another key; it is no child for that.
    if task.joins or [item.sample.key for item in items] == [origin]:
        [item] = items
        return _single(item, digest, task)
    outgoing = [_outgoing(item, task) for item in items]
    rows = [out.row for out in outgoing]
    kept = tuple(row.key for row in rows if row.fate == "kept")
    if kept:
        return Result(InputRow(key=origin, fate="kept", into=kept, digest=digest), outgoing)
    first = rows[0]
    detail = f"none of {counted(len(rows), 'child', 'children')} was kept, first {first.key}: {first.detail or first.reason}"
    return Result(InputRow(key=origin, fate="dropped", stage=first.stage, reason="no-child-kept", detail=detail, digest=digest), outgoing)


def plain_record(record: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """Return the record as plain JSON values of the declared types; ValueError names what cannot be stored, or is too much.

    Where one column is at fault it is Unstorable.
    """
    if problem := shape_problem(record):
        raise ValueError(f"the record cannot be stored: {problem}")
    leaves = {}
    for name, value in flatten(record):
        try:
            leaves[name] = plain_value(name, value, types.get(name))
            _check_name(name)
        except ValueError as error:
            raise Unstorable(name, str(error)) from error
    plain = dict(Sample("", {}).with_columns(leaves).record)
    if (size := len(canonical_json(plain))) > MAX_RECORD_BYTES:
        raise ValueError(
            f"the record has {size} bytes as JSON; at most {MAX_RECORD_BYTES} are stored. Large values are members, such as .npy or .txt"
        )
    return plain


def _check_name(name: str) -> None:
    if not is_column(name):
        raise ValueError(f"column {name!r} has no group; columns are named group.name, such as scores.{name}")
    if not _is_unicode(name) or "\0" in name or not all(name.split(".")):
        raise ValueError(f"column {name!r} has a part without a name, or one that is no text; give it a name of letters, digits and _")


def _single(item: Item, digest: str | None, task: ShardTask) -> Result:
    key = item.origin
    if isinstance(item.outcome, Joined):
        assert item.receiver is not None, f"{key} went into {item.outcome.into}, which no sample is"
        return Result(InputRow(key=key, fate="kept", into=(item.outcome.into,), digest=digest), (), item.receiver)
    outgoing = _outgoing(item, task)
    row = outgoing.row
    if row.fate == "kept":
        return Result(InputRow(key=key, fate="kept", into=(row.key,), digest=digest), [outgoing])
    return Result(InputRow(key=key, fate=row.fate, stage=row.stage, reason=row.reason, detail=row.detail, digest=digest), ())


def _outgoing(item: Item, task: ShardTask) -> Outgoing:
    sample, lost, stage = item.sample, item.outcome, item.stage
    if lost is None:
        try:
            return _kept(item, task.adds, task.is_base)
        except ValueError as error:
            lost, stage = Failed("bad-record", str(error)), _writer(task, error.column if isinstance(error, Unstorable) else None)
    assert isinstance(lost, Dropped | Failed)
    fate: Fate = "dropped" if isinstance(lost, Dropped) else "failed"
    return Outgoing(OutputRow(key=sample.key, parent=item.origin, fate=fate, stage=stage, reason=lost.reason, detail=lost.detail or None))


def _writer(task: ShardTask, column: str | None) -> str:
    """Return which stage wrote a column that cannot be stored: the last that declares it.

    An undeclared column can only come from a stage that splits. Without one, WRITING or SOURCE stands for the stage.
    """
    declaring = [stage for stage in task.stages if column and any(f"{column}.".startswith(f"{name}.") for name in stage.writes)]
    for stage in reversed(declaring or [stage for stage in task.stages if stage.splits]):
        return stage_name(stage)
    return WRITING if task.chain else SOURCE


def _kept(item: Item, adds: Mapping[str, str], is_base: bool) -> Outgoing:
    sample = item.sample
    record = plain_record(sample.record, adds)
    members = list(sample.members.values())
    if not is_base:
        record = plain_record(dict(_only(sample, adds)), adds)
        members = [member for role, member in sample.members.items() if role in adds]
    reason = "not-applicable" if item.not_applicable else None
    row = OutputRow(key=sample.key, parent=item.origin, fate="kept", stage=item.stage, reason=reason, record=record)
    return Outgoing(row, sorted(members, key=lambda member: member.suffix))


def _only(sample: Sample, adds: Mapping[str, str]) -> Mapping[str, Any]:
    added = {name: sample.get(name) for name, kind in adds.items() if kind != "member"}
    return Sample("", {}).with_columns({name: value for name, value in added.items() if value is not None}).record


def plain_value(name: str, value: Any, kind: str | None) -> Any:
    """Return a column's value as plain JSON of its declared type, if it has one; ValueError where it is something else."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None:
        return None
    is_list = isinstance(value, (list, tuple))
    if kind is not None and is_list != kind.startswith("list<"):
        raise ValueError(f"column {name} is declared {kind} and holds {_short(value)}")
    if is_list:
        return [plain_value(name, element, kind[5:-1] if kind else None) for element in value]
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"column {name} holds a {type(value).__name__}; records hold text, numbers, booleans, lists and nothing else")
    return _cast(name, _storable(name, value), kind)


def _storable(name: str, value: str | float) -> str | float:
    """Return the value; ValueError where neither JSON nor Parquet can hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"column {name} is {value}; records hold finite numbers only")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"column {name} is {value}; records hold whole numbers of 64 bits")
    if isinstance(value, str) and not _is_unicode(value):
        raise ValueError(f"column {name} holds bytes that are no text: {value!r}")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cast(name: str, value: Any, kind: str | None) -> Any:
    # To Python True is an int; to whoever declares numbers it is a mistake.
    is_stray = isinstance(value, bool) and kind in ("int64", "double")
    if kind not in _KINDS or (isinstance(value, _KINDS[kind]) and not is_stray):
        return float(value) if kind == "double" else int(value) if kind == "int64" else value
    raise ValueError(f"column {name} is declared {kind} and holds {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
