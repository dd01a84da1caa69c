"""Checks that what a stage declares has the form that `Stage` documents. A stage of a plug-in may raise anything when it is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar, get_args

from shardprep.core.frames import AllFrames, At, CropResize, FramesWanted, LongSide, Native, ShortSide
from shardprep.core.ranges import out_of_range
from shardprep.core.reads import Column, Role, is_column
from shardprep.core.stage import Filter, Map, Resources, Stage, Weights, stage_name
from shardprep.errors import RecipeError, ShardprepError

RAISED = (Exception, SystemExit)
"""What importing or asking a stage of a plug-in may raise: the stage is at fault."""

Answer = TypeVar("Answer")

_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class _Form:
    """The form of one declaration."""

    expected: str
    holds: Callable[[Any], bool]


def check_declarations(stage: Stage) -> None:
    """Raise RecipeError where the stage declares something in another form than `Stage` says, where asking for it raises,
    or where it lacks the method that does its work.

    Weights are for `check_weights`.
    """
    for name, form in _FORMS.items():
        _check(stage, name, ask(stage, name, partial(getattr, stage, name)), form)
    if wrong := _wrong_frames(stage.frames) or ask(stage, "what it implements", partial(_unimplemented, stage)):
        raise RecipeError(f"{stage_name(stage)}: {wrong}")


def check_weights(stage: Stage) -> None:
    """Raise RecipeError where `weights` has another form. Naming them may import libraries, so what the stage `needs` must be installed.

    A stage that cannot name them yet passes: loading them says why.
    """

    def weights() -> object:
        try:
            return stage.weights
        except ShardprepError:
            return ()

    _check(stage, "weights", ask(stage, "weights", weights), _WEIGHTS)


def ask(stage: Stage, what: str, question: Callable[[], Answer]) -> Answer:
    """Return the answer of a stage; RecipeError that names the stage where it raises an error that is not ours."""
    try:
        return question()
    except ShardprepError:
        raise
    except RAISED as error:
        words = f"{type(error).__name__}: {error}"
        raise RecipeError(f"{stage_name(stage)}: {what} raises {words}; --debug shows its traceback") from error


def _check(stage: Stage, name: str, value: object, form: _Form) -> None:
    if not form.holds(value):
        raise RecipeError(f"{stage_name(stage)}: {name} is {_shown(value)}; expected {form.expected}{_remedy(name, value)}")


def _remedy(name: str, value: object) -> str:
    if callable(value) and not isinstance(value, type):
        return "; write @property above it"
    if name == "weights":
        values = value if isinstance(value, (tuple, list)) else (value,)
        names = [one.name if isinstance(one, Weights) else one for one in values]
        return f"; write ({', '.join(f'Weights({one!r})' for one in names)},)" if all(isinstance(one, str) for one in names) else ""
    return f'; write ("{value}",)' if isinstance(value, str) and name in _TUPLES else ""


def _shown(value: object) -> str:
    if callable(value) and not isinstance(value, type):
        return "a method"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _each(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (tuple, list)) and all(holds(one) for one in value)


def _or_none(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_role(value: object) -> bool:
    return isinstance(value, str) and bool(value) and not is_column(value)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_duration(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 and not math.isnan(value)


def _is_wish(value: object) -> bool:
    if not isinstance(value, FramesWanted):
        return False
    is_known = isinstance(value.at, get_args(At)) and isinstance(value.size, (Native, ShortSide, LongSide, CropResize))
    return is_known and value.colour in ("rgb", "bgr", "gray", "none") and _is_role(value.role)


def _wrong_frames(wanted: FramesWanted | None) -> str | None:
    """Return which number of the wanted frames is out of its range, or None."""
    for part, said in () if wanted is None else (("at", wanted.at), ("size", wanted.size)):
        if wrong := out_of_range(said):
            return f"frames.{part}.{wrong}"
    return None


def _unimplemented(stage: Stage) -> str | None:
    """Return which method the stage lacks to work on samples, or None."""
    if stage.frames is not None and isinstance(stage.frames.at, AllFrames):
        lacks = _left_as_is(stage, Stage.watch)
        return f"it wants all frames and implements no watch{_misspelt(stage, ('watch',))}" if lacks else None
    own = next((own for kind, own in _OWN.items() if isinstance(stage, kind) and _left_as_is(stage, kind.process)), None)
    if not _left_as_is(stage, Stage.open) or not (own or _left_as_is(stage, Stage.process)):
        return None
    if own and not _left_as_is(stage, own):
        return None
    if not own and not _left_as_is(stage, Stage.watch):
        return "it implements watch, which sees all frames; write frames = FramesWanted(AllFrames())"
    wanted = (own.__name__,) if own else ("process", "open")
    return (
        f"it implements {'no ' if own else 'neither '}{' nor '.join(wanted)}, so that it would work on no sample{_misspelt(stage, wanted)}"
    )


def _left_as_is(stage: Stage, method: Callable[..., Any]) -> bool:
    """Whether a method of the stage is still the one that it inherits."""
    return getattr(getattr(stage, method.__name__), "__func__", None) is method


def _misspelt(stage: Stage, wanted: Sequence[str]) -> str:
    """Return the advice where a method has nearly the name of one that is wanted."""
    written = [name for kind in type(stage).__mro__ if not issubclass(Stage, kind) for name, value in vars(kind).items() if callable(value)]
    own = [name for name in written if name not in wanted]
    near = [(name, close) for name in wanted for close in get_close_matches(name, own, 1)]
    return f"; is {near[0][1]} meant to be {near[0][0]}?" if near else ""


_OWN: Mapping[type[Stage], Callable[..., Any]] = {Map: Map.apply, Filter: Filter.judge}
"""What the kinds of stages that have a `process` leave to be written."""
_TUPLES = ("accepts", "reads", "replaces", "keeps", "needs")
_BOOL = "True or False"
_COUNT = "a whole number from 1 on"
_FORMS: Mapping[str, _Form] = {
    "version": _Form(_COUNT, _is_count),
    "reads": _Form(
        'roles and columns, such as ("video", "scores.flow")', _each(lambda one: _is_text(one) or isinstance(one, (Role, Column)))
    ),
    "writes": _Form(
        'a mapping of names to types, such as {"scores.mine": "double"}',
        lambda value: isinstance(value, Mapping) and all(_is_text(part) for item in value.items() for part in item),
    ),
    "replaces": _Form('names among its `writes`, such as ("video",)', _each(_is_text)),
    "splits": _Form(_BOOL, _is_bool),
    "keeps": _Form('groups of columns, such as ("source", "meta"), or None', _or_none(_each(_is_role))),
    "keeps_labels": _Form(f"{_BOOL}, or None", _or_none(_is_bool)),
    "accepts": _Form('roles, such as ("video", "image"), where () means all samples', _each(_is_role)),
    "frames": _Form("a FramesWanted, or None", _or_none(_is_wish)),
    "group_by": _Form('the name of a column, such as "meta.pair", or None', _or_none(_is_text)),
    "batch_size": _Form(_COUNT, _is_count),
    "resources": _Form("a Resources", lambda value: isinstance(value, Resources)),
    "timeout_seconds": _Form("a number above 0", _is_duration),
    "needs": _Form(
        'pairs of a module and the extra that brings it, such as (("torch", "models"),)',
        _each(lambda pair: isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(_is_text, pair))),
    ),
}
_WEIGHTS = _Form("Weights, such as (Weights('OWNER/REPO'),)", _each(lambda one: isinstance(one, Weights) and _is_text(one.name)))
