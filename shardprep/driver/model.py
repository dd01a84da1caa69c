"""What a plan and a run say of themselves: counts, reasons, seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from shardprep.driver.failures import Failure
from shardprep.executors.stop import StopSignal
from shardprep.models.absent import Absent

if TYPE_CHECKING:
    from shardprep.driver.left_behind import Left

VIDEO_MS = "video.milliseconds"
"""Beside the counts of a shard: how many milliseconds of video its input samples hold."""

StepKind = Literal["source", "pass", "select", "pack"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How this run differs from what the recipe says; None takes the recipe's setting."""

    until: str | None = None
    """The last step to make."""
    workers: int | None = None
    max_failed: int | float | None = None
    retry: bool = False
    """Whether samples that failed are worked on again."""
    reuse: bool = True
    """Whether outcomes of unchanged samples are copied."""
    redo: tuple[str, ...] = ()
    """Steps whose shards are all made again, with nothing copied."""
    repair: bool = False
    """Whether every byte of what is there is read first, and made again where it was damaged."""
    debug: bool = False
    """Whether the reporter is told the tracebacks of what stages raise, at once."""
    stop: StopSignal = field(default_factory=StopSignal)


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What a run would do to one step."""

    name: str
    kind: StepKind
    done: int
    """Shards that are there and up to date."""
    new: int
    """Shards that were never made."""
    stale: int
    """Shards that were made from something else."""
    follows: int
    """Shards of which only a run can tell, because what they are made from is made anew."""
    reasons: tuple[str, ...]
    """Why shards are stale."""
    num_bytes: int | None
    """Bytes of the tars that are there, or of the sources to be read; None where unknown."""
    seconds_estimate: float | None
    """Worker-seconds for the shards to make, after what samples of this step took before; None where none was made."""
    notes: tuple[str, ...] = ()
    """What a person should know of the shards that stay."""
    samples: int | None = None
    """Input samples of the shards to make, estimated where they are still to be made themselves; None where nothing tells."""
    stale_samples: int | None = None
    """Those of them that a change touches: their shards were made before."""
    bytes_estimate: int | None = None
    """Bytes of the tars to make; None where nothing tells."""
    url: str | None = None
    """Where the set lies that `status` looked at."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Input samples that were dropped in the shards that are done, by reason, as `status` says it."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """Input samples that failed."""
    children_dropped: Mapping[str, int] = field(default_factory=dict)
    """Of a step that splits: children that were dropped, by reason. Their parents count among the input samples."""
    children_failed: Mapping[str, int] = field(default_factory=dict)
    """Children that failed."""

    @property
    def num_failed(self) -> int:
        """Input samples and children that failed."""
        return sum(self.failed.values()) + sum(self.children_failed.values())

    @property
    def has_work(self) -> bool:
        """Whether a run would make shards of it, or may have to."""
        return bool(self.new or self.stale or self.follows)


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run would do."""

    recipe: str
    output: str
    steps: tuple[StepPlan, ...]
    notes: tuple[str, ...] = ()
    """What a person should know of the source."""
    weights: tuple[Absent, ...] = ()
    """Weights that are not on this machine."""

    @property
    def has_work(self) -> bool:
        return any(step.has_work for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class StepSummary:
    """What came of one step, over all its shards, those made earlier too."""

    name: str
    kind: StepKind
    url: str
    samples_in: int
    samples_out: int
    kept: int
    """Input samples that were kept, or of which a child was: `samples_in` is kept, dropped and failed together."""
    dropped: Mapping[str, int]
    """Input samples that were dropped, by reason."""
    failed: Mapping[str, int]
    """Input samples that failed, by reason."""
    shards_made: int
    shards_done: int
    """Shards that were there already, or that an equal run made meanwhile."""
    worked_on: int
    """Input samples that were worked on in this run; the others' outcomes were there."""
    seconds: float
    """Wall time of the step in this run."""
    decodes: int
    """Sweeps over videos in this run."""
    random_models: tuple[str, ...] = ()
    """Stages whose numbers come from random weights."""
    first_failure: Failure | None = None
    """One of the samples that failed, where some did."""
    children_dropped: Mapping[str, int] = field(default_factory=dict)
    """Of a step that splits: children that were dropped, by reason; those that were kept are `samples_out`."""
    children_failed: Mapping[str, int] = field(default_factory=dict)
    """Children that failed, by reason."""
    notes: tuple[str, ...] = ()
    """What a person should know of the shards that stayed: which stages have other code than the one that made them."""

    @property
    def num_failed(self) -> int:
        """Input samples and children that failed."""
        return sum(self.failed.values()) + sum(self.children_failed.values())

    @property
    def has_only_failures(self) -> bool:
        """Whether samples went in, none came out, and all of them failed."""
        return bool(self.samples_in and self.failed and not self.samples_out and not self.dropped)

    @property
    def kept_nothing(self) -> bool:
        """Whether samples went in and none came out."""
        return bool(self.samples_in and not self.samples_out)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What came of a run."""

    recipe: str
    output: str
    steps: tuple[StepSummary, ...]
    log: str | None = None
    """The file that holds the tracebacks of what stages raised in this run, where they raised something."""
    left_behind: Left | None = None
    """What lies in the output and nobody counts on; as text a line that says how to remove it. None where nothing does."""

    @property
    def failed_total(self) -> int:
        return sum(step.num_failed for step in self.steps)


class Reporter(Protocol):
    """Told how a run goes."""

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        """A step begins that has `num_shards` to make."""
        ...

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        """A shard was committed; counts are those of its ledger, and `VIDEO_MS` where it is known."""
        ...

    def step_done(self, summary: StepSummary) -> None:
        """A step is complete."""
        ...

    def message(self, text: str) -> None:
        """Something that a person should know."""
        ...


class Silent:
    """A reporter that says nothing."""

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        return

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        return

    def step_done(self, summary: StepSummary) -> None:
        return

    def message(self, text: str) -> None:
        return
