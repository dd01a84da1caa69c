"""The plan of a pass: its segments, and the checks of what every stage reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from shardprep.core.frames import AllFrames
from shardprep.core.hints import nearest
from shardprep.core.reads import Column, Read, Role, columns_of, is_column, overlap, parse_read, roles_of
from shardprep.core.sample import is_label
from shardprep.core.stage import ColumnType, Stage, stage_name
from shardprep.errors import RecipeError

_MEDIA = frozenset({"video", "image", "source", "target"})
"""Roles by which a source's samples differ in kind."""


@dataclass(frozen=True)
class Available:
    """What a stage can read: roles, columns with their types, and groups in which anything may be (`meta`)."""

    roles: frozenset[str] = frozenset()
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    """Types by dotted name."""
    open_groups: tuple[str, ...] = ("meta",)
    writers: Mapping[str, str] = field(default_factory=dict)
    """Which stage wrote a role or column, by its name; what the source brings is not in it."""
    any_role: bool = False
    """Whether the source's samples may have members besides `roles`: those of tars of any origin are known only when they are read."""
    splitters: tuple[Stage, ...] = ()
    """The stages so far that split the samples and declare which members the children have."""
    lost: Mapping[Read, str] = field(default_factory=dict)
    """What was there before a stage split the samples and their children lack, with the reason in words."""

    @classmethod
    def of(cls, writes: Mapping[str, ColumnType], open_groups: tuple[str, ...] = ("meta",)) -> Available:
        """Return what is there where `writes` was written."""
        return cls(open_groups=open_groups).with_writes(writes)

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.roles, *self.columns})

    def has(self, read: Read) -> bool:
        """Whether a role, a column or a struct of columns is there; case does not count in columns."""
        if isinstance(read, Role):
            return read.name in self.roles
        return self.is_open(read) or any(known.folded[: len(read.path)] == read.folded for known in self._known())

    def may_have(self, read: Read) -> bool:
        """Whether it is there, or is a member that samples of unknown tars may bring."""
        if self.has(read) or not self.any_role or isinstance(read, Column):
            return self.has(read)
        is_group = self.has(Column((read.name,)))
        return not is_group and read not in self.lost and all(_is_carried(read.name, stage) for stage in self.splitters)

    def is_open(self, column: Column) -> bool:
        """Whether the column lies in a group in which anything may be."""
        return column.folded[0] in self.open_groups

    def types_of(self, columns: Iterable[Column]) -> dict[tuple[str, ...], ColumnType | None]:
        """Return the types of these columns by path, of a struct those of all columns in it; None where only the source knows."""
        types: dict[tuple[str, ...], ColumnType | None] = {}
        for column in columns:
            inner = {known.path: self.columns[str(known)] for known in self._known() if known.folded[: len(column.path)] == column.folded}
            types |= inner
            if not inner or (self.is_open(column) and column.folded not in map(_folded, inner)):
                types[column.path] = None
        return types

    def with_writes(self, writes: Mapping[str, ColumnType]) -> Available:
        """Return what is there after `writes` was written."""
        roles = {name for name in writes if not is_column(name)}
        columns = {name: kind for name, kind in writes.items() if is_column(name)}
        return replace(self, roles=self.roles | roles, columns={**self.columns, **columns})

    def after(self, stage: Stage) -> Available:
        """Return what is there after a stage: what it writes, and what its children inherit where it splits."""
        name = stage_name(stage)
        columns = {str(known): self.columns[str(known)] for known in self._known() if stage.keeps is None or known.path[0] in stage.keeps}
        roles = self.roles if stage.keeps_labels is None else frozenset(role for role in self.roles if _is_carried(role, stage))
        writers = {**self.writers, **dict.fromkeys(stage.writes, name)}
        splitters = self.splitters if stage.keeps_labels is None else (*self.splitters, stage)
        left = replace(self, roles=roles, columns=columns, writers=writers, splitters=splitters).with_writes(stage.writes)
        gone = {read: self._lost_at(name, read) for read in map(parse_read, self.names) if not left.has(read)}
        return replace(left, lost={read: why for read, why in {**self.lost, **gone}.items() if not left.has(read)})

    def absence(self, wanted: Read, nobody: str = "which no earlier stage writes") -> str:
        """Say why something is not there, and what helps."""
        for read, why in self.lost.items():
            if overlap(read, wanted):
                return why
        shown = wanted.path[-1] if isinstance(wanted, Column) and len(wanted.path) == 1 else str(wanted)
        return f"{nobody}{nearest(shown, self.names, '; there is')}"

    def _lost_at(self, splitter: str, read: Read) -> str:
        writer = self.writers.get(str(read))
        remedy = f"put {writer} after {splitter}" if writer else f"read it before {splitter}"
        return f"which the samples that {splitter} makes do not have, as it was made from the whole; {remedy}"

    def _known(self) -> list[Column]:
        return columns_of(map(parse_read, self.columns))


@dataclass(frozen=True)
class PlannedPass:
    """Consecutive stages that run together over a shard."""

    name: str
    stages: tuple[Stage, ...]
    is_base: bool = field(init=False)
    """Whether it writes whole samples (a split, or a replaced member) instead of only what it adds."""

    def __post_init__(self) -> None:
        base = any(s.splits or s.group_by or _replaces_member(s) for s in self.stages)
        object.__setattr__(self, "is_base", base)

    @property
    def segments(self) -> tuple[tuple[Stage, ...], ...]:
        """Runs of stages whose frames are decoded in one go.

        A stage that splits ends its segment. A stage that watches, and reads what the segment writes, starts a new one:
        its watcher runs while the video is decoded, before the stages ahead of it have spoken. So does one that wants frames
        of a member which the segment writes.
        """
        segments: list[list[Stage]] = [[]]
        for stage in self.stages:
            written = [parse_read(name) for earlier in segments[-1] for name in earlier.writes]
            wanted = [*(map(parse_read, stage.reads) if watches(stage) else ()), *_frames_read(stage)]
            if any(overlap(one, other) for one in written for other in wanted):
                segments.append([])
            segments[-1].append(stage)
            if stage.splits or stage.group_by or _replaces_member(stage):
                segments.append([])
        return tuple(tuple(segment) for segment in segments if segment)

    @property
    def adds(self) -> dict[str, str]:
        """Columns and roles that the pass adds, with their types, in the order of the stages."""
        return {name: kind for stage in self.stages for name, kind in stage.writes.items()}

    @property
    def reads(self) -> tuple[Read, ...]:
        """What the pass reads from its input: what its stages read less what they write before."""
        seen: dict[Read, None] = {}
        written: set[Read] = set()
        for stage in self.stages:
            wanted = [*declared_reads(stage), *_frames_read(stage), *map(Role, stage.accepts)]
            seen |= dict.fromkeys(read for read in wanted if read not in written)
            written |= set(map(parse_read, stage.writes))
        return tuple(seen)


def declared_reads(stage: Stage) -> list[Read]:
    """Return what a stage says that it reads, and the column by which it groups."""
    return [*map(parse_read, stage.reads), *([parse_read(stage.group_by)] if stage.group_by else [])]


def _frames_read(stage: Stage) -> list[Read]:
    return [Role(stage.frames.role)] if stage.frames else []


def _replaces_member(stage: Stage) -> bool:
    return bool(roles_of(map(parse_read, stage.replaces)))


def _is_carried(role: str, stage: Stage) -> bool:
    """Whether a role is there after a stage that declares `keeps_labels`: on its children, or on samples that it does not accept."""
    passes = bool(stage.accepts) and role in _MEDIA and role not in stage.accepts
    return passes or bool(stage.keeps_labels and is_label(role))


def _folded(path: tuple[str, ...]) -> tuple[str, ...]:
    return Column(path).folded


def watches(stage: Stage) -> bool:
    """Whether the stage sees every frame through a watcher."""
    return stage.frames is not None and isinstance(stage.frames.at, AllFrames)


def check_pass(name: str, stages: Sequence[Stage], available: Available) -> Available:
    """Return what is available after the pass; raise RecipeError where a stage reads what is not there, or writes what is."""
    for stage in stages:
        for wanted in declared_reads(stage):
            if not available.may_have(wanted):
                raise RecipeError(f"step {name}: {stage_name(stage)} reads {wanted}, {_absent(wanted, available)}")
        for column, kind in stage.writes.items():
            written = parse_read(column)
            known = [one for one in get_args(ColumnType) if (one == "member") == isinstance(written, Role)]
            if kind not in known:
                raise RecipeError(f"step {name}: {stage_name(stage)} writes {column} as {kind!r}; there is {', '.join(known)}")
            is_free = isinstance(written, Column) and available.is_open(written)
            if available.has(written) and column not in stage.replaces and not is_free:
                raise RecipeError(
                    f"step {name}: {stage_name(stage)} writes {column}, which is there already; "
                    "a stage that replaces a column says so in `replaces`"
                )
        available = available.after(stage)
    return available


def _absent(wanted: Read, available: Available) -> str:
    if isinstance(wanted, Role) and available.has(Column((wanted.name,))):
        return f"a member that no sample has; to read the columns {wanted}.* write {str(Column((wanted.name,)))!r}"
    return available.absence(wanted)


def check_split_and_join(name: str, stages: Sequence[Stage]) -> None:
    """Raise RecipeError where a pass both splits samples and joins them: an input row could not say what its sample became."""
    splits = next((stage_name(stage) for stage in stages if stage.splits), None)
    joins = next((stage_name(stage) for stage in stages if stage.group_by), None)
    if splits and joins:
        raise RecipeError(f"step {name}: {splits} splits samples and {joins} joins them; put each into a pass of its own")
