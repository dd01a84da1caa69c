"""Rows of a list become entries: their file, their caption, and all other columns as metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from shardprep.core.hints import nearest
from shardprep.errors import RecipeError, WrongSource
from shardprep.shards.local import ABSENT
from shardprep.shards.store import Store
from shardprep.sources.captions import TEXT_FIELDS
from shardprep.sources.columns import as_text, caption_and_meta, look_up, shape_problem, typed_columns
from shardprep.sources.entry import SourceEntry
from shardprep.sources.find import stat_files
from shardprep.sources.given_clips import merge_clips, span_of
from shardprep.sources.keys import printable, source_key
from shardprep.sources.places import WEB, absolute, is_url, join, public, relative, scheme_of, split_url, suffix_of
from shardprep.sources.rows import Row, read_rows
from shardprep.sources.safe_names import NameClash
from shardprep.sources.spec import LIST_SUFFIXES, SourceSpec
from shardprep.sources.videos import file_entry

SCHEMES = frozenset("file http https s3 s3a gs gcs az abfs memory".split())
"""Kinds of stores that a row may name besides those of the recipe: data does not choose which code is loaded."""


def list_rows(spec: SourceSpec, clashes: Callable[[NameClash], None]) -> list[SourceEntry]:
    """Return an entry per row; one with a problem where the row has no path, names no file, or a file that an earlier row named.

    With `start_column`, rows that name one file are the clips of one entry.
    """
    place = absolute(spec.locations[0])
    folder, name = split_url(place)
    rows = _read_list(spec, place)
    _check_columns(spec, rows, name)
    root = absolute(spec.root) if spec.root is not None else folder
    odd = [shape_problem(_metadata(spec, row)) for row in rows]
    metas = typed_columns([{} if problem else _metadata(spec, row) for row, problem in zip(rows, odd, strict=True)], clashes)
    urls = [_locate(look_up(row, spec.path_column), root, {scheme_of(place), scheme_of(root)}) for row in rows]
    files = stat_files((url for url, problem in urls if problem is None), spec.storage_options)
    entries: list[SourceEntry] = []
    first: dict[str, int] = {}
    for number, (row, meta, (url, problem), too_much) in enumerate(zip(rows, metas, urls, odd, strict=True), 1):
        shown = public(url)
        path = relative(shown, root)
        count = f"{path}#{number}"
        if problem is not None:
            entry = SourceEntry(key=source_key(count, ""), path=printable(path) or f"{name}#{number}", size=0, version="", problem=problem)
        elif shown in first and spec.start_column is None:
            again = f"duplicate-path: rows {first[shown]} and {number} of {name} both name {printable(path)}; leave one out"
            entry = replace(file_entry(url, path, files[url], {}), key=source_key(count), problem=again)
        else:
            first.setdefault(shown, number)
            entry = file_entry(url, path, files[url], {})
            if too_much:
                bad = f"bad-row: row {number} of {name}: {too_much}; say in source.columns which ones to carry"
                # A clip fails alone: the other rows of its file stay good.
                entry = replace(entry, key=entry.key if spec.start_column is None else source_key(count), problem=bad)
        entries.append(replace(entry, columns=caption_and_meta(_text(spec, row), meta)))
    if spec.start_column is None or spec.end_column is None:
        return entries
    spans = [span_of(look_up(row, spec.start_column), look_up(row, spec.end_column)) for row in rows]
    return merge_clips(entries, spans, name)


def _read_list(spec: SourceSpec, place: str) -> list[Row]:
    """Return the rows of the list; WrongSource where there is none of this name, or no row in it."""
    if suffix_of(place) not in LIST_SUFFIXES:
        raise RecipeError(f"source.list {spec.locations[0]!r}: expected a file that ends in {', '.join(LIST_SUFFIXES)}")
    folder, name = split_url(place)
    store = Store(folder, spec.storage_options)
    # Only a web server's answer tells a missing file from a missing server.
    is_absent = scheme_of(place) in WEB and stat_files([place], spec.storage_options)[place].version == ABSENT
    seen = store.version(name)
    if is_absent or seen is None:
        raise WrongSource(f"source.list {spec.locations[0]!r}: there is no file {public(place)}; check the path, or give --input")
    rows = read_rows(
        store.blob(name, 0, seen.size, seen), suffix_of(place), f"list {printable(public(place))}", _texts(spec), spec.path_column
    )
    if not rows:
        raise WrongSource(f"list {place} has no rows; check the file")
    return rows


def _texts(spec: SourceSpec) -> frozenset[str]:
    """The columns that are text whatever they hold."""
    return frozenset({spec.path_column, *TEXT_FIELDS, *([spec.text_column] if spec.text_column else [])})


def _check_columns(spec: SourceSpec, rows: Sequence[Row], name: str) -> None:
    """Refuse a setting that names a column which no row has."""
    settings = {name: getattr(spec, name) for name in ("path_column", "text_column", "start_column", "end_column")}
    settings |= {f"columns.{new}": column for new, column in (spec.columns or {}).items()}
    known = dict.fromkeys(str(column) for row in rows for column in row)
    for setting, column in settings.items():
        if column is not None and column not in known and all(look_up(row, column) is None for row in rows):
            hint = nearest(column, list(known)) or f"; there is {', '.join(list(known)[:20])}"
            raise RecipeError(f"source.{setting}: {name} has no column {column!r}{hint}")


def _metadata(spec: SourceSpec, row: Row) -> dict[str, Any]:
    if spec.columns is not None:
        return {new: look_up(row, column) for new, column in spec.columns.items()}
    empty = () if spec.text_column else (name for name in TEXT_FIELDS if as_text(row.get(name)) is None)
    used = {spec.path_column, spec.start_column, spec.end_column, _text_column(spec, row), *empty}
    return {column: value for column, value in row.items() if column not in used}


def _text_column(spec: SourceSpec, row: Row) -> str | None:
    """Return the column of the row's caption: of `text` and `caption` the first that holds text, as in JSON files."""
    return spec.text_column or next((name for name in TEXT_FIELDS if as_text(row.get(name)) is not None), None)


def _text(spec: SourceSpec, row: Row) -> str | None:
    column = _text_column(spec, row)
    return None if column is None else as_text(look_up(row, column))


def _locate(value: Any, root: str, schemes: set[str]) -> tuple[str, str | None]:
    """Return the absolute place that a row names, and the problem with it."""
    if not isinstance(value, str) or not value.strip():
        return "", f"no-path: the row names no file but {value!r}"
    if is_url(value) and scheme_of(value) not in SCHEMES | schemes:
        return (
            value,
            f"unknown-store: a list may name files, {', '.join(sorted(SCHEMES - {'file'}))}; {printable(public(value))} is none of these",
        )
    if is_url(value) and scheme_of(value) not in WEB and public(value) != value:
        return value, f"credentials-in-address: {public(value)} had a user and a password in it; give them in storage_options"
    return join(root, value), None
