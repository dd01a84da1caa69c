"""Rows that name one file several times, with times: the clips of one source sample."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shardprep.core.stage import ColumnType
from shardprep.sources.columns import CompactRecord
from shardprep.sources.entry import SourceEntry
from shardprep.sources.keys import source_key

GROUP = "spans"
"""The columns that hold the clips of a sample: `starts` and `ends` in seconds, `texts` (empty where there is none) and
`rows`, the metadata of each clip that is not that of all, as JSON."""
COLUMNS: Mapping[str, ColumnType] = {
    f"{GROUP}.starts": "list<double>",
    f"{GROUP}.ends": "list<double>",
    f"{GROUP}.texts": "list<string>",
    f"{GROUP}.rows": "list<string>",
}

_CLOCK = re.compile(r"(?:(?P<hours>\d{1,4}):)?(?P<minutes>\d{1,4}):(?P<seconds>\d{1,2}(?:[.,]\d{1,9})?)")


@dataclass(frozen=True)
class Span:
    """A clip of a file, half-open, in seconds."""

    start: float
    end: float


def span_of(start: Any, end: Any) -> Span | str | None:
    """Return the clip that two values of a row say, None where both are null, or in words what is wrong with them."""
    if start is None and end is None:
        return None
    seconds = (_seconds(start), _seconds(end))
    if seconds[0] is None or seconds[1] is None or not 0 <= seconds[0] < seconds[1]:
        return f"it goes from {start!r} to {end!r}; expected seconds or H:MM:SS.mmm, the end after the start"
    return Span(seconds[0], seconds[1])


def merge_clips(entries: Sequence[SourceEntry], spans: Sequence[Span | str | None], name: str) -> list[SourceEntry]:
    """Return one entry per file with its clips in the order of their times, from an entry and a span for each row of the list `name`.

    A row whose times are wrong, or that has none where others of its file have some, is an entry of its own with that problem.
    """
    held: dict[str, list[tuple[Span | None, SourceEntry]]] = {}
    wrong: list[SourceEntry] = []
    timed = {entry.key for entry, span in zip(entries, spans, strict=True) if isinstance(span, Span)}
    whole: set[str] = set()
    for number, (entry, span) in enumerate(zip(entries, spans, strict=True), 1):
        words = span if isinstance(span, str) else None
        if span is None and (entry.key in timed or entry.key in whole):
            words = "it has no times, and another row names the same file"
        if words is not None:
            problem = f"bad-times: row {number} of {name}: {words}"
            wrong.append(replace(entry, key=source_key(f"{entry.path}#{number}"), problem=problem))
            continue
        whole |= {entry.key} if span is None else set()
        held.setdefault(entry.key, []).append((span if isinstance(span, Span) else None, entry))
    return [_merged(rows) for rows in held.values()] + wrong


def _merged(rows: Sequence[tuple[Span | None, SourceEntry]]) -> SourceEntry:
    entry = rows[0][1]
    timed = sorted(((span, row.columns) for span, row in rows if span is not None), key=lambda one: (one[0].start, one[0].end))
    if not timed:
        return entry
    metas: list[Mapping[str, Any]] = [columns.get("meta", {}) for _, columns in timed]
    common = {name: value for name, value in metas[0].items() if all(name in meta and meta[name] == value for meta in metas)}
    own = [{name: value for name, value in meta.items() if name not in common} for meta in metas]
    clips = {
        "starts": [span.start for span, _ in timed],
        "ends": [span.end for span, _ in timed],
        "texts": [columns.get("caption", {}).get("text", "") for _, columns in timed],
        "rows": [json.dumps(meta, ensure_ascii=False, sort_keys=True) for meta in own],
    }
    return replace(entry, columns=CompactRecord({**({"meta": common} if common else {}), GROUP: clips}))


def _seconds(value: Any) -> float | None:
    """Return the seconds of a number, of a number as text, or of H:MM:SS.mmm; None where it is none of these."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    if clock := _CLOCK.fullmatch(value.strip()):
        return int(clock["hours"] or 0) * 3600 + int(clock["minutes"]) * 60 + float(clock["seconds"].replace(",", "."))
    try:
        return _seconds(float(value))
    except ValueError:
        return None
