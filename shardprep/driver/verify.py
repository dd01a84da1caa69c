"""Verify: any folder of shardprep's, a set, a packed set or a whole output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from shardprep.driver.assignment import damage_of_assignment
from shardprep.driver.output import output_sets, output_that_left
from shardprep.errors import Damaged
from shardprep.packed.names import MANIFEST_FILE
from shardprep.packed.verify import verify_packed
from shardprep.shards.lineage import left_remedy
from shardprep.shards.names import SET_FILE, SOURCE_TARS, parse_ledger_name
from shardprep.shards.set import read_info
from shardprep.shards.store import Store
from shardprep.shards.verify import Problem, verify_set
from shardprep.sources.tar_index import damaged_indexes


def verify(url: str, storage_options: Mapping[str, object] | None = None) -> Iterator[Problem]:
    """Yield what is wrong; nothing where all is well. ShardError where there is nothing of shardprep's.

    Of an output, sets of steps that the recipe no longer has are not checked.
    """
    output = output_that_left(url, storage_options)
    for found in output_sets(url, storage_options).live:
        try:
            for problem in _verify(found, storage_options):
                yield problem if output is None else replace(problem, remedy=left_remedy(found))
        except Damaged as error:
            yield Problem(found, str(error), "The other sets are checked all the same")
    yield from _without_set_file(Store(url, storage_options))


def _verify(url: str, storage_options: Mapping[str, object] | None) -> Iterator[Problem]:
    store = Store(url, storage_options)
    info = read_info(store)
    if info is not None and info.kind == "packed":
        yield from verify_packed(url, storage_options)
        return
    yield from verify_set(url, storage_options)
    for name in damaged_indexes(store.at(SOURCE_TARS)) if info is not None and not info.parents else ():
        yield Problem(
            f"{url}/{SOURCE_TARS}/{name}", "it was changed after it was written", "Run the recipe again: it is a cache, and made anew"
        )
    if info is not None and info.assignment is not None and (why := damage_of_assignment(store, info.assignment)):
        yield Problem(f"{url}/{info.assignment}", why, "Run the recipe again: it is written anew")


def _without_set_file(output: Store) -> Iterator[Problem]:
    """Yield the folders of an output that hold shards and nothing that says of what."""
    if output.size(SET_FILE) is not None:
        return
    files = [file.name.split("/") for file in output.walk() if file.name.count("/") == 1]
    sets = {folder for folder, name in files if name == SET_FILE}
    for folder in sorted({folder for folder, name in files if name == MANIFEST_FILE or parse_ledger_name(name)} - sets):
        yield Problem(f"{output.url}/{folder}", f"it holds shards but no {SET_FILE}", "Run the recipe again")
