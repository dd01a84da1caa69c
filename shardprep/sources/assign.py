"""Assigns sources to raw shards, so that what is known stays where it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shardprep.shards.names import shard_name
from shardprep.sources.entry import SourceEntry

Groups = dict[str, list[SourceEntry]]


def assign_shards(
    entries: Iterable[SourceEntry], known: Mapping[str, Sequence[str]], samples_per_shard: int, shard_bytes: int, first_new: int = 0
) -> dict[str, list[SourceEntry]]:
    """Return the entries of every shard, by shard name, each sorted by path.

    A key that `known` (shard: keys) lists stays in its shard; new ones go to new shards in the order of their paths, at
    most so many samples and bytes in each, a larger one alone. Entries of a group go together, whatever their number: a
    new one joins the shard of its group, and a group that was spread over shards gathers in the first of them. Shards
    that lost all their sources are not returned. New shards are numbered from `first_new`, or above the known where these go
    beyond it: a name that was used once is not used again.
    """
    ordered = sorted(entries, key=lambda entry: (entry.path, entry.key))
    home = {key: shard for shard in sorted(known) for key in known[shard]}
    shards: Groups = {}
    new: list[list[SourceEntry]] = []
    for group in _together(ordered).values():
        homes = [home[entry.key] for entry in group if entry.key in home]
        if homes:
            shards.setdefault(min(homes), []).extend(group)
        else:
            new.append(group)
    number = max([first_new, *(int(shard) + 1 for shard in known)])
    for filled in _fill(new, samples_per_shard, shard_bytes):
        shards[shard_name(number)] = filled
        number += 1
    return {shard: sorted(shards[shard], key=lambda entry: (entry.path, entry.key)) for shard in sorted(shards)}


def _together(entries: Iterable[SourceEntry]) -> dict[tuple[bool, str], list[SourceEntry]]:
    groups: dict[tuple[bool, str], list[SourceEntry]] = {}
    for entry in entries:
        name = (False, entry.key) if entry.group is None else (True, entry.group)
        groups.setdefault(name, []).append(entry)
    return groups


def _fill(groups: Iterable[list[SourceEntry]], most_samples: int, most_bytes: int) -> Iterable[list[SourceEntry]]:
    shard: list[SourceEntry] = []
    size = 0
    for group in groups:
        group_size = sum(entry.size for entry in group)
        if shard and (len(shard) + len(group) > most_samples or size + group_size > most_bytes):
            yield shard
            shard, size = [], 0
        shard = [*shard, *group]
        size += group_size
    if shard:
        yield shard
