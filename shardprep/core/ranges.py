"""What values a setting may have: said beside its type, or by the unit that its name carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from shardprep.errors import RecipeError

_FROM_ONE = ("px", "batch_size")
_FROM_ZERO = ("seconds", "frames", "bytes", "mib", "kbps", "px_per_second")


@dataclass(frozen=True)
class Range:
    """The values of a number, or of each number of a list, which then has one at least: `Annotated[float, Range(0, 1)]`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    """Like `least`, but not this value itself."""

    def holds(self, value: Any) -> bool:
        """Whether a number lies in the range, or every number of a list that is not empty. `ANY` holds everything.

        A value that is no number is in every range.
        """
        if isinstance(value, (list, tuple)):
            return self == ANY or (bool(value) and all(self.holds(one) for one in value))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        over = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        return over and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        parts = [(self.least, "at least"), (self.above, "above"), (self.most, "at most")]
        return " and ".join(f"{word} {bound:g}" for bound, word in parts if bound is not None)


@dataclass(frozen=True)
class Written:
    """How a text setting is written: `Annotated[str, Written("...")]`. Messages about a wrong value say it."""

    how: str


MOST_FPS = 1000
"""No film has more; a mistyped number would take for ever."""

SHORTEST_SECONDS = 0.01
"""The shortest pieces that a video may be cut into; shorter ones would be countless."""

ANY = Range()
"""For a setting that may be negative although its name carries a unit, such as an offset."""
Points = Annotated[tuple[float, ...], Range(0, 1)]
"""Places in a video, from 0 at its start to 1 at its end."""


def range_of(name: str, kind: Any) -> Range:
    """Return the range of a setting: what its type says, else what its name does (`min_seconds` is at least 0, `short_side_px` 1)."""
    return next(_said(kind), None) or _named(name)


def check_ranges(settings: Any, what: str) -> None:
    """Raise RecipeError where a setting of a dataclass is out of its range, or a pair out of order: for its `__post_init__`."""
    if wrong := out_of_range(settings):
        raise RecipeError(f"{what}: {wrong}")
    if wrong := pairs_in_order({one.name: getattr(settings, one.name) for one in fields(settings)}):
        raise RecipeError(f"{what}: {wrong}")


def out_of_range(settings: Any) -> str | None:
    """Return what is wrong where a setting of a dataclass is out of its range, or None; null is in every range."""
    kind: Any = type(settings)
    for one in fields(kind):
        value, allowed = getattr(settings, one.name), range_of(one.name, _types(kind)[one.name])
        if value is not None and not allowed.holds(value):
            return f"{one.name} is {value}; expected {allowed}"
    return None


def check_used(settings: Any, what: str, choice: str, only: Mapping[str, Sequence[str]]) -> None:
    """Raise RecipeError where a setting is given that has no effect under the chosen value of the setting `choice`.

    `only` names the settings that have an effect under some values of `choice` only, by value.
    """
    chosen = getattr(settings, choice)
    defaults = {one.name: one.default for one in fields(settings)}
    for name in dict.fromkeys(name for names in only.values() for name in names):
        value = getattr(settings, name)
        if name not in only.get(chosen, ()) and value != defaults[name]:
            users = " or ".join(one for one, names in only.items() if name in names)
            came = f"{name} is {value}, which {choice}: {chosen} does not look at"
            raise RecipeError(f"{what}: {came}; leave it out, or say {choice}: {users}")


def pairs_in_order(values: Mapping[str, Any]) -> str | None:
    """Return what is wrong where a `min_` setting is above its `max_` setting, or None."""
    for name, least in values.items():
        most = values.get(f"max_{name.removeprefix('min_')}") if name.startswith("min_") else None
        if isinstance(least, (int, float)) and isinstance(most, (int, float)) and least > most:
            return f"{name} is {least:g}, above max_{name.removeprefix('min_')} {most:g}"
    return None


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _said(kind: Any) -> Iterator[Range]:
    yield from (note for note in getattr(kind, "__metadata__", ()) if isinstance(note, Range))
    for inner in get_args(kind):
        yield from _said(inner)


def _named(name: str) -> Range:
    if name == "fps" or name.endswith("_fps"):
        return Range(above=0, most=MOST_FPS)
    if name.startswith("num_") or any(name == unit or name.endswith(f"_{unit}") for unit in _FROM_ONE):
        return Range(least=1)
    return Range(least=0) if any(name == unit or name.endswith(f"_{unit}") for unit in _FROM_ZERO) else ANY
