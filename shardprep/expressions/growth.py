"""Calls that are refused because a few letters of them make any number of values; the engine's memory limit misses some."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

GROWING = frozenset("range generate_series repeat list_resize array_resize".split())
"""Functions that make as many values as a number says."""

DOUBLING = frozenset("reduce list_reduce array_reduce".split())
"""Functions of which each step may make twice as much as the last: `x || x` over 40 values is a text of 10 ** 12 letters."""

MOST_LETTERS = 10_000
"""Most letters that a text is padded to."""

_PADDED = ("lpad", "rpad")
_FORMATTED = ("format", "printf")
_WIDE = re.compile(r"[0-9]{5}|\*|\{[^{}]+\{")
"""In a format: a width of more than four digits, or one that an argument says."""


def growth_problem(name: str, arguments: list[Mapping[str, Any]]) -> str | None:
    """Return why a call with these arguments, as syntax trees, is refused; None where it is not."""
    if name in GROWING:
        return f"{name}() is refused: it makes as many values as a number says"
    if name in DOUBLING:
        return f"{name}() is refused: what it makes may double at each step; list_sum, list_max and the like sum up a list"
    if name in _PADDED and len(arguments) > 1:
        letters = _constant(arguments[1])
        if letters is None or not letters.isdecimal() or int(letters) > MOST_LETTERS:
            return f"{name}() takes as its length a number that is written out, {MOST_LETTERS} at most"
    if name in _FORMATTED and arguments:
        pattern = _constant(arguments[0])
        if pattern is None or _WIDE.search(pattern):
            return f"{name}() takes as its format a text that is written out, with widths of at most four digits"
    return None


def _constant(node: Mapping[str, Any]) -> str | None:
    return str(node["literal"]["text"]) if node["class"] == "CONSTANT" else None
