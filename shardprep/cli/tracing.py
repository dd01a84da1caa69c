"""What became of one key: a line per ledger row that names it, in every set of an output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from shardprep.core.sample import flatten

if TYPE_CHECKING:
    from shardprep.shards.ledger import InputRow, Ledger, OutputRow
    from shardprep.shards.set import Committed, ShardSet


def trace(output: str, key: str) -> Iterator[str]:
    """Yield lines about every row whose key begins with `key`, set by set in the order in which the sets build on each other."""
    from shardprep.driver.verify import sets_below
    from shardprep.errors import IncompleteSet
    from shardprep.packed.sets import counting_ledgers

    found, torn = False, []
    for url in sets_below(output):
        try:
            for line in _in_set(*counting_ledgers(url), key):
                found = True
                yield line
        except IncompleteSet as error:
            torn.append(f"not looked into: {error}")
    yield from torn if found else ()


def _in_set(found: ShardSet, shards: Mapping[str, Committed], key: str) -> Iterator[str]:
    from shardprep.shards.ledger import read_table

    for shard, committed in sorted(shards.items()):
        keys = read_table(found.store.blob(committed.ledger), committed.ledger, ["key"]).column("key").to_pylist()
        if any(known.startswith(key) for known in keys):
            yield from _in_ledger(found.info.step, shard, found.ledger(committed.ledger), key)


def _in_ledger(step: str, shard: str, ledger: Ledger, key: str) -> Iterator[str]:
    for row in ledger.inputs:
        if row.key.startswith(key):
            into = f" into {', '.join(row.into)}" if row.into and row.into != (row.key,) else ""
            yield f"{step} {shard}: {row.key} {_fate(row)}{into}"
    for output in ledger.outputs:
        if output.key.startswith(key):
            if output.parent != output.key:
                yield f"{step} {shard}: {output.key} {_fate(output)}, from {output.parent}"
            for column, value in flatten(output.record):
                yield f"    {column}: {json.dumps(value, ensure_ascii=False)}"
            tar = ledger.footer.tar.name if ledger.footer.tar else "?"
            for member in output.members:
                yield f"    {output.key}.{member.suffix}: {member.size} bytes at {member.offset} of {tar}"


def _fate(row: InputRow | OutputRow) -> str:
    by = f" by {row.stage}" if row.stage else ""
    reason = f": {row.reason}" if row.reason else ""
    detail = f" ({row.detail})" if row.detail else ""
    return f"{row.fate}{by}{reason}{detail}"
