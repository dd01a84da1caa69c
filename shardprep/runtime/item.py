"""A sample on its way through the stages of a pass."""

from __future__ import annotations

import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from shardprep.core.frames import Frames
from shardprep.core.outcome import Dropped, Failed, Joined, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage
from shardprep.errors import ShardprepError
from shardprep.runtime.byte_budget import ByteBudget
from shardprep.runtime.journal import Journal
from shardprep.runtime.task import StageError, WorkSettings

_MOST_ERRORS = 5
_LONGEST_TRACEBACK = 8000


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
    receiver: str | None = None
    """Of a joined sample: the `origin` of the sample that it went into, whose fate it shares."""
    not_applicable: bool = False
    prepared: Prepared = field(default_factory=Prepared)


_BATCH_LIMIT = 4
"""A batch that takes longer than so many samples may is divided, and then every sample has its own limit."""


@dataclass
class Work:
    """What a worker keeps while it makes one shard; leaving its context ends the threads that it started."""

    settings: WorkSettings
    journal: Journal
    alone: frozenset[str] = frozenset()
    """Suspects, whose batches are divided."""
    verdicts: Mapping[str, Failed] = field(default_factory=dict)
    """Samples, or children of them, that are known to fail."""
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    decodes: int = 0
    halved: int = 0
    """Batches that were divided for want of memory, or for a suspect in them."""
    errors: list[StageError] = field(default_factory=list)
    """The first exceptions that nobody foresaw."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _opened: ExitStack = field(default_factory=ExitStack, repr=False)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def decoding_thread(self, budget: ByteBudget) -> ThreadPoolExecutor:
        """Start a thread that decodes within a budget."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")
        self._opened.callback(thread.shutdown, cancel_futures=True)
        # Called before the shutdown, which waits for the thread: it may wait for bytes that nobody gives back.
        self._opened.callback(budget.close)
        return thread

    def limit_of(self, stage: Stage, num_samples: int = 1) -> float:
        """Return the seconds that a stage may take for a call: for a batch that can be divided at most those of four samples."""
        limit = stage.timeout_seconds if self.settings.timeout_seconds is None else self.settings.timeout_seconds
        return limit * (num_samples if stage.group_by is not None else min(num_samples, _BATCH_LIMIT))

    def note(self, stage: str, key: str, error: BaseException, failure: Failed) -> Failed:
        """Keep where an exception came from, unless it says itself what is wrong with the sample; return the failure."""
        if failure.reason == "error" and not isinstance(error, ShardprepError):
            text = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
            with self._lock:
                if len(self.errors) < _MOST_ERRORS:
                    self.errors.append(StageError(stage=stage, key=key, traceback=text))
        return failure

    def count_decodes(self, number: int) -> None:
        with self._lock:
            self.decodes += number

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the body's wall time to `seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] += time.perf_counter() - started


def applies(stage: Stage, sample: Sample) -> bool:
    """Whether the stage works on a sample of this kind."""
    return not stage.accepts or any(role in sample.members for role in stage.accepts)
