"""A stage: a frozen settings object that turns samples into outcomes, and what it declares before it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from shardprep.core.frames import Frame, FramesWanted, Size
from shardprep.core.outcome import Dropped, Kept, Outcome
from shardprep.core.reads import Read
from shardprep.core.sample import Sample

ColumnType = Literal["double", "int64", "bool", "string", "list<double>", "list<int64>", "list<string>", "member"]
"""Arrow's names for the types that a column may have; `member` stands for a role written as a file."""

ColumnTypes = Mapping[tuple[str, ...], ColumnType | None]
"""Types of columns by their path; None where only the source knows the type."""

Process = Callable[[Sequence[Sample]], Sequence[Outcome]]
"""Takes a batch, a tuple of samples, and returns exactly one outcome per sample, in order."""


@dataclass(frozen=True)
class SizedProcess:
    """A process that wants its frames smaller than `frames` says, at a size that only the loaded model knows.

    They are made so as they are decoded, so that no whole frame waits for the model. Outside a run (in a notebook) frames may
    come whole: `process` prepares those itself, with the same result to the bit.
    """

    process: Process
    size: Size

    def __call__(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return self.process(batch)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one worker of a stage needs."""

    gpus: float = 0
    """More than 0: it works on a GPU where there is one."""
    memory_bytes: int = 4 << 30
    """Of a stage with a model: host memory that it takes while it works, beside its weights and frames. The worker may take it besides
    `memory`. The default has room for what GPU libraries take at their first call, which shardprep cannot measure beforehand."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Where a stage runs: given to `Stage.open`."""

    device: str = "cpu"
    """A torch device name."""
    threads: int = 1
    """Threads that codecs and models may use; bytes can depend on it, so it is a setting and not the machine's core count."""
    on_corrupt: Literal["fail", "keep"] = "fail"
    """Whether a stage that decodes by itself fails a damaged video or keeps it up to its last good frame."""


@dataclass(frozen=True)
class Weights:
    """Weights that a stage loads: a hub id with a revision, or a local folder or file."""

    name: str
    revision: str | None = None


class Watcher(Protocol):
    """Sees every frame of one sample and then says its outcome; nothing of the video stays in memory."""

    def see(self, frame: Frame) -> None:
        """Take the next frame in presentation order; the array is read-only, and only valid during the call."""
        ...

    def finish(self) -> Outcome:
        """Return the outcome after the last frame."""
        ...


class Stage:
    """A transform of samples. Subclasses are frozen keyword dataclasses of settings and implement `process` (or `open`, or `watch`).

    The properties below are declarations, checked before anything runs; a subclass overrides one with a plain class
    attribute, or with a property where it depends on the settings.
    """

    version: int = 1
    """Raised whenever the same settings give other bytes."""

    @property
    def reads(self) -> tuple[str | Read, ...]:
        """Roles (`video`), columns (`scores.flow`) and groups of columns (`scores.*`) that must be there; `core.reads` parses them."""
        return ()

    @property
    def writes(self) -> Mapping[str, ColumnType]:
        """Columns and roles that it adds, with their types."""
        return {}

    @property
    def replaces(self) -> tuple[str, ...]:
        """Names among `writes` that may exist already."""
        return ()

    @property
    def splits(self) -> bool:
        """Whether it returns `Split`: one sample in, children out."""
        return False

    @property
    def keeps(self) -> tuple[str, ...] | None:
        """Of a stage that splits: the groups of columns that children inherit (`source` for `source.*`); None: all."""
        return None

    @property
    def keeps_labels(self) -> bool | None:
        """Of a stage that splits: whether children have their parent's labels (`cls`, `objects.json`) and no other member; None: unsaid.

        The check of a recipe knows members by role: one that another stage writes is a label where its role is named so (`text`, `cls`).
        """
        return None

    @property
    def accepts(self) -> tuple[str, ...]:
        """Samples with one of these roles are worked on; others pass untouched, the columns null. Empty: all."""
        return ("video", "image")

    @property
    def frames(self) -> FramesWanted | None:
        """The frames it wants decoded."""
        return None

    @property
    def group_by(self) -> str | None:
        """A column whose equal values make one batch: a join stage gets all samples of a group at once."""
        return None

    @property
    def batch_size(self) -> int:
        """Samples per call of `process`; no part of the fingerprint, so no byte of a result may depend on it."""
        return 1

    @property
    def resources(self) -> Resources:
        return Resources()

    @property
    def timeout_seconds(self) -> float:
        """A call that takes longer per sample fails its sample: counted from when it began, or last said `core.progress.gets_on()`.

        Decoding says so at every packet, so a long film takes the time that it takes.
        """
        return 600

    @property
    def weights(self) -> tuple[Weights, ...]:
        """The weights it loads, so that their digests enter the fingerprint."""
        return ()

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """(module, extra) of the optional dependencies, checked before a run."""
        return ()

    def check(self) -> None:
        """Raise RecipeError where this machine cannot do what the settings ask for; called before anything runs."""
        return

    def check_columns(self, available: ColumnTypes) -> None:
        """Raise RecipeError where the stage cannot work on columns of these types; called before anything runs."""

    def open(self, worker: Worker) -> Process:
        """Load what the stage needs, once per worker, and return the function that works on batches."""
        return self.process

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        """Return exactly one outcome per sample, in order.

        The samples are this call's own: what is changed in place reaches nobody else, and counts as written where it comes
        back. Frames are read-only.
        """
        raise TypeError(f"{type(self).__name__} implements neither process nor open nor watch")

    def watch(self, sample: Sample) -> Watcher:
        """Return what sees every frame of this sample; only for stages whose `frames` are `AllFrames`."""
        raise TypeError(f"{type(self).__name__} wants all frames and must implement watch")


class Map(Stage):
    """A stage that changes one sample at a time."""

    def apply(self, sample: Sample) -> Sample:
        """Return the changed sample."""
        raise TypeError(f"{type(self).__name__} must implement apply")

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(self.apply(sample)) for sample in batch]


class Filter(Stage):
    """A stage that keeps or drops one sample at a time and changes nothing."""

    def judge(self, sample: Sample) -> Dropped | None:
        """Return why the sample is dropped, or None to keep it."""
        raise TypeError(f"{type(self).__name__} must implement judge")

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self.judge(sample) or Kept(sample) for sample in batch]


def stage_name(stage: Stage | type[Stage]) -> str:
    """Return the name by which recipes call a stage: `DetectScenes` is `detect_scenes`."""
    kind = stage if isinstance(stage, type) else type(stage)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()
