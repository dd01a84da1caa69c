"""Tables for people: the columns that matter and fit the terminal, or a block per row where more was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shardprep.core.quantity import counted

_ESSENTIAL = (
    "key", "role", "stage", "reason", "detail", "parent", "scores", "clip.seconds", "media.height", "media.width", "media.fps",
    "media.codec", "media.seconds", "caption.text", "source.name", "latent.shape", "t5.num_tokens", "media.num_frames", "members",
    "column", "count", "nulls", "min", "median", "max", "p25", "p75", "p05", "p95", "most_common", "distinct",
)  # fmt: skip
"""Columns in the order in which they are given room; `scores` stands for all that it holds."""
_SHOWN_LATER = ("media", "latent", "t5", "caption", "source", "members")
"""Groups in the order in which they stand after the key, the fate, the scores and the clip."""
_STRETCHED = ("detail", "most_common", "caption.text")
"""Texts that take the room that is left."""
_GAP = "  "
_LONGEST, _LONGEST_ASKED = 32, 60
"""Characters of a text or list that nobody asked for by name, and of one that somebody did."""
_WHOLE = 1 << 20
_FEW = 3
"""Columns beside the key below which a table says less than blocks do."""


def lay_out(rows: Sequence[Mapping[str, Any]], names: Sequence[str], width: int, *, asked: bool) -> list[str]:
    """Return lines of at most `width` characters, but for keys, which are there to be copied.

    Where the columns were `asked` for all of them are shown; else those that matter and fit, with the number of the others.
    """
    longest, digits = (_LONGEST_ASKED, 6) if asked else (_LONGEST, 4)
    cells = {name: [cell(row[name], _WHOLE if name == "key" else longest, digits) for row in rows] for name in names}
    widths = {name: max([len(part) for part in _heading(name)] + [len(text) for text in texts]) for name, texts in cells.items()}
    telling = [name for name in names if asked or not _says_nothing(name, rows)]
    shown = telling if asked else _fitting(telling, widths, width)
    left = width - sum(widths[name] + len(_GAP) for name in shown) + len(_GAP)
    if left < 0 or (not asked and len(shown) <= min(_FEW, len(telling) - 1)):
        shown = telling if asked else _by_rank(telling)[:10]
        lines = [*_blocks(rows, shown, width)]
    else:
        for name in [name for name in _STRETCHED if name in shown][:1]:
            cells[name] = [cell(row[name], widths[name] + left) for row in rows]
            widths[name] = max(map(len, [*cells[name], name]))
        numeric = {name for name in shown if all(isinstance(row[name], (int, float, type(None))) for row in rows)}
        lines = [*_table(cells, shown, widths, numeric)]
    rest = len(names) - len(shown)
    return [
        *lines,
        "",
        counted(len(rows), "row")
        + (f", +{counted(rest, 'column')}: choose with --columns NAME,NAME; add --stats to list all" if rest else ""),
    ]


def cell(value: Any, longest: int = _LONGEST_ASKED, digits: int = 6) -> str:
    """Return a value as one short line that drives no terminal: numbers to so many digits, long lists and texts cut."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e12 else f"{value:.{digits}g}"
    if isinstance(value, (list, tuple)):
        value = [float(f"{one:.4g}") if isinstance(one, float) else one for one in value[: longest // 2 + 1]]
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else str(value)
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _table(cells: Mapping[str, Sequence[str]], shown: Sequence[str], widths: Mapping[str, int], numeric: set[str]) -> Iterator[str]:
    def line(texts: Sequence[str]) -> str:
        placed = (
            text.rjust(widths[name]) if name in numeric else text.ljust(widths[name]) for name, text in zip(shown, texts, strict=True)
        )
        return _GAP.join(placed).rstrip()

    groups, own = zip(*(_heading(name) for name in shown), strict=True)
    if any(groups):
        yield line(groups)
    yield line(own)
    yield _GAP.join("-" * widths[name] for name in shown)
    for row in zip(*(cells[name] for name in shown), strict=True):
        yield line(row)


def _blocks(rows: Sequence[Mapping[str, Any]], names: Sequence[str], width: int) -> Iterator[str]:
    others = [name for name in names if name != "key"]
    margin = max((len(name) for name in others), default=0) + 4
    for number, row in enumerate(rows):
        if number:
            yield ""
        yield cell(row.get("key", f"row {number + 1}"), _WHOLE)
        for name in others:
            if row[name] is not None:
                yield f"  {name}:".ljust(margin) + cell(row[name], max(width - margin, 20))


def _fitting(names: Sequence[str], widths: Mapping[str, int], width: int) -> list[str]:
    """Return the columns that fit, the most important first in room, in the order of reading."""
    chosen: list[str] = []
    left = width + len(_GAP)
    for name in _by_rank(names):
        if widths[name] + len(_GAP) <= left:
            chosen.append(name)
            left -= widths[name] + len(_GAP)
    return sorted(chosen, key=lambda name: (_reading(name), names.index(name)))


def _says_nothing(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the column only tells apart what need not be: all rows of one role, parents that are the samples themselves."""
    if name == "role":
        return len({row[name] for row in rows}) < 2
    return name == "parent" and all(row[name] in (None, row.get("key")) for row in rows)


def _by_rank(names: Sequence[str]) -> list[str]:
    """Return the columns that matter, the most important first; all of them where none is known to matter."""
    ranks = {name: rank for name in names for rank, known in enumerate(_ESSENTIAL) if name == known or name.startswith(f"{known}.")}
    return sorted(ranks, key=lambda name: (ranks[name], names.index(name))) or list(names)


def _reading(name: str) -> int:
    group = name.partition(".")[0]
    return _SHOWN_LATER.index(group) + 1 if group in _SHOWN_LATER else 0


def _heading(name: str) -> tuple[str, str]:
    """Return the two lines over a column: `scores.` and `flow`."""
    group, dot, own = name.partition(".")
    return (f"{group}.", own) if dot else ("", name)
