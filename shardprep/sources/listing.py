"""Lists a source: every sample to be, in one order, with unique keys and its group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from shardprep.core.hints import nearest
from shardprep.core.reads import Column
from shardprep.core.sample import Sample, flatten
from shardprep.errors import RecipeError
from shardprep.sources.entry import SourceEntry
from shardprep.sources.keys import longer_key
from shardprep.sources.lists import list_rows
from shardprep.sources.safe_names import NameClash, refuse_ambiguous
from shardprep.sources.spec import FOLDER, SourceSpec
from shardprep.sources.tar_index import TarIndexes
from shardprep.sources.tars import list_tars
from shardprep.sources.videos import list_videos


def list_source(
    spec: SourceSpec,
    exclude: Sequence[str] = (),
    indexes: TarIndexes | None = None,
    say: Callable[[str], None] = lambda text: None,
    clashes: list[NameClash] | None = None,
) -> list[SourceEntry]:
    """Return the entries of a source, sorted by path, keys unique. Files below `exclude` (the output) are skipped.

    `indexes` know tars and JSON files that were read before; `say` is told what a person should know. `clashes` gets the
    names that several columns of metadata would share, and that none has.
    """
    found: list[NameClash] = [] if clashes is None else clashes
    if spec.videos is not None:
        entries = list_videos(spec, exclude, indexes, say, found.append)
    elif spec.list is not None:
        entries = list_rows(spec, found.append)
    else:
        entries = list_tars(spec, exclude, indexes, say, found.append)
    for clash in found:
        say(f"{clash}: their names are equal but for case, or for letters that no name has")
    return sorted(_with_unique_keys(_grouped(entries, spec.group_by, found)), key=lambda entry: (entry.path, entry.key))


def _with_unique_keys(entries: list[SourceEntry]) -> list[SourceEntry]:
    """Return the entries; those with one key for two paths get longer keys and a problem that names both."""
    holders: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        holders.setdefault(entry.key, []).append(place)
    unique = list(entries)
    for places in holders.values():
        paths = sorted({entries[place].path for place in places})
        named: set[str] = set()
        for number, place in enumerate(places if len(places) > 1 else (), 1):
            entry = entries[place]
            if entry.path in named:
                again = f"duplicate-path: the source names {entry.path} twice; leave one out"
                unique[place] = replace(entry, key=longer_key(entry.key, f"{entry.path}#{number}"), problem=again)
            elif len(paths) > 1:
                both = f"key-collision: {' and '.join(paths)} have the same key {entry.key}; rename one of the files"
                unique[place] = replace(entry, key=longer_key(entry.key, entry.path), problem=both)
            named.add(entry.path)
    return unique


def _folder(entry: SourceEntry) -> str:
    """Return the folder of a file; of a sample of a tar the folder in it, else the tar."""
    folder, _, name = entry.path.rpartition("/")
    tar, is_tar, _ = name.partition(".tar!")
    return f"{folder}/{tar}.tar".lstrip("/") if is_tar else folder or "."


def _grouped(entries: list[SourceEntry], group_by: str | None, clashes: Sequence[NameClash]) -> list[SourceEntry]:
    if group_by is None:
        return entries
    if group_by == FOLDER:
        return [replace(entry, group=_folder(entry)) for entry in entries]
    column = group_by if group_by.startswith("meta.") else f"meta.{group_by}"
    refuse_ambiguous("source.group_by:", [Column(tuple(column.split(".")))], clashes)
    known = dict.fromkeys(name for entry in entries for name, _ in flatten(entry.record))
    if column not in known:
        hint = nearest(column, list(known)) or f"; there is {', '.join(known)}"
        raise RecipeError(f"source.group_by: no source has a column {column}{hint}")
    values = [Sample(entry.key, entry.record).get(column) for entry in entries]
    return [replace(entry, group=None if value is None else str(value)) for entry, value in zip(entries, values, strict=True)]
