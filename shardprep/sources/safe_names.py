"""Names of metadata columns that expressions can write, and what is said of source names that would be one column."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shardprep.core.reads import Column, fold
from shardprep.errors import RecipeError

_UNSAFE = re.compile(r"\W+")
_DIGITS = (0, 8, 16, 32, 64)
"""Digits of the digest behind a name: none, eight where names clash, more where such a name is taken too."""


@dataclass(frozen=True)
class NameClash:
    """Source names that would be one column, as SQL reads names: none of them keeps the plain name."""

    plain: tuple[str, ...]
    """The path that no column has, such as `meta`, `id`."""
    columns: Mapping[str, str]
    """The column that each source name became."""

    def hides(self, column: Column) -> bool:
        """Whether a column that is read is the plain name, or lies in it."""
        folded = Column(self.plain).folded
        return column.folded[: len(folded)] == folded

    def __str__(self) -> str:
        names = " and ".join(repr(name) for name in self.columns)
        became = ", ".join(".".join((*self.plain[:-1], name)) for name in self.columns.values())
        return f"the source has {names}, which are the columns {became}"


def safe_names(names: Sequence[str]) -> dict[str, str]:
    """Return a name for each name that holds only letters, digits and `_`, no two of them equal but for case.

    Of names that would be equal each gets a digest of the original behind it, so that none is taken for another: what a
    name becomes depends on itself, and on whether there is a clash.
    """
    steps = dict.fromkeys(names, 0)
    while True:
        safe = {name: _with_digest(name, _DIGITS[step]) for name, step in steps.items()}
        taken = Counter(map(fold, safe.values()))
        clashing = [name for name in names if taken[fold(safe[name])] > 1]
        if not clashing:
            return safe
        for name in clashing:
            steps[name] = min(steps[name] + 1, len(_DIGITS) - 1)


def find_clashes(within: tuple[str, ...], safe: Mapping[str, str]) -> Iterator[NameClash]:
    """Yield the clashes among the names of an object at the path `within`."""
    alike: dict[str, list[str]] = {}
    for name, chosen in safe.items():
        if chosen != _with_digest(name, 0):
            alike.setdefault(fold(_with_digest(name, 0)), []).append(name)
    for plain, clashing in sorted(alike.items()):
        yield NameClash((*within, plain), {name: safe[name] for name in sorted(clashing)})


def refuse_ambiguous(what: str, columns: Iterable[Column], clashes: Sequence[NameClash]) -> None:
    """Raise RecipeError where one of the columns is a name that several source names would share, and that none has."""
    for column in columns:
        for clash in clashes:
            if clash.hides(column):
                raise RecipeError(f"{what} {column} is ambiguous: {clash}; write one of these")


def _with_digest(name: str, digits: int) -> str:
    is_odd = not name or _UNSAFE.search(name) is not None
    base = (_UNSAFE.sub("_", name).strip("_") or "column") if is_odd else name
    return f"{base}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:digits]}" if digits else base
