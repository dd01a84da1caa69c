"""What nobody counts on in an output: superseded files, older packings, and the folders of steps that the recipe no longer has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardprep.driver.assignment import is_assignment
from shardprep.driver.lease import refuse_while_leased
from shardprep.driver.output import sets_below
from shardprep.errors import Damaged
from shardprep.packed.clean import left_behind, remove_left_behind
from shardprep.packed.names import CARD_FILE, INDEX_FILE, MANIFEST_FILE, ROWS_SUFFIX, is_packing_name
from shardprep.recipe.model import RAW
from shardprep.shards.lineage import stand
from shardprep.shards.names import DIGESTS_FILE, SET_FILE, set_name, shard_of
from shardprep.shards.set import SetInfo
from shardprep.shards.store import Store

OLDER = "an older packing"
_PACKED_SUFFIXES = (".json", ".parquet", ".tar", ROWS_SUFFIX)


def _nobody(text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Leftover:
    """A file that nobody counts on."""

    home: str
    """The URL of the set's folder."""
    name: str
    num_bytes: int
    why: str

    def __str__(self) -> str:
        return f"{self.home}/{self.name} ({self.why})"


@dataclass(frozen=True)
class Cleaning:
    """What is to go, in the order in which it may go, and what stays though the recipe does not name it."""

    leftovers: tuple[Leftover, ...]
    kept: tuple[str, ...]
    """Why folders stay, a line each."""

    @property
    def num_bytes(self) -> int:
        return sum(leftover.num_bytes for leftover in self.leftovers)


def find_leftovers(url: str, storage_options: Mapping[str, Any] | None = None, steps: Sequence[str] | None = None) -> Cleaning:
    """Return what nobody counts on; with the `steps` of a recipe also all of the sets that are none of them.

    A shard that is out of date keeps its files: the next run copies outcomes from them. A set stays that another set is still
    read with, and one of which damage hides what it needs.
    """
    leftovers: list[Leftover] = []
    kept: list[str] = []
    infos = sets_below(url, storage_options)
    for found, info in infos.items():
        name, store = set_name(found), Store(found, storage_options)
        if info is None:
            kept.append(f"{found}: its {SET_FILE} is damaged. Say what is wrong with: shardprep verify {found}")
        elif steps is None or name in steps or name == RAW:
            try:
                leftovers += list(_superseded(store, info, storage_options))
            except Damaged as error:
                kept.append(f"{found}: a set that it was made from is damaged: {error}")
        elif readers := _readers(name, infos, steps):
            kept.append(f"{found}: the recipe has no step {name}, but {', '.join(readers)} is still read with it. Run the recipe first")
        else:
            leftovers += _all_of(store, info)
    return Cleaning(tuple(leftovers), tuple(kept))


def clean(
    url: str, storage_options: Mapping[str, Any] | None = None, steps: Sequence[str] | None = None, *, tell: Callable[[str], None] = _nobody
) -> Cleaning:
    """Remove what `find_leftovers` finds, and what killed writers and runs left; return what was removed.

    Raises OutputInUse where a run works there.
    """
    refuse_while_leased(Store(url, storage_options), tell)
    cleaning = find_leftovers(url, storage_options, steps)
    removed: list[Leftover] = []
    for found in sets_below(url, storage_options):
        store = Store(found, storage_options)
        removed += [Leftover(found, name, 0, "left by a killed writer") for name in store.clean_temporaries()]
        mine = {leftover.name: leftover for leftover in cleaning.leftovers if leftover.home == found}
        for name, leftover in mine.items():
            if leftover.why != OLDER:
                store.remove(name)
                removed.append(leftover)
        if any(leftover.why == OLDER for leftover in mine.values()):
            removed += [mine.get(name, Leftover(found, name, 0, OLDER)) for name in remove_left_behind(store)]
        store.prune()
    return Cleaning(tuple(removed), cleaning.kept)


def _superseded(store: Store, info: SetInfo, storage_options: Mapping[str, Any] | None) -> Iterator[Leftover]:
    if info.kind == "packed":
        if names := left_behind(store):
            sizes = {file.name: file.size for file in store.walk()}
            yield from (Leftover(store.url, name, sizes.get(name, 0), OLDER) for name in names)
        return
    standing = stand(store.url, storage_options)
    for name, size in sorted(store.names().items(), key=lambda item: (item[0].endswith(".tar"), item[0])):
        if is_assignment(name) and name != info.assignment:
            yield Leftover(store.url, name, size, "an earlier assignment")
        elif standing.supersedes(name):
            yield Leftover(store.url, name, size, "superseded")


def _all_of(store: Store, info: SetInfo) -> Iterator[Leftover]:
    """Yield the files of a set that are shardprep's; `set.json`, by which the folder is known to be, comes last."""
    files = [file for file in store.walk() if _is_ours(file.name, info.kind == "packed")]
    for file in sorted(files, key=lambda file: (file.name == SET_FILE, file.name.endswith(".tar"), file.name)):
        yield Leftover(store.url, file.name, file.size, f"the recipe has no step {set_name(store.url)}")


def _is_ours(name: str, is_packed: bool) -> bool:
    folder, _, rest = name.partition("/")
    if not rest:
        own = {SET_FILE, DIGESTS_FILE} | ({MANIFEST_FILE, CARD_FILE, INDEX_FILE} if is_packed else set())
        return name in own or shard_of(name) is not None or is_assignment(name)
    return is_packed and is_packing_name(folder) and rest.endswith(_PACKED_SUFFIXES)


def _readers(name: str, infos: Mapping[str, SetInfo | None], steps: Iterable[str]) -> list[str]:
    return [set_name(url) for url, info in infos.items() if info and set_name(url) in steps and f"../{name}" in info.parents]
