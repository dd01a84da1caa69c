"""Repairing a packing: what is damaged in it is taken away, so that the run makes just that again."""

from __future__ import annotations

from shardprep.packed.index import Contents
from shardprep.packed.names import INDEX_FILE, MANIFEST_FILE
from shardprep.packed.packing import Packing
from shardprep.packed.verify import verify_failed, verify_index, verify_tar, verify_totals
from shardprep.shards.checksums import sha256_of
from shardprep.shards.names import LEDGERS
from shardprep.shards.verify import Problem


def remove_damaged(packing: Packing) -> list[str]:
    """Remove the files of a packing whose bytes are not those that were written; return what is wrong with each.

    Every byte is read. A packing of which something was removed is torn until a run has made that again.
    """
    store, manifest = packing.store, packing.manifest
    found: dict[str, Problem] = {}
    whole: list[Contents] = []
    for tar in manifest.shards:
        wrong, contents = verify_tar(store, tar)
        if contents is not None:
            whole.append(contents)
        if wrong:
            found[f"{LEDGERS}/{tar.ledger}"] = wrong[0]
            if sha256_of(store.blob(tar.name)) != tar.sha256:
                found[tar.name] = wrong[0]
    if manifest.failed and (damage := next(verify_failed(store, manifest), None)):
        found[f"{LEDGERS}/{manifest.failed.ledger}"] = damage
    if not found:
        for name, problems in ((INDEX_FILE, verify_index(store, manifest, whole)), (MANIFEST_FILE, verify_totals(packing, whole))):
            if problem := next(problems, None):
                found[name] = problem
    for name in found:
        store.remove(name)
    return list(dict.fromkeys(f"{problem.where}: {problem.what}" for problem in found.values()))
