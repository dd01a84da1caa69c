"""Assigns sources to raw shards, so that what is known stays where it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isqrt
from typing import Literal

from shardprep.shards.names import shard_name
from shardprep.sources.entry import SourceEntry

LEAST_SHARDS = 16
ENOUGH_SAMPLES = 64

Groups = dict[str, list[SourceEntry]]


def assign_shards(
    entries: Iterable[SourceEntry],
    known: Mapping[str, Sequence[str]],
    samples_per_shard: int | Literal["auto"],
    shard_bytes: int,
    first_new: int = 0,
) -> dict[str, list[SourceEntry]]:
    """Return the entries of every shard, by shard name, each sorted by path.

    A key that `known` (shard: keys) lists stays in its shard; new ones go to new shards in the order of their paths, at
    most so many samples (`auto`: as `automatic_size` says of the new ones) and bytes in each, a larger one alone. Entries of
    a group go together, whatever their number: a new one joins the shard of its group, and a group that was spread over
    shards gathers in the first of them. Shards that lost all their sources are not returned. New shards are numbered from
    `first_new`, or above the known where these go beyond it: a name that was used once is not used again.
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
    most = automatic_size(sum(map(len, new))) if samples_per_shard == "auto" else samples_per_shard
    for filled in _fill(new, most, shard_bytes):
        shards[shard_name(number)] = filled
        number += 1
    return {shard: sorted(shards[shard], key=lambda entry: (entry.path, entry.key)) for shard in sorted(shards)}


def automatic_size(num_samples: int) -> int:
    """Return how many of so many new samples go into one shard.

    At least 16 shards come of it where there are so many samples, so that there is work to share and progress to keep; 64
    samples are enough for a shard, until there would be more shards than samples in each.
    """
    return min(max(1, num_samples // LEAST_SHARDS), max(ENOUGH_SAMPLES, isqrt(num_samples)))


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
        shard += group
        size += group_size
    if shard:
        yield shard
