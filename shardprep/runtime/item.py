"""A sample on its way through the stages of a pass."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from shardprep.core.frames import Frames
from shardprep.core.outcome import Dropped, Failed, Joined, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage
from shardprep.runtime.journal import Journal
from shardprep.runtime.task import WorkSettings


@dataclass(frozen=True)
class Prepared:
    """What decoding made for the stages of a segment, by the stage's place in it."""

    frames: Mapping[int, Frames] = field(default_factory=dict)
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    """What the watchers said."""
    failure: Failed | None = None
    """Why there are no frames."""
    num_bytes: int = 0


@dataclass(frozen=True)
class Item:
    """A sample and, once it is out, its outcome; later stages let such an item pass."""

    origin: str
    """Key of the pass's input sample."""
    sample: Sample
    outcome: Dropped | Failed | Joined | None = None
    stage: str | None = None
    """The stage that gave the outcome, or that did not apply."""
    not_applicable: bool = False
    prepared: Prepared = field(default_factory=Prepared)


@dataclass
class Work:
    """What a worker keeps while it makes one shard."""

    settings: WorkSettings
    journal: Journal
    alone: frozenset[str] = frozenset()
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    decodes: int = 0
    halved: int = 0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the body's wall time to `seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


def applies(stage: Stage, sample: Sample) -> bool:
    """Whether the stage works on a sample of this kind."""
    return not stage.accepts or any(role in sample.members for role in stage.accepts)
