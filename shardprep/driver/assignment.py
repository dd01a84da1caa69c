"""Which source lies in which raw shard, and as what it was listed: a Parquet file that is kept from run to run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from shardprep.core.version import FileVersion
from shardprep.errors import Damaged, ShardError, StoreError
from shardprep.shards.ledger import read_table
from shardprep.shards.local import ABSENT
from shardprep.shards.names import parse_ledger_name
from shardprep.shards.parquet import open_parquet_bytes, write_parquet
from shardprep.shards.set import SetInfo
from shardprep.shards.store import Store
from shardprep.sources.entry import SourceEntry
from shardprep.sources.find import UNREACHABLE

_PREFIX = "assignment-"
_FIRST_NEW = b"shardprep.first_new"
"""In the file's metadata: the number of the first shard name that was never used."""
_COLUMNS = pa.schema([("shard", pa.string()), ("key", pa.string()), ("version", pa.string()), ("size", pa.int64())])


def write_assignment(store: Store, entries: Mapping[str, Sequence[SourceEntry]], first_new: int, noted: str | None = None) -> str:
    """Write the file where it would change, and return its name, which says its content.

    `first_new` is the number of the first shard name that was never used, `noted` the name of a file that was found whole.
    """
    sink = io.BytesIO()
    write_parquet(_table_of(entries).replace_schema_metadata({_FIRST_NEW: str(first_new)}), sink)
    name = _name_of(sink.getvalue())
    if name != noted and store.read_if_there(name) != sink.getvalue():
        store.replace_bytes(name, sink.getvalue())
    return name


def damage_of_assignment(store: Store, name: str) -> str | None:
    """Say what is wrong with the file of this name; None where it is whole."""
    if store.size(name) is None:
        return "it is missing"
    try:
        _checked(store, name)
    except Damaged as error:
        return str(error)
    return None


def _checked(store: Store, name: str) -> bytes:
    data = store.read(name)
    if _name_of(data) != name:
        raise Damaged("it was changed after it was written")
    return data


def _name_of(data: bytes) -> str:
    return f"{_PREFIX}{hashlib.sha256(data).hexdigest()[:12]}.parquet"


def is_assignment(name: str) -> bool:
    """Whether a file of a set says which source lies in which shard."""
    return name.startswith(_PREFIX) and name.endswith(".parquet")


def remove_other_assignments(store: Store, name: str, listed: Mapping[str, int] | None = None) -> None:
    """Delete assignment files other than `name`; `listed` are the files there, where these are known."""
    for other in store.names() if listed is None else listed:
        if other.startswith(_PREFIX) and other != name:
            store.remove(other)


def read_assignment(store: Store, was: SetInfo | None) -> pa.Table:
    """Return which source every raw shard has so far; from the ledgers where the file that says so is lost or damaged."""
    names = store.names()
    there = [name for name in names if name.startswith(_PREFIX)]
    # Without set.json the only one there is it: no run was killed between writing the next and removing the last.
    if (noted := was.assignment if was else (there[0] if len(there) == 1 else None)) in names:
        # Damaged, or taken away by another run: the ledgers know as well.
        with suppress(pa.ArrowException, OSError, ValueError, StoreError, Damaged):
            table = open_parquet_bytes(_checked(store, str(noted))).read(use_threads=False)
            return table.cast(_COLUMNS).replace_schema_metadata(table.schema.metadata)
    rows = [{"shard": shard, "key": key} for shard, key in _in_ledgers(store, names)]
    return pa.Table.from_pylist(rows, _COLUMNS)


def is_read(known: pa.Table) -> bool:
    """Whether what is known was read from the file that says it, and not from ledgers."""
    return _FIRST_NEW in (known.schema.metadata or {})


def first_unused(known: pa.Table) -> int:
    """Return the number of the first shard name that no source ever had, as far as is known."""
    noted = int((known.schema.metadata or {}).get(_FIRST_NEW, b"0"))
    return max([noted, *(int(shard) + 1 for shard in pc.unique(known["shard"]).to_pylist())])


def keys_by_shard(known: pa.Table) -> dict[str, list[str]]:
    """Return the keys that every raw shard has so far."""
    grouped: dict[str, list[str]] = {}
    for shard, key in zip(known["shard"].to_pylist(), known["key"].to_pylist(), strict=True):
        grouped.setdefault(shard, []).append(key)
    return grouped


def as_they_were(entries: list[SourceEntry], known: pa.Table) -> list[SourceEntry]:
    """Return the entries; where a web server does not answer, the entry as last recorded, so that what was made of it stays."""
    # An entry that has another problem as well, such as a row that names the same file again, keeps that problem.
    lost = {entry.key for entry in entries if entry.failure and entry.failure.reason == UNREACHABLE}
    if not lost:
        return entries
    rows = known.filter(pc.and_(pc.is_in(known["key"], pa.array(lost)), pc.is_valid(known["version"]))).to_pylist()
    were = {row["key"]: (row["version"], row["size"]) for row in rows}
    return [_with_version(entry, *were[entry.key]) if entry.key in were else entry for entry in entries]


def changes(entries: Sequence[SourceEntry], known: pa.Table) -> str:
    """Say how many samples of the source are new, changed and gone since it was listed before; empty where nothing was, or did."""
    versions = dict(zip(known["key"].to_pylist(), known["version"].to_pylist(), strict=True))
    now = {entry.key: entry.version for entry in entries}
    numbers = {
        "new": len(now.keys() - versions.keys()),
        "changed": sum(versions[key] not in (None, now[key]) for key in now.keys() & versions.keys()),
        "removed": len(versions.keys() - now.keys()),
    }
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number) if versions else ""


def _table_of(entries: Mapping[str, Sequence[SourceEntry]]) -> pa.Table:
    """Return a row of `shard`, `key`, `version` and `size` per source."""
    held = [entry for of_shard in entries.values() for entry in of_shard]
    return pa.table(
        {
            "shard": pa.array((shard for shard, of_shard in entries.items() for _ in of_shard), pa.string()),
            "key": pa.array((entry.key for entry in held), pa.string()),
            "version": pa.array((entry.version for entry in held), pa.string()),
            "size": pa.array((entry.size for entry in held), pa.int64()),
        },
        _COLUMNS,
    )


def _in_ledgers(store: Store, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if parsed := parse_ledger_name(name):
            try:
                table = read_table(store.blob(name), f"{store.url}/{name}", ["role", "key"])
            except ShardError:
                continue
            yield from ((parsed.shard, row["key"]) for row in table.to_pylist() if row["role"] == "input")


def _with_version(entry: SourceEntry, version: str, size: int) -> SourceEntry:
    if version in (ABSENT, UNREACHABLE):
        return entry
    members = tuple(replace(member, size=size, version=FileVersion(size, version)) for member in entry.members)
    return replace(entry, version=version, size=size, members=members, problem=None)
