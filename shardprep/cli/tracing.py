"""What became of one key: a line per ledger row that names it, in every set of an output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from shardprep.core.sample import flatten

if TYPE_CHECKING:
    from shardprep.shards.ledger import InputRow, Ledger, OutputRow
    from shardprep.shards.set import Committed, ShardSet


def trace(output: str, name: str, storage_options: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield lines about a sample, set by set in the order in which the sets build on each other.

    `name` is the beginning of its key, or the name or path of the file that it came from.
    """
    yield from _trace(output, (name, *keys_of_file(output, name, storage_options)), storage_options)


def keys_of_file(output: str, name: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the keys of the samples that came from a file: by its name, its path, or the end of its path."""
    from shardprep.driver.output import sets_below
    from shardprep.shards.join import open_view
    from shardprep.sources.keys import source_key

    found = []
    for url, info in sets_below(output, storage_options).items():
        if info is None or info.parents:
            continue
        for row in open_view(url, storage_options, partial=True).table(["source"]).to_pylist():
            source = row.get("source") or {}
            path = str(source.get("path"))
            if name in (source.get("name"), path) or path.endswith(f"/{name}"):
                found.append(row["key"])
    # One that could not be read has no record; its key begins like any of this name.
    slug = source_key(name).rpartition("-")[0]
    return found if found or "." not in name else [f"{slug}-"]


def _trace(output: str, beginnings: tuple[str, ...], storage_options: Mapping[str, Any] | None) -> Iterator[str]:
    from shardprep.driver.output import sets_below
    from shardprep.errors import IncompleteSet
    from shardprep.packed.sets import counting_ledgers

    found, torn = False, []
    for url in sets_below(output, storage_options):
        try:
            for line in _in_set(*counting_ledgers(url, storage_options), beginnings):
                found = True
                yield line
        except IncompleteSet as error:
            torn.append(f"not looked into: {error}")
    yield from torn if found else ()


def _in_set(found: ShardSet, shards: Mapping[str, Committed], beginnings: tuple[str, ...]) -> Iterator[str]:
    from shardprep.shards.ledger import read_table

    for shard, committed in sorted(shards.items()):
        keys = read_table(found.store.blob(committed.ledger), committed.ledger, ["key"]).column("key").to_pylist()
        if any(known.startswith(beginnings) for known in keys):
            yield from _in_ledger(found.info.step, shard, found.ledger(committed.ledger), beginnings)


def _in_ledger(step: str, shard: str, ledger: Ledger, beginnings: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of an input sample, then those of what came of it: what a sample holds stands below the line that names it."""
    of_parent: dict[str, list[OutputRow]] = {}
    for output in ledger.outputs:
        if output.key.startswith(beginnings):
            of_parent.setdefault(output.parent, []).append(output)
    tar = ledger.footer.tar.name if ledger.footer.tar else "?"
    for row in ledger.inputs:
        if row.key.startswith(beginnings):
            into = f" into {', '.join(row.into)}" if row.into and row.into != (row.key,) else ""
            yield f"{step} {shard}: {row.key} {_fate(row)}{into}"
        for output in of_parent.get(row.key, ()):
            if output.key != row.key:
                yield f"{step} {shard}: {output.key} {_fate(output)}, from {row.key}"
            yield from _held(output, tar)


def _held(output: OutputRow, tar: str) -> Iterator[str]:
    """Yield the columns and members of a sample."""
    for column, value in flatten(output.record):
        yield f"    {column}: {json.dumps(value, ensure_ascii=False)}"
    for member in output.members:
        yield f"    {output.key}.{member.suffix}: {member.size} bytes at {member.offset} of {tar}"


def _fate(row: InputRow | OutputRow) -> str:
    by = f" by {row.stage}" if row.stage else ""
    reason = f": {row.reason}" if row.reason else ""
    detail = f" ({row.detail})" if row.detail else ""
    return f"{row.fate}{by}{reason}{detail}"
