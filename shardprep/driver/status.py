"""The state of an output without its recipe: from `set.json`, file names and `digests.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardprep.driver.model import RunPlan, StepKind, StepPlan
from shardprep.driver.verify import sets_below
from shardprep.gather.manifest import read_manifest
from shardprep.shards.lineage import Standing, stand
from shardprep.shards.set import SetInfo, read_info
from shardprep.shards.store import Store


def status(url: str, storage_options: Mapping[str, Any] | None = None) -> RunPlan:
    """Return how far the steps of an output are: shards done, missing and out of date."""
    steps = []
    for found in sets_below(url, storage_options):
        store = Store(found, storage_options)
        info = read_info(store)
        assert info is not None, "sets_below returns sets"
        steps.append(_packed(store, info) if info.kind == "packed" else _shards(stand(found, storage_options)))
    return RunPlan(recipe="", output=url, steps=tuple(steps))


def _shards(standing: Standing) -> StepPlan:
    identity = standing.set.info.identity
    kind: StepKind = "select" if "gather" in identity else "source" if "source" in identity else "pass"
    done = list(standing.current.values())
    timed = [committed.seconds for committed in done if committed.seconds]
    undone = len(standing.missing) + len(standing.stale)
    return StepPlan(
        name=standing.set.info.step,
        kind=kind,
        done=len(done),
        new=len(standing.missing),
        stale=len(standing.stale),
        follows=0,
        reasons=tuple([*standing.stale.values()][:1]),
        num_bytes=sum(committed.tar_bytes for committed in done),
        seconds_estimate=sum(timed) / len(timed) * undone if timed else None,
    )


def _packed(store: Store, info: SetInfo) -> StepPlan:
    manifest = read_manifest(store)
    return StepPlan(
        name=info.step,
        kind="pack",
        done=len(manifest.shards) if manifest else 0,
        new=0 if manifest else len(info.shards),
        stale=0,
        follows=0,
        reasons=() if manifest else ("there is no manifest: packing did not end",),
        num_bytes=sum(shard.size for shard in manifest.shards) if manifest else None,
        seconds_estimate=None,
    )
