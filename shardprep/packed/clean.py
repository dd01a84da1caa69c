"""What nobody counts on in a packed set: older packings, unfinished ones, and what killed runs left."""

from __future__ import annotations

from shardprep.errors import ShardError
from shardprep.packed.names import MANIFEST_FILE, ROWS_SUFFIX, by_packing, packing_name
from shardprep.packed.packing import Packing, current_packing
from shardprep.packed.pointer import follow_pointer, read_pointer
from shardprep.shards.names import LEDGERS
from shardprep.shards.store import Store


def left_behind(store: Store, *, unfinished: bool = True) -> list[str]:
    """Return the files below a packed set that the packing that counts does not need, in the order in which they may go.

    Empty unless the packing that counts is whole: the next run may go on from any of the others. Without `unfinished`
    packings that have no manifest stay, as a live run may be writing one.
    """
    try:
        current = packing_name(current_packing(store).manifest.fingerprint)
    except ShardError:
        return []
    found = by_packing(file.name for file in store.walk())
    rows = [f"{current}/{name}" for name in found.pop(current, []) if name.endswith(ROWS_SUFFIX)]
    older = {packing: names for packing, names in found.items() if unfinished or MANIFEST_FILE in names}
    return rows + [f"{packing}/{name}" for packing, names in older.items() for name in sorted(names, key=_turn)]


def older_packings(store: Store, current: Packing) -> list[str]:
    """Return the folders of the packings below a packed set that do not count, finished or not: one listing."""
    return sorted(by_packing(file.name for file in store.walk()).keys() - {packing_name(current.manifest.fingerprint)})


def remove_left_behind(store: Store, *, unfinished: bool = True) -> list[str]:
    """Remove what `left_behind` finds, and temporaries of dead writers; return the names removed."""
    removed = list(store.clean_temporaries())
    for packing in sorted(by_packing(file.name for file in store.walk())):
        for folder in (packing, f"{packing}/{LEDGERS}"):
            removed += [f"{folder}/{name}" for name in store.at(folder).clean_temporaries()]
    kept: set[str] = set()
    leftovers = left_behind(store, unfinished=unfinished)
    if leftovers:
        # First: a run that was killed between card and pointer left a card that names one of these.
        follow_pointer(store)
    for name in leftovers:
        packing = name.partition("/")[0]
        if packing in kept:
            continue
        if name == f"{packing}/{MANIFEST_FILE}" and not _withdraw(store, packing):
            kept.add(packing)
            continue
        store.remove(name)
        removed.append(name)
    return removed


def _withdraw(store: Store, packing: str) -> bool:
    """Take a packing's manifest away, so that nobody points to it any more; False where somebody just did."""
    folder = store.at(packing)
    with folder.unless_gone(MANIFEST_FILE):
        data = folder.read(MANIFEST_FILE)
        folder.remove(MANIFEST_FILE)
        # In this order: a run that points to it looks for the manifest afterwards.
        pointer = read_pointer(store)
        if pointer is not None and pointer.packing == packing:
            folder.create_bytes(MANIFEST_FILE, data)
            return False
    return True


def _turn(name: str) -> tuple[int, str]:
    """Order: the manifest first, then the ledgers, so that none vouches for a tar that is gone."""
    return (0 if name == MANIFEST_FILE else 1 if name.startswith(f"{LEDGERS}/") else 2, name)
