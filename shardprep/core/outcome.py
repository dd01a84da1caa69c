"""What a stage says of a sample: exactly one outcome each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shardprep.core.sample import Sample

_REASON = re.compile(r"[a-z][a-z-]*[a-z]")


@dataclass(frozen=True)
class Kept:
    """The sample goes on, possibly with more columns and members."""

    sample: Sample


@dataclass(frozen=True)
class Dropped:
    """A decision against the sample. `reason` is kebab-case without numbers, so that it can be counted."""

    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        _check_reason(self.reason)


@dataclass(frozen=True)
class Failed:
    """An accident: `reason` is kebab-case, `detail` the error in the words of whoever raised it."""

    reason: str
    detail: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


@dataclass(frozen=True)
class Split:
    """The sample became children, in order, each with an outcome of its own; without a kept child it is dropped."""

    children: tuple[tuple[str, Kept | Dropped | Failed], ...]


@dataclass(frozen=True)
class Joined:
    """The sample went into another one, which the same call returns as `Kept`."""

    into: str


Outcome = Kept | Dropped | Failed | Split | Joined


def is_reason(text: str) -> bool:
    """Whether a text can be a reason: kebab-case a-z without numbers."""
    return _REASON.fullmatch(text) is not None


def _check_reason(reason: str) -> None:
    if not is_reason(reason):
        raise ValueError(f"reason {reason!r}: a reason is kebab-case a-z without numbers, such as 'too-short'")
