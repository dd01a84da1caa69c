"""Lists a source: every sample to be, in one order, with unique keys and its group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shardprep.core.plan import nearest
from shardprep.core.sample import Sample, flatten
from shardprep.errors import RecipeError, SourceError
from shardprep.sources.entry import SourceEntry
from shardprep.sources.lists import list_rows
from shardprep.sources.spec import FOLDER, SourceSpec
from shardprep.sources.tar_index import TarIndexes
from shardprep.sources.tars import list_tars
from shardprep.sources.videos import list_videos


def list_source(spec: SourceSpec, exclude: Sequence[str] = (), indexes: TarIndexes | None = None) -> list[SourceEntry]:
    """Return the entries of a source, sorted by path, keys unique; what is found below `exclude` (the output) is none of it.

    `indexes` know tars that were read before.
    """
    if spec.videos is not None:
        entries = list_videos(spec, exclude)
    elif spec.list is not None:
        entries = list_rows(spec)
    else:
        entries = list_tars(spec, exclude, indexes)
    entries = sorted(_grouped(entries, spec.group_by), key=lambda entry: (entry.path, entry.key))
    seen: dict[str, SourceEntry] = {}
    for entry in entries:
        if other := seen.get(entry.key):
            raise SourceError(f"{entry.path} and {other.path} have the same key {entry.key}; rename one")
        seen[entry.key] = entry
    return entries


def _folder(entry: SourceEntry) -> str:
    """Return the folder of a file; of a sample of a tar the folder in it, else the tar."""
    folder, _, name = entry.path.rpartition("/")
    tar, is_tar, _ = name.partition(".tar!")
    return f"{folder}/{tar}.tar".lstrip("/") if is_tar else folder or "."


def _grouped(entries: list[SourceEntry], group_by: str | None) -> list[SourceEntry]:
    if group_by is None:
        return entries
    if group_by == FOLDER:
        return [replace(entry, group=_folder(entry)) for entry in entries]
    column = group_by if group_by.startswith("meta.") else f"meta.{group_by}"
    known = dict.fromkeys(name for entry in entries for name, _ in flatten(entry.record))
    if column not in known:
        hint = nearest(column, list(known)) or f"; there is {', '.join(known)}"
        raise RecipeError(f"source.group_by: no source has a column {column}{hint}")
    values = [Sample(entry.key, entry.record).get(column) for entry in entries]
    return [replace(entry, group=None if value is None else str(value)) for entry, value in zip(entries, values, strict=True)]
