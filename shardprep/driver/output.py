"""The sets of an output: those that count, and those of steps that the recipe no longer has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardprep.errors import ShardError
from shardprep.recipe.model import RAW
from shardprep.shards.names import SET_FILE, set_name
from shardprep.shards.set import SetInfo, read_info_to_replace, relative_url
from shardprep.shards.store import Store


@dataclass(frozen=True)
class OutputSets:
    """The sets of an output by URL, in the order of their making where known."""

    live: Mapping[str, SetInfo | None]
    """Those of the recipe that was run last, and what they are read with; None for one whose `set.json` is damaged."""
    left: tuple[str, ...]
    """Those of steps that this recipe does not have; no live set is read with one."""


def sets_below(url: str, storage_options: Mapping[str, Any] | None = None) -> dict[str, SetInfo | None]:
    """Return the sets at a URL, itself or the folders directly below an output, by URL in the order of their making where known.

    Of one whose `set.json` is damaged nothing is known: None.
    """
    store = Store(url, storage_options)
    if store.size(SET_FILE) is not None:
        return {store.url: read_info_to_replace(store)}
    folders = sorted({file.name.split("/")[0] for file in store.walk() if file.name.count("/") == 1 and file.name.endswith(f"/{SET_FILE}")})
    if not folders:
        raise ShardError(f"{url} holds no shard set and is none: there is no {SET_FILE}. Name the output of a run, or one of its steps")
    # One that is damaged comes first, so that it is said before what builds on it.
    infos = {name: read_info_to_replace(store.at(name)) for name in folders}
    depths = {name: len(info.parents) if info else 0 for name, info in infos.items()}
    return {store.at(name).url: infos[name] for name in sorted(folders, key=lambda name: (depths[name], name))}


def output_sets(url: str, storage_options: Mapping[str, Any] | None = None) -> OutputSets:
    """Return the sets at a URL as `sets_below` does, parted by whether they count; a set that is named itself does."""
    found = sets_below(url, storage_options)
    left = _left({set_name(one): info for one, info in found.items()})
    live = {one: info for one, info in found.items() if set_name(one) not in left}
    return OutputSets(live, tuple(one for one in found if one not in live))


def output_that_left(url: str, storage_options: Mapping[str, Any] | None = None) -> str | None:
    """Return the output of a set whose step the recipe no longer has; None for any other folder."""
    store = Store(url, storage_options)
    info = read_info_to_replace(store)
    if info is None or not info.parents or read_info_to_replace(Store(relative_url(store.url, f"../{RAW}"), storage_options)) is None:
        return None
    output = store.url.rstrip("/").rpartition("/")[0]
    return output if store.url in output_sets(output, storage_options).left else None


def _left(infos: Mapping[str, SetInfo | None]) -> set[str]:
    raw = infos.get(RAW)
    left = infos.keys() & set(raw.former) if raw else set()
    live = [name for name in infos if name not in left]
    while live:
        info = infos[live.pop()]
        needed = {parent.removeprefix("../") for parent in info.parents} & left if info else set()
        left -= needed
        live += needed
    return left
