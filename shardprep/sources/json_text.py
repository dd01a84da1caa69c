"""Parses JSON that others wrote; a name that an object has twice is refused, as the last value would hide the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from shardprep.errors import SourceError


class _NamedTwice(Exception):
    """An object has two fields of one name."""


def parse_json(text: str, what: str) -> Any:
    """Return the value; SourceError where it is no JSON, and where an object in it, at any depth, has two fields of one name."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _NamedTwice as error:
        raise SourceError(f"{what}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{what} is no JSON: {error}") from error


def named_twice(names: Iterable[str]) -> str | None:
    """Return in words that two columns have one name; None where each has its own."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return f"two columns are named {name!r}; rename one"
        seen.add(name)
    return None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _NamedTwice(named_twice(name for name, _ in pairs))
    return fields
