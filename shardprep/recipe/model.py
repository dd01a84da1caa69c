"""What a recipe is: a source, steps and an output, as typed frozen settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from shardprep.core.ranges import Written
from shardprep.core.stage import Stage
from shardprep.gather.settings import Pack, Select
from shardprep.sources.places import WEB, scheme_of
from shardprep.sources.spec import SourceSpec

RAW = "raw"
"""The name of the source's own shard set, which the first step reads."""

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|TiB)")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?%")
_WRITE_IT = "write it as 512MiB or 2GiB"
_LEAST_MEMORY = "64MiB"
"""Measured: with 32MiB a worker is ended while it cuts clips of 640x360, with 64MiB it cuts them."""
_SCALE = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Consecutive stages that run together over a shard."""

    name: str
    stages: tuple[Stage, ...]
    from_: str | None = None
    """The step whose samples it reads; None: the step before, and for the first step the source."""


@dataclass(frozen=True, kw_only=True)
class Gather:
    """A step that sees the whole shard set."""

    name: str
    does: Select | Pack
    from_: str | None = None


Step = Pass | Gather


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a recipe runs. `threads`, `decoder` and `on_corrupt` can change bytes and enter the fingerprint; the others do not."""

    threads: int = 1
    """Threads that codecs and models use per worker; x264's bytes depend on it."""
    decoder: Literal["pyav", "decord"] = "pyav"
    """What decodes videos; decord seeks well, but reads no AV1 and shows 10-bit differently. Gray frames always come from PyAV.
    Its wheel may not be passed on (NOTICE)."""
    on_corrupt: Literal["fail", "keep"] = "fail"
    """What becomes of a video that breaks in the middle or ends before its container says: failed, or kept as far as it decodes."""
    workers: int | Literal["auto"] = "auto"
    """Worker processes; auto: one per core and thread. Models run on one per GPU where there are GPUs."""
    memory: Annotated[str, Written(f"an amount with its unit; {_WRITE_IT}")] = "2GiB"
    """Memory that a worker may take beside its libraries and weights, such as 512MiB or 2GiB, at least 64MiB; half of it is for frames.
    Where models work, what their stages declare besides."""
    max_failed: int | float | str | None = None
    """Failures at which the run stops: a number (20) or a share of a step's samples (0.01 or 1%);
    null: more than 10 that are also more than 5 %."""
    timeout_seconds: float | None = None
    """Time that a stage may take for one sample; decoding and cutting: for a packet. null: what each stage says."""
    tmp: str | None = None
    """Folder for temporary files, which is made where it is not there; null: the system's."""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What fsspec is told about the output's store, and about the source's where both are of a kind; better from --storage-options."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; expected 1 or more")
        if self.workers != "auto" and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; expected 1 or more, or auto")
        limit = self.failure_limit
        if limit is not None and (limit < 0 or (isinstance(limit, float) and not limit <= 1)):
            raise _no_failure_limit(self.max_failed)
        if self.timeout_seconds is not None and self.timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}; expected more than 0")
        try:
            is_enough = parse_bytes(self.memory) >= parse_bytes(_LEAST_MEMORY)
        except ValueError as error:
            raise ValueError(f"memory: {error}") from error
        if not is_enough:
            why = "with less a worker cannot cut a video of 640x360"
            raise ValueError(f"memory is {self.memory}; expected at least {_LEAST_MEMORY}: {why}")

    @property
    def failure_limit(self) -> int | float | None:
        """`max_failed` as a number of samples, or as a share between 0.0 and 1.0."""
        if not isinstance(self.max_failed, str):
            return self.max_failed
        if not (found := _PERCENT.fullmatch(self.max_failed.strip())):
            raise _no_failure_limit(self.max_failed)
        return float(found[1]) / 100

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory per worker."""
        return parse_bytes(self.memory)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A source, steps and an output: what a YAML recipe says, or the same thing built in Python."""

    name: str
    source: SourceSpec
    steps: tuple[Step, ...]
    output: str = "out"
    """Folder or fsspec URL that the shard sets of the steps are written under."""
    settings: RunSettings = field(default_factory=RunSettings)

    @property
    def reachable_source(self) -> SourceSpec:
        """The source with the options of its store: its own, or the output's where no two kinds of stores are named."""
        kinds = {scheme_of(place) for place in (*self.source.locations, self.output)} - {"file"}
        if self.source.storage_options or len(kinds) != 1 or kinds & set(WEB):
            return self.source
        return replace(self.source, storage_options=self.settings.storage_options)

    def parent_of(self, step: Step) -> str:
        """Return the name of the shard set that `step` reads: another step's, or `raw`."""
        if step.from_ is not None:
            return step.from_
        place = next(index for index, other in enumerate(self.steps) if other.name == step.name)
        return self.steps[place - 1].name if place else RAW


def parse_bytes(text: str) -> int:
    """Return the bytes that a text such as `512MiB` or `2GiB` says; ValueError where it says none."""
    found = _BYTES.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise ValueError(f"{text!r} is no amount of memory; {_WRITE_IT}")
    return int(float(found[1]) * _SCALE[found[2]])


def _no_failure_limit(value: object) -> ValueError:
    return ValueError(f"max_failed is {value}; expected a number of samples such as 20, or a share such as 0.01 or 1%")
