"""Copies between the runtime and a stage: what one of them changes in place, the other never sees."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shardprep.core.outcome import Kept, Outcome, Split
from shardprep.core.sample import Sample
from shardprep.sources.columns import MAX_DEPTH

_UNCHANGING = frozenset({str, int, float, bool, type(None)})
_DEEPEST = 2 * MAX_DEPTH
"""What lies deeper is shared: no shard takes such a record, and a copy of it could overflow the stack."""


def own(sample: Sample) -> Sample:
    """Return the sample with a record and a mapping of members that nobody else holds.

    Members and frames stay the same objects: neither can be changed in place.
    """
    return replace(sample, record=_copied(sample.record), members=dict(sample.members))


def own_outcome(outcome: Outcome) -> Outcome:
    """Return the outcome with samples that the stage that gave it no longer holds."""
    match outcome:
        case Kept(sample):
            return Kept(own(sample))
        case Split(children):
            return Split(tuple((key, Kept(own(child.sample)) if isinstance(child, Kept) else child) for key, child in children))
    return outcome


def _copied(value: Any, depth: int = 0) -> Any:
    kind = type(value)
    if kind in _UNCHANGING or depth > _DEEPEST:
        return value
    if kind is list:
        return [one if type(one) in _UNCHANGING else _copied(one, depth + 1) for one in value]
    if kind is tuple:
        return tuple(_copied(one, depth + 1) for one in value)
    if isinstance(value, Mapping):
        return {name: one if type(one) in _UNCHANGING else _copied(one, depth + 1) for name, one in value.items()}
    # What stages write may be an array until it is stored.
    return copy.deepcopy(value)
