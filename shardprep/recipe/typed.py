"""Typed settings from plain data: every value checked, every mistake told with its place and what would be right."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Container, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from shardprep.core.fingerprint import plain_text
from shardprep.core.ranges import Written, pairs_in_order, range_of
from shardprep.recipe.document import Problems, RecipePath, hint
from shardprep.stages.catalogue import describe_settings, setting_types

Settings = TypeVar("Settings")

_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
    object: "anything that a recipe can say",
    list: "a list",
    tuple: "a list",
}


_TEXTS: dict[Any, str] = {
    Path: "a path",
    date: "a date such as 2020-01-31",
    datetime: "a time such as 2020-01-31T12:00:00",
    time: "a time such as 12:00:00",
}


def build(kind: type[Settings], data: Any, path: RecipePath, problems: Problems, what: str) -> Settings | None:
    """Return the settings dataclass `kind` made of a mapping, or None after adding what is wrong with it to `problems`.

    A text is no number and a number no text; a whole number is fine where a number is wanted, a list where a tuple is.
    """
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        names = ", ".join(setting.name for setting in describe_settings(kind)) or "no settings"
        problems.add(path, f"{what} is {_shown(data)}; expected its settings as a mapping: {names}")
        return None
    before = len(problems.found)
    known = [setting.name for setting in describe_settings(kind)]
    for name in data:
        if name not in known:
            problems.add((*path, name), f"{what} has no setting {json.dumps(name)}; {hint(name, known)}")
    for setting in describe_settings(kind):
        if setting.is_required and setting.name not in data:
            problems.add(path, f"{what} needs the setting {setting.name}: {setting.doc or setting.type}")
    types_by_name = setting_types(kind)
    values = {
        name: _typed(types_by_name[name], value, (*path, name), problems, f"{what}.{name}") for name, value in data.items() if name in known
    }
    _check_ranges(kind, values, path, problems, what)
    if len(problems.found) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.add(blamed(path, kind, str(error), data), f"{what}: {str(error).removeprefix(f'{what}: ')}")
        return None


def blamed(path: RecipePath, kind: type, message: str, given: Container[str]) -> RecipePath:
    """Return where the setting was written that a message names first, of those that were given; else `path` itself."""
    names = {setting.name for setting in describe_settings(kind)}
    return next(((*path, word) for word in re.findall(r"\w+", message) if word in names and word in given), path)


def _check_ranges(kind: type, values: Mapping[str, Any], path: RecipePath, problems: Problems, what: str) -> None:
    for name, value in values.items():
        allowed = range_of(name, setting_types(kind)[name])
        if value is not None and not allowed.holds(value):
            came = _shown(value)
            problems.add((*path, name), f"{what}.{name} is {came}; expected {expected(setting_types(kind)[name])}, {allowed}")
    defaults = {setting.name: setting.default for setting in describe_settings(kind)}
    if wrong := pairs_in_order({**defaults, **values}):
        problems.add(blamed(path, kind, wrong, values), f"{what}: {wrong}")


def expected(kind: Any) -> str:
    """Return what a person may write for a type: `a number`, `one of dis, raft`, `a list of text, or null`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return next((note.how for note in arguments[1:] if isinstance(note, Written)), None) or expected(arguments[0])
    if kind in _NAMES:
        return _NAMES[kind]
    if origin is Literal:
        return f"one of {', '.join(str(value) for value in arguments)}"
    if origin in (Union, types.UnionType):
        return ", or ".join(expected(argument) for argument in arguments)
    if origin in (list, tuple):
        return _expected_list(arguments)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(one.value) for one in kind)}"
    if kind in _TEXTS:
        return _TEXTS[kind]
    if is_dataclass(kind):
        return f"a mapping of {', '.join(setting.name for setting in describe_settings(_class(kind)))}"
    plain = origin or kind
    return (
        "a mapping" if isinstance(plain, type) and issubclass(plain, Mapping) else _NAMES.get(plain, getattr(kind, "__name__", str(kind)))
    )


def is_text(kind: Any) -> bool:
    """Whether a setting's type is text, and nothing besides."""
    return kind is str or (get_origin(kind) is Annotated and is_text(get_args(kind)[0]))


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the validator of one setting's type, wrapped in a one-tuple: a bare dataclass takes no configuration."""
    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid"))


def _typed(kind: Any, value: Any, path: RecipePath, problems: Problems, what: str) -> Any:
    if _has_infinity(value):
        problems.add(path, f"{what} is not finite; expected {expected(kind)}")
        return None
    is_union = get_origin(kind) in (Union, types.UnionType)
    if isinstance(value, str) and (is_text(kind) or (is_union and str in get_args(kind))):
        # Any text will do, also a path that is no UTF-8, which pydantic takes for no text.
        return value
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and _is_list(kind):
        # One name is a list of one.
        value = [value]
    try:
        text = json.dumps([value], default=lambda inner: _plain_text(inner, kind))
    except TypeError as error:
        # Only a recipe built in Python holds such things.
        is_within = isinstance(value, (Mapping, list, tuple)) and str(error).startswith("a ")
        problems.add(path, f"{what} {f'holds {error}' if is_within else f'is a {type(value).__name__}'}; expected {expected(kind)}")
        return None
    try:
        # Strictness as JSON has it: lists become tuples and 3 becomes 3.0, but "3" stays text.
        return adapter(kind).validate_json(text, strict=True)[0]
    except PydanticUserError:
        problems.add(path, f"{what} has the type {getattr(kind, '__name__', kind)}, which no recipe can give")
        return None
    except ValidationError as error:
        details = error.errors()
        inner = [one for one in details if one["type"] in ("unexpected_keyword_argument", "missing")]
        if inner:
            _add_inner(kind, inner, path, problems, what)
        else:
            problems.add(path, f"{what} is {_shown(value)}; expected {expected(kind)}{_ask(kind, value)}{_reason(details)}")
        return None


def _is_list(kind: Any) -> bool:
    """Whether a type is a tuple of any length, or null besides."""
    if get_origin(kind) is Annotated:
        return _is_list(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return all(_is_list(one) or one is type(None) for one in get_args(kind))
    return get_origin(kind) is tuple and get_args(kind)[1:] == (Ellipsis,)


def _plain_text(value: object, kind: Any) -> Any:
    """Return the JSON form of a path, an enum or a date where the setting's type is one; TypeError elsewhere."""
    if isinstance(value, tuple(_classes(kind))):
        return plain_text(value)
    raise TypeError(f"a {type(value).__name__}")


def _classes(kind: Any) -> Iterator[type]:
    """Yield the classes of paths, enums and dates in a type."""
    if isinstance(kind, type) and issubclass(kind, (PurePath, Enum, date, time)):
        yield kind
    for argument in get_args(kind):
        yield from _classes(argument)


def _add_inner(kind: Any, details: list[ErrorDetails], path: RecipePath, problems: Problems, what: str) -> None:
    for one in details:
        where = tuple(part for part in one["loc"][1:] if isinstance(part, int) or not _is_type_name(kind, part))
        name = ".".join(map(str, (what, *where[:-1])))
        wrong = "has no setting" if one["type"] == "unexpected_keyword_argument" else "needs the setting"
        problems.add((*path, *where), f"{name} {wrong} {json.dumps(where[-1])}; expected {expected(kind)}")


def _is_type_name(kind: Any, part: str) -> bool:
    # pydantic puts the class's name of a union's branch into the location.
    return any(getattr(argument, "__name__", None) == part for argument in (kind, *get_args(kind)))


def _expected_list(arguments: tuple[Any, ...]) -> str:
    if len(arguments) == 1 or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return f"a list, each {expected(arguments[0])}"
    return f"a list of {len(arguments)}: {', '.join(expected(argument) for argument in arguments)}"


def _ask(kind: Any, value: Any) -> str:
    choices = [choice for one in (kind, *get_args(kind)) if get_origin(one) is Literal for choice in get_args(one)]
    near = hint(value, [str(choice) for choice in choices]) if isinstance(value, str) and choices else ""
    return f"; {near}" if near.startswith("did you mean") else ""


def _reason(details: list[ErrorDetails]) -> str:
    # A ValueError of a nested dataclass's own check says more than the type does.
    said = [str(one["ctx"]["error"]) for one in details if one["type"] == "value_error" and "ctx" in one]
    return f" ({'; '.join(said)})" if said else ""


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(_has_infinity(inner) for inner in value.values())
    return isinstance(value, list) and any(_has_infinity(inner) for inner in value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _class(kind: Any) -> type:
    assert isinstance(kind, type)
    return kind
