"""Verify: any folder of shardprep's, a set, a packed set or a whole output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shardprep.errors import ShardError
from shardprep.gather.verify import verify_packed
from shardprep.shards.names import LEDGERS, SET_FILE
from shardprep.shards.set import ShardSet, read_info
from shardprep.shards.store import Store
from shardprep.shards.verify import Problem, verify_set


def verify(url: str, storage_options: Mapping[str, object] | None = None) -> Iterator[Problem]:
    """Yield what is wrong; nothing where all is well. ShardError where there is nothing of shardprep's."""
    for found in sets_below(url, storage_options):
        info = read_info(Store(found, storage_options))
        packed = info is not None and info.kind == "packed"
        yield from verify_packed(found, storage_options) if packed else verify_set(found, storage_options)


def clean(url: str, storage_options: Mapping[str, object] | None = None) -> list[str]:
    """Remove what no shard needs from complete sets: superseded ledgers and tars, temporaries; return the names removed."""
    removed: list[str] = []
    for found in sets_below(url, storage_options):
        store = Store(found, storage_options)
        info = read_info(store)
        if info is None or info.kind == "packed":
            removed += [f"{found}/{name}" for name in [*store.clean_temporaries(), *store.at(LEDGERS).clean_temporaries()]]
            continue
        shard_set = ShardSet.open(store)
        removed += [f"{found}/{name}" for name in shard_set.collect(shard_set.current())]
    return removed


def sets_below(url: str, storage_options: Mapping[str, object] | None = None) -> list[str]:
    """Return the sets at a URL: itself, or the folders directly below an output, in the order of their making where known."""
    store = Store(url, storage_options)
    if SET_FILE in store.names():
        return [store.url]
    folders = sorted({file.name.split("/")[0] for file in store.walk() if file.name.count("/") == 1 and file.name.endswith(f"/{SET_FILE}")})
    if not folders:
        raise ShardError(f"{url} holds no shard set and is none: there is no {SET_FILE}. Name the output of a run, or one of its steps")
    infos = {name: read_info(store.at(name)) for name in folders}
    return [store.at(name).url for name in sorted(folders, key=lambda name: (len(infos[name].parents) if infos[name] else 0, name))]  # type: ignore[union-attr]  # tested in the same expression
