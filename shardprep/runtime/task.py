"""What a worker is told to make, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shardprep.core.outcome import Failed
from shardprep.core.reads import Read
from shardprep.core.stage import Stage
from shardprep.shards.join import Chain
from shardprep.shards.set import Committed
from shardprep.sources.entry import SourceEntry
from shardprep.sources.refused import Witnesses


@dataclass(frozen=True, kw_only=True)
class WorkSettings:
    """How samples are worked on. `threads`, `decoder` and `on_corrupt` can change bytes and enter the fingerprint."""

    threads: int = 1
    """Threads of codecs and models per worker."""
    decoder: Literal["pyav", "decord"] = "pyav"
    on_corrupt: Literal["fail", "keep"] = "fail"
    """A video with bad data in the middle fails, or is kept up to its last good frame."""
    memory_bytes: int = 2 << 30
    """Memory that a worker may take beside what it held when its stages were loaded; half of it is for decoded frames.

    A worker that takes more (where a model works: more than that and what its stage declares) is ended, and the sample in work fails as
    `out-of-memory`.
    """
    decode_ahead: int = 2
    """Samples whose frames are decoded while the models work."""
    timeout_seconds: float | None = None
    """Time that a stage may take for one sample; None: what each stage says."""

    def identity(self) -> dict[str, Any]:
        """Return what enters the fingerprint."""
        return {"threads": self.threads, "decoder": self.decoder, "on_corrupt": self.on_corrupt}


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to make: picklable, complete, the same for every executor."""

    step: str
    shard: str
    out_url: str
    fingerprint: str
    step_fingerprint: str
    stages: tuple[Stage, ...]
    is_base: bool
    adds: Mapping[str, str]
    reads: tuple[Read, ...]
    chain: Chain = ()
    """The input shard's ledgers; empty where the samples come from a source."""
    entries: tuple[SourceEntry, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    """Digests of the weights that the stages load, by name, as they entered the fingerprint."""
    settings: WorkSettings = field(default_factory=WorkSettings)
    storage_options: Mapping[str, Any] | None = None
    """Options of the file system that holds the sets."""
    witnesses: Witnesses = field(default_factory=Witnesses)
    """Other files of the source, by which a store that refuses everything is told from one that refuses a file."""
    source_options: Mapping[str, Any] | None = None
    """Options of the file system that holds the sources."""
    earlier: tuple[str, ...] = ()
    """The shard's ledgers and tars that lay in the set when the step began: what is used again, and removed in the end."""
    retry: int = 0
    """Number in the ledger's name: 0 for the first, 1 for the first retry."""
    is_last_attempt: bool = False
    """Whether this is the last attempt: an unreachable web source then fails its sample, not the shard."""
    reuse: bool = True
    """Whether outcomes of unchanged samples are copied from an earlier ledger of the shard."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Digests of the code of stages that are not shardprep's own, by name."""
    redo_failed: bool = False
    """Whether what failed is worked on again all the same."""
    verdicts: Mapping[str, Failed] = field(default_factory=dict)
    """Samples already known to fail, because they killed a worker or hung."""
    alone: frozenset[str] = frozenset()
    """Suspects, whose batches are divided so that the next death names its sample."""
    journal: str | None = None
    """File in which the worker notes the calls in progress."""

    @property
    def joins(self) -> bool:
        """Whether a stage joins samples: then none splits them, and every input becomes at most one sample."""
        return any(stage.group_by is not None for stage in self.stages)


@dataclass(frozen=True, kw_only=True)
class StageError:
    """Where in a stage an exception was raised that its sample failed for."""

    stage: str
    key: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """A committed shard."""

    shard: str
    committed: Committed
    adopted: bool
    """Whether another worker committed it first."""
    worked_on: int
    """Input samples that were worked on, not copied from an earlier ledger."""
    seconds: Mapping[str, float]
    """Wall seconds per stage, `decode` and `write` besides."""
    video_seconds: float = 0.0
    """How long the videos of its input samples are, as far as is known."""
    errors: tuple[StageError, ...] = ()
    """The first exceptions of stages that were not foreseen."""
