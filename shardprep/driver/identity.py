"""What a step is, as data: the part of a fingerprint that comes from the recipe, and how two of them differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shardprep.core.fingerprint import FORMAT_VERSION, stage_identity
from shardprep.core.stage import Stage, stage_name
from shardprep.gather.settings import Pack, Select
from shardprep.models.weights import RANDOM_WORDS, describe, digest_weights
from shardprep.runtime.task import WorkSettings

_LONGEST = 160
"""Characters of a value that a message shows; an expression differs anywhere in it."""


def pass_identity(stages: Sequence[Stage], settings: WorkSettings, weigh: Callable[[str], str] = digest_weights) -> dict[str, Any]:
    """Return what the results of a pass depend on beside its input; `weigh` returns the digest of weights by name."""
    digests = {name: weigh(name) for name in dict.fromkeys(w.name for stage in stages for w in stage.weights)}
    identities = [stage_identity(stage, {w.name: digests[w.name] for w in stage.weights}) for stage in stages]
    return {"format": FORMAT_VERSION, "stages": identities, "settings": settings.identity()}


def digests_in(identity: Mapping[str, Any], stages: Sequence[Stage]) -> dict[str, str]:
    """Return the digests of the weights of a pass by name, from the identity that `pass_identity` made of its stages."""
    named = zip(stages, identity["stages"], strict=True)
    return {w.name: digest for stage, one in named for w, digest in zip(stage.weights, one["weights"], strict=True)}


def gather_identity(gather: Select | Pack) -> dict[str, Any]:
    """Return what the results of a gather depend on beside its input."""
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(gather).items()}
    return {"format": FORMAT_VERSION, "gather": type(gather).__name__.lower(), "settings": settings}


def random_models(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Return the names of the stages that use random weights."""
    return tuple(stage_name(s) for s in stages if any(RANDOM_WORDS in describe(w.name) for w in s.weights))


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Say how two identities differ, such as `detect_scenes.threshold changed from 3.0 to 2.5`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if "gather" in new and old.get("gather") == new["gather"]:
            path = new["gather"]
        return [line for name in {**old, **new} for line in _changed(old, new, name, path)]
    if (
        isinstance(old, Sequence)
        and isinstance(new, Sequence)
        and not isinstance(old, str)
        and not isinstance(new, str)
        and _are_stages(old, new)
    ):
        return _stage_differences(old, new)
    return [] if old == new else [f"{path} changed from {_short(old)} to {_short(new)}"]


def other_parents(old: Sequence[str], new: Sequence[str]) -> str | None:
    """Say which sets a step reads now and no longer, from the relative URLs of its parents; None where they have the same names."""
    before, now = ([url.rpartition("/")[2] for url in urls] for urls in (old, new))
    gained, lost = [name for name in now if name not in before], [name for name in before if name not in now]
    if not now or not (gained or lost):
        return None
    rest = f"no longer {', '.join(lost)}" if lost else "which it did not read before"
    return f"reads {', '.join(gained) or now[-1]}, {rest}"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], name: str, path: str) -> list[str]:
    # The settings of a stage read best as stage.setting, without the words in between.
    inner = path if name in ("settings", "stages") else f"{path}.{name}".lstrip(".")
    return differences(old.get(name), new.get(name), inner)


def _are_stages(old: Sequence[Any], new: Sequence[Any]) -> bool:
    return all(isinstance(one, Mapping) and "stage" in one for one in [*old, *new])


def _stage_differences(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[str]:
    before, after = _by_place(old), _by_place(new)
    lines = [f"{name} was added" for name in after if name not in before]
    lines += [f"{name} was removed" for name in before if name not in after]
    if not lines and list(before) != list(after):
        return [f"the order of stages changed from {', '.join(before)} to {', '.join(after)}"]
    for name in (name for name in after if name in before):
        lines += differences(before[name], after[name], name)
    return lines


def _by_place(stages: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the stages by name, in order; one that comes again has its number after the name."""
    found: dict[str, Mapping[str, Any]] = {}
    counts: Counter[str] = Counter()
    for stage in stages:
        counts[stage["stage"]] += 1
        number = counts[stage["stage"]]
        found[f"{stage['stage']} ({number})" if number > 1 else stage["stage"]] = stage
    return found


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
