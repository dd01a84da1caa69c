"""Fingerprints: digests of everything that a result was made from, and of nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from pathlib import PurePath
from typing import Any

from shardprep.core.stage import Stage, stage_name
from shardprep.errors import RecipeError

FORMAT_VERSION = 2
"""Raised when the on-disk format changes."""

UNFINGERPRINTED = frozenset({"batch_size", "timeout_seconds"})
"""Settings that change how fast a result comes, not what it is."""


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces; floats by repr, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 of a JSON value's canonical form, 64 hex digits; paths that are no UTF-8 have one too."""
    return hashlib.sha256(canonical_json(value).encode(errors="surrogatepass")).hexdigest()


def shard_fingerprint(step_fingerprint: str, inputs: Any) -> str:
    """Return the fingerprint of one shard from its step's and from what goes in: the digests of its input shards, or its sources."""
    return digest([step_fingerprint, inputs])


def input_of(shard: str, digests: Mapping[str, Sequence[str] | None], *, sees_all: bool) -> Any:
    """Return what goes into one shard, None where some of it is unknown; `digests` are those of the input shards, by shard.

    A step that `sees_all` makes each shard from all shards of its input.
    """
    if not sees_all:
        return digests[shard]
    return None if None in digests.values() else [shard, digest(digests)]


WEIGHTS = "weights"
"""Stands in the identity of a stage for a setting that names weights; their digest stands beside it."""


def settings_of(stage: Stage) -> dict[str, Any]:
    """Return a stage's settings as plain JSON data, all of them, defaults included.

    RecipeError names a setting that has no canonical form, such as a set or an object of a library.
    """
    return _plain_fields(stage, f"{stage_name(stage)}.")


def fingerprinted_settings(stage: Stage) -> dict[str, Any]:
    """Return the settings of a stage that its results depend on; RecipeError as of `settings_of`."""
    return {name: value for name, value in settings_of(stage).items() if name not in UNFINGERPRINTED}


def plain_text(value: object) -> Any:
    """Return the JSON form of a path, an enum, a date or a time; TypeError for anything else."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} has no canonical form")


def stage_identity(stage: Stage, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return what a stage's results depend on: name, version, settings and the digests of its weights by name.

    `weights` maps the name of weights to their digest; where it is given, the digest stands for the setting that names them,
    so that a moved folder of equal bytes changes nothing.
    """
    settings = fingerprinted_settings(stage)
    local = {w.name for w in stage.weights if w.name in weights}
    settings = {name: WEIGHTS if isinstance(value, str) and value in local else value for name, value in settings.items()}
    named = [weights.get(w.name, f"{w.name}@{w.revision}") for w in stage.weights]
    return {"stage": stage_name(stage), "version": stage.version, "settings": settings, "weights": named}


def _plain_fields(settings: Any, prefix: str) -> dict[str, Any]:
    if not is_dataclass(settings):
        return {}
    found = {}
    for one in fields(settings):
        name = f"{prefix}{one.name}"
        found[one.name] = _plain(getattr(settings, one.name), name, _takes_only_floats(str(one.type)))
    return found


def _takes_only_floats(declared: str) -> bool:
    """Whether 2 means the same as 2.0 in a setting; where int is declared beside float they may differ."""
    return re.search(r"\bfloat\b", declared) is not None and re.search(r"\bint\b", declared) is None


def _plain(value: Any, name: str, as_float: bool) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"": type(value).__name__} | _plain_fields(value, f"{name}.")
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{name}.{key}", as_float) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, name, as_float) for inner in value]
    if isinstance(value, (Enum, PurePath, date, time)):
        return _plain(plain_text(value), name, as_float)
    if as_float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise RecipeError(
        f"{name} is a {type(value).__name__}; a setting is text, a number, true or false, a path, an enum, a date, "
        "or a list, mapping or dataclass of these"
    )
