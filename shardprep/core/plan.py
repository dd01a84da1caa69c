"""The plan of a pass: its segments, and the checks of what every stage reads and writes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shardprep.core.frames import AllFrames
from shardprep.core.stage import Stage, stage_name
from shardprep.errors import RecipeError


@dataclass(frozen=True)
class Available:
    """The names that a stage can read: roles and columns, and prefixes under which anything may be (`meta.`)."""

    names: frozenset[str]
    open_prefixes: tuple[str, ...] = ("meta.",)

    def has(self, name: str) -> bool:
        """Whether a role, a column or a struct of columns is there."""
        return name in self.names or name.startswith(self.open_prefixes) or any(n.startswith(f"{name}.") for n in self.names)

    def with_names(self, names: Iterable[str]) -> Available:
        return Available(self.names | frozenset(names), self.open_prefixes)

    def after(self, stage: Stage) -> Available:
        """Return what is there after a stage: what it writes, and what its children inherit where it splits."""
        if stage.keeps is None:
            return self.with_names(stage.writes)
        inherited = (name for name in self.names if "." not in name or name.startswith(tuple(f"{group}." for group in stage.keeps)))
        return Available(frozenset(inherited), self.open_prefixes).with_names(stage.writes)


@dataclass(frozen=True)
class PlannedPass:
    """Consecutive stages that run together over a shard."""

    name: str
    stages: tuple[Stage, ...]
    is_base: bool = field(init=False)
    """Whether it writes whole samples (a split, or a replaced member) instead of only what it adds."""

    def __post_init__(self) -> None:
        base = any(s.splits or s.group_by or any("." not in name for name in s.replaces) for s in self.stages)
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
            written = {name for earlier in segments[-1] for name in earlier.writes}
            wanted = {*(stage.reads if watches(stage) else ()), *([stage.frames.role] if stage.frames else [])}
            if written & wanted:
                segments.append([])
            segments[-1].append(stage)
            if stage.splits or stage.group_by or any("." not in name for name in stage.replaces):
                segments.append([])
        return tuple(tuple(segment) for segment in segments if segment)

    @property
    def adds(self) -> dict[str, str]:
        """Columns and roles that the pass adds, with their types, in the order of the stages."""
        return {name: kind for stage in self.stages for name, kind in stage.writes.items()}

    @property
    def reads(self) -> tuple[str, ...]:
        """What the pass reads from its input: what its stages read less what they write before."""
        seen: dict[str, None] = {}
        written: set[str] = set()
        for stage in self.stages:
            wanted = [*stage.reads, *([stage.frames.role] if stage.frames else []), *stage.accepts]
            seen |= dict.fromkeys(name for name in wanted if name not in written)
            written |= set(stage.writes)
        return tuple(seen)


def watches(stage: Stage) -> bool:
    """Whether the stage sees every frame through a watcher."""
    return stage.frames is not None and isinstance(stage.frames.at, AllFrames)


def check_pass(name: str, stages: Sequence[Stage], available: Available) -> Available:
    """Return what is available after the pass; raise RecipeError where a stage reads what is not there, or writes what is."""
    for stage in stages:
        for wanted in stage.reads:
            if not available.has(wanted):
                raise RecipeError(
                    f"step {name}: {stage_name(stage)} reads {wanted}, which no earlier stage writes"
                    + nearest(wanted, sorted(available.names), "; there is")
                )
        for column in stage.writes:
            if available.has(column) and column not in stage.replaces and not column.startswith(available.open_prefixes):
                raise RecipeError(
                    f"step {name}: {stage_name(stage)} writes {column}, which is there already; "
                    "a stage that replaces a column says so in `replaces`"
                )
        available = available.after(stage)
    return available


def check_order(name: str, stages: Sequence[Stage]) -> None:
    """Raise RecipeError where a pass both splits samples and joins them: an input row could not say what its sample became."""
    splits = next((stage_name(stage) for stage in stages if stage.splits), None)
    joins = next((stage_name(stage) for stage in stages if stage.group_by), None)
    if splits and joins:
        raise RecipeError(f"step {name}: {splits} splits samples and {joins} joins them; put each into a pass of its own")


def nearest(name: str, known: Sequence[str], lead: str = "; did you mean") -> str:
    """Return a hint with the names most like `name`, or an empty string."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"{lead} {', '.join(close)}" if close else ""
