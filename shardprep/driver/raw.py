"""The source's own set `raw/`: its sources, dealt to shards, and the state of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shardprep.core.fingerprint import FORMAT_VERSION, digest, shard_fingerprint
from shardprep.driver.assignment import (
    as_they_were,
    changes,
    first_unused,
    is_read,
    keys_by_shard,
    read_assignment,
    remove_other_assignments,
    write_assignment,
)
from shardprep.driver.lease import LEASES
from shardprep.driver.noted_steps import note_steps
from shardprep.driver.run_log import LOGS
from shardprep.driver.splitting import split_notes
from shardprep.driver.state import StepState
from shardprep.recipe.check import check_source_names
from shardprep.recipe.model import RAW, Pass, Recipe
from shardprep.shards.names import SET_FILE, SOURCE_TARS
from shardprep.shards.set import SetInfo, ShardSet, read_info_to_replace, write_info
from shardprep.shards.store import Store
from shardprep.sources.assign import assign_shards
from shardprep.sources.entry import SourceEntry
from shardprep.sources.listing import list_source
from shardprep.sources.safe_names import NameClash
from shardprep.sources.tar_index import TarIndexes

_MADE_AS_DIGITS = 16
"""Of a raw shard's fingerprint in `set.json`: enough to tell two apart that a name does not."""


@dataclass(frozen=True)
class RawState:
    """The source's own set, with the sources of each shard."""

    state: StepState
    entries: Mapping[str, Sequence[SourceEntry]]
    noted: str | None
    """The assignment that was read; None where it is lost or damaged."""
    first_new: int
    """The number of the first shard name that was never used, these shards included."""
    notes: tuple[str, ...]
    """What a person should know of the source."""
    changes: str
    """How many samples are new, changed and removed, such as `2 new, 1 removed`."""
    tar_indexes: TarIndexes
    """What the source's tars hold; `write_raw_info` keeps it for the next run."""


def raw_state(recipe: Recipe, *, retry: bool) -> RawState:
    """List the source and compare it with `raw/`; RecipeError where a step reads a name that several columns of the source would have."""
    output = Store(recipe.output, recipe.settings.storage_options)
    store = output.at(RAW)
    was = read_info_to_replace(store)
    known = read_assignment(store, was)
    tar_indexes = TarIndexes(store.at(SOURCE_TARS))
    notes: list[str] = []
    clashes: list[NameClash] = []
    listed = list_source(recipe.reachable_source, (output.url,), tar_indexes, notes.append, clashes)
    check_source_names(recipe, clashes)
    entries = as_they_were(listed, known)
    first_new = first_unused(known)
    notes += split_notes([stage for step in recipe.steps if isinstance(step, Pass) for stage in step.stages], entries)
    assigned = assign_shards(entries, keys_by_shard(known), recipe.source.samples_per_shard, recipe.source.shard_bytes, first_new)
    first_new = max([first_new, *(int(shard) + 1 for shard in assigned)])
    identity = {"format": FORMAT_VERSION, "source": "raw"}
    fingerprints = {
        shard: shard_fingerprint(digest(identity), [entry.identity() for entry in entries]) for shard, entries in assigned.items()
    }
    info = SetInfo(
        step=RAW,
        kind="base",
        step_fingerprint=digest(identity),
        identity=identity,
        parents=(),
        shards=tuple(assigned),
        steps=note_steps(recipe),
        # A step that the recipe has again counts as soon as the run begins.
        former=tuple(name for name in was.former if all(name != step.name for step in recipe.steps)) if was else (),
        made_as=tuple(fingerprint[:_MADE_AS_DIGITS] for fingerprint in fingerprints.values()),
    )
    state = StepState(RAW, ShardSet(store, info), was, (), fingerprints)
    state.refresh(retry=retry)
    return RawState(
        state, assigned, was.assignment if was and is_read(known) else None, first_new, tuple(notes), changes(entries, known), tar_indexes
    )


def write_raw_info(raw: RawState) -> None:
    """Write which source lies in which shard, then `set.json`; delete earlier assignment files."""
    store = raw.state.set.store
    raw.tar_indexes.save()
    name = write_assignment(store, raw.entries, raw.first_new, raw.noted)
    raw.state.set.info = replace(raw.state.info, assignment=name)
    if raw.state.was != raw.state.info:
        write_info(store, raw.state.info)
    remove_other_assignments(store, name, raw.state.set.listed if name == raw.noted else None)


def with_former(info: SetInfo, recipe: Recipe) -> SetInfo:
    """Return the info of `raw/` with the names of sets that no step of the recipe makes, as `former`.

    They come from earlier recipes, also from runs that did not end.
    """
    output = Store(recipe.output, recipe.settings.storage_options)
    others = sorted(set(output.folders()) - {RAW, LEASES, LOGS, *(step.name for step in recipe.steps)})
    return replace(info, former=tuple(name for name in others if output.at(name).size(SET_FILE) is not None))
