"""What a run works on: a claim per step, equal to another run's where both make the same shards of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shardprep.core.fingerprint import canonical_json, digest
from shardprep.driver.identity import differences, gather_identity, pass_identity
from shardprep.driver.state import work_settings
from shardprep.recipe.model import RAW, Pass, Recipe
from shardprep.sources.places import absolute, public

_SECRET = "storage_options"  # a field's name
_LOCATIONS = ("videos", "list", "shards")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One step that a run works on."""

    digest: str
    """Of the step and of all that it is made from."""
    identity: Any
    """What the step itself is, to say in words how two differ."""


def claims_of(recipe: Recipe, until: str | None) -> dict[str, Claim]:
    """Return the claims of a run, in the order of its steps."""
    source = {name: value for name, value in asdict(recipe.source).items() if name != _SECRET and value is not None}
    source |= {name: [absolute(public(place)) for place in recipe.source.locations] for name in _LOCATIONS if name in source}
    identity = _as_json({"source": source})
    claims = {RAW: Claim(digest=digest(identity), identity=identity)}
    if until == RAW:
        return claims
    for step in recipe.steps:
        own = pass_identity(step.stages, work_settings(recipe)) if isinstance(step, Pass) else gather_identity(step.does)
        identity = _as_json(own)
        parent = claims[recipe.parent_of(step)]
        claims[step.name] = Claim(digest=digest([identity, parent.digest]), identity=identity)
        if step.name == until:
            break
    return claims


def _as_json(identity: Any) -> Any:
    """Return an identity as it comes back from a lease, so that equal ones compare as equal."""
    return json.loads(canonical_json(identity))


def conflict(theirs: Mapping[str, Claim], ours: Mapping[str, Claim]) -> list[str]:
    """Say how two runs differ on steps of both; nothing where they can work together.

    Steps that only follow from a difference before them are not named.
    """
    differing = [name for name in ours if name in theirs and theirs[name].digest != ours[name].digest]
    lines = [f"{name}: {line}" for name in differing for line in differences(theirs[name].identity, ours[name].identity)]
    return lines or [f"{name}: it is made from something else" for name in differing[:1]]
