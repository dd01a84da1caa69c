"""What a stage reads of a sample: roles and columns, told apart in one place and looked up as SQL looks names up."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardprep.errors import RecipeError

UNTYPED_GROUPS = ("meta", "caption")
"""Groups of columns that come with the source: their names and types are known only when it is read."""

_WHOLE = "*"
_DIGEST_BEHIND = re.compile(r"_[0-9a-f]{8}([0-9a-f]{8}){0,7}")
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True)
class Role:
    """A member of a sample, such as `video`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Column:
    """A column of the record, or a struct of columns whole, by the names on the way to it: `scores.flow`, `scores.*`."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path if len(self.path) > 1 else (*self.path, _WHOLE))

    @property
    def folded(self) -> tuple[str, ...]:
        """The path in lower case: columns with equal ones cannot be told apart in SQL."""
        return tuple(map(fold, self.path))

    @property
    def is_untyped(self) -> bool:
        """Whether its type is known only when the source is read."""
        return self.folded[0] in UNTYPED_GROUPS

    def touches(self, other: Column) -> bool:
        """Whether one of the two is the other, lies in it or holds it."""
        return all(mine == its for mine, its in zip(self.folded, other.folded, strict=False))


Read = Role | Column
"""One thing that a stage reads: of its sample, what has this name."""


def parse_read(name: str | Read) -> Read:
    """Return what a declared name means: `video` is a role, `scores.flow` a column, `scores.*` all columns of the group."""
    if not isinstance(name, str):
        return name
    path = name.split(".")
    return Role(name) if len(path) == 1 else Column(tuple(path[:-1] if path[-1] == _WHOLE else path))


def is_column(name: str) -> bool:
    """Whether a declared name is that of a column, not of a role."""
    return isinstance(parse_read(name), Column)


def roles_of(reads: Iterable[Read]) -> list[str]:
    """Return the names of the roles among the reads."""
    return [read.name for read in reads if isinstance(read, Role)]


def columns_of(reads: Iterable[Read]) -> list[Column]:
    """Return the columns among the reads."""
    return [read for read in reads if isinstance(read, Column)]


def overlap(one: Read, other: Read) -> bool:
    """Whether two reads have something in common."""
    if isinstance(one, Column) and isinstance(other, Column):
        return one.touches(other)
    return one == other


def fold(name: str) -> str:
    """Return the name as DuckDB compares it: letters beyond ASCII keep their case."""
    return name.translate(_ASCII_LOWER)


def field_named(names: Iterable[str], wanted: str, within: Sequence[str] = ()) -> str | None:
    """Return the name that `wanted` means: itself, else the only one equal but for case; None where there is none.

    RecipeError where several differ from it in case only. `within` is the path so far, for the message.
    """
    known = list(names)
    if wanted in known:
        return wanted
    found = [name for name in known if fold(name) == fold(wanted)]
    if len(found) > 1:
        asked, *could = (".".join((*within, name)) for name in (wanted, *sorted(found)))
        raise RecipeError(f"column {asked} may be {' or '.join(could)}; write the name exactly as one of them")
    return found[0] if found else None


def clashing(name: str, known: Iterable[str]) -> list[str]:
    """Return the names that are `name` in any case with a digest behind it: columns whose names in the source clash."""
    return [one for one in known if _DIGEST_BEHIND.fullmatch(fold(one).removeprefix(fold(name))) and fold(one).startswith(fold(name))]


def value_of(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return the value at a path of names, found as `field_named` does; None where there is none."""
    value: Any = record
    for depth, name in enumerate(path):
        if not isinstance(value, Mapping):
            return None
        if name not in value:
            found = field_named(value, name, path[:depth])
            if found is None:
                return None
            name = found
        value = value[name]
    return value


def narrowed(record: Mapping[str, Any], columns: Iterable[Column]) -> dict[str, Any]:
    """Return all of a record that the columns can mean: in any case, structs whole, and what is no struct on the way to them.

    An expression is shown this and nothing else, and the digest of what was read is the digest of this.
    """
    return _pruned(record, tree_of(column.folded for column in columns))


def tree_of(paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """Return the paths as nested dicts; None stands for all that is there."""
    root: dict[str, Any] = {}
    for path in sorted(dict.fromkeys(paths), key=len):
        tree = root
        for name in path[:-1]:
            inner = tree.setdefault(name, {})
            if inner is None:
                break
            tree = inner
        else:
            tree.setdefault(path[-1], None)
    return root


def _pruned(record: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in record.items():
        if (folded := fold(name)) in tree:
            inner = tree[folded]
            found[name] = value if inner is None or not isinstance(value, Mapping) else _pruned(value, inner)
    return found
