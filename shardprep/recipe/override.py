"""Changes to a recipe's data from the command line: `--set`, `--input` and `--output`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardprep.errors import RecipeError
from shardprep.recipe.document import Document, RecipePath, hint
from shardprep.sources.places import suffix_of
from shardprep.sources.spec import LIST_SUFFIXES
from shardprep.stages.catalogue import find_stage, only_required

_KINDS = ("videos", "list", "shards")
_OF_ANY_KIND = ("samples_per_shard", "shard_mib", "storage_options")


def replace_source(document: Document, location: str) -> None:
    """Make `location` the source: a list by its suffix, tars, else videos; how sources are put into shards stays."""
    suffix = suffix_of(location)
    kind = "list" if suffix in LIST_SUFFIXES else "shards" if suffix == "tar" else "videos"
    before = document.data.get("source") if isinstance(document.data, dict) else None
    before = before if isinstance(before, Mapping) else {}
    # Columns of a list say nothing of another kind of source.
    kept = {name: value for name, value in before.items() if name in _OF_ANY_KIND or (kind in before and name not in _KINDS)}
    override(document, "source", {**kept, kind: location}, f"--input {location}")


def override(document: Document, name: str, value: Any, place: str) -> None:
    """Set the value that a dotted name says, such as `steps.clips.detect_scenes.threshold`; RecipeError where it leads nowhere."""
    if not isinstance(document.data, dict):
        return
    parts = name.split(".")
    if parts[0] == "steps":
        path = _into_step(document, parts[1:], f"{place}")
    elif parts[0] == "source" and len(parts) > 1 and isinstance(document.data.get("source"), str):
        document.data["source"] = {"videos": document.data["source"]}
        path = tuple(parts)
    else:
        path = tuple(parts)
    _set(document, path, value, place)


def _into_step(document: Document, parts: list[str], place: str) -> RecipePath:
    steps = document.data.get("steps")
    names = [_name_of(step) for step in steps] if isinstance(steps, list) else []
    if not parts or parts[0] not in names:
        raise RecipeError(f"{place}: there is no step {parts[0] if parts else ''!r}; {hint(parts[0] if parts else '', names)}")
    if len(parts) < 2:
        raise RecipeError(f"{place}: name a setting of step {parts[0]}, such as steps.{parts[0]}.STAGE.SETTING=VALUE")
    index = names.index(parts[0])
    path: RecipePath = ("steps", index, parts[0])
    body = steps[index][parts[0]]
    if parts[1] == "from":
        return ("steps", index, "from")
    if isinstance(body, list):
        return (*path, *_into_pass(body, parts[1:], place))
    if isinstance(body, dict) and parts[1] not in body:
        raise RecipeError(f"{place}: step {parts[0]} has no {parts[1]!r}; {hint(parts[1], list(body))}")
    if isinstance(body, dict) and parts[1:2] == ["select"] and len(parts) > 2 and isinstance(body["select"], str):
        body["select"] = {"where": body["select"]}
    return (*path, *parts[1:])


def _into_pass(body: list[Any], parts: list[str], place: str) -> RecipePath:
    names = [_name_of(item) for item in body]
    if names.count(parts[0]) != 1:
        wrong = "is there several times" if parts[0] in names else "is not in that step"
        raise RecipeError(f"{place}: the stage {parts[0]!r} {wrong}; {hint(parts[0], names)}")
    if len(parts) < 2:
        raise RecipeError(f"{place}: name a setting of {parts[0]}: steps.STEP.{parts[0]}.SETTING=VALUE")
    index = names.index(parts[0])
    if not isinstance(body[index], dict) or body[index][parts[0]] is None:
        body[index] = {parts[0]: {}}
    elif not isinstance(body[index][parts[0]], dict):
        # The short form, `drop_where: "a > 1"`, holds the one setting that must be given.
        required = only_required(find_stage(parts[0]))
        body[index] = {parts[0]: {required: body[index][parts[0]]} if required else {}}
    return (index, *parts)


def _name_of(item: Any) -> str:
    if isinstance(item, Mapping):
        return next((str(name) for name in item if name != "from"), "")
    return str(item)


def _set(document: Document, path: RecipePath, value: Any, place: str) -> None:
    inner: Any = document.data
    for depth, part in enumerate(path[:-1]):
        where = ".".join(map(str, path[: depth + 1]))
        if isinstance(inner, dict) and inner.get(str(part)) is None:
            inner[str(part)] = {}
            document.places[path[: depth + 1]] = place
        inner = inner[_index(inner, part, place)]
        if not isinstance(inner, (dict, list)):
            raise RecipeError(f"{place}: {where} holds a value and no settings")
    inner[_index(inner, path[-1], place)] = value
    document.places = {at: text for at, text in document.places.items() if at[: len(path)] != path} | {path: place}


def _index(inner: dict[str, Any] | list[Any], part: str | int, place: str) -> Any:
    """Return what a part of a dotted name is called in a mapping or a list; RecipeError where a list has no such place."""
    if isinstance(inner, dict):
        return part
    if not str(part).isdecimal() or int(part) >= len(inner):
        raise RecipeError(f"{place}: {part} is no place in a list of {len(inner)}; give the whole list, such as NAME='[a, b]'")
    return int(part)
