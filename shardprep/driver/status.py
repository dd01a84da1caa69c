"""The state of an output without its recipe: from `set.json`, file names and `digests.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shardprep.driver.left_behind import what_is_left
from shardprep.driver.model import RunPlan, StepKind, StepPlan
from shardprep.driver.noted_steps import lacking
from shardprep.driver.output import output_sets
from shardprep.errors import ShardError
from shardprep.packed.packing import standing_packing, why_stale
from shardprep.recipe.model import RAW
from shardprep.shards.counts import lost_by_reason, sum_of
from shardprep.shards.lineage import Standing, stand
from shardprep.shards.names import set_name
from shardprep.shards.set import NotedStep, SetInfo, read_info
from shardprep.shards.store import Store


def status(url: str, storage_options: Mapping[str, Any] | None = None) -> RunPlan:
    """Return for each step the shards that are done, missing and out of date, and what was dropped and failed in those done.

    Sets of steps that the recipe no longer has are named in `notes`, with what else nobody counts on.
    """
    steps: dict[str, StepPlan] = {}
    infos: dict[str, SetInfo | None] = {}
    for found in output_sets(url, storage_options).live:
        store = Store(found, storage_options)
        info = infos[set_name(found)] = read_info(store)
        assert info is not None, "output_sets returns sets"
        steps[set_name(found)] = _packed(store, info, storage_options) if info.kind == "packed" else _shards(stand(found, storage_options))
    left = what_is_left(url, storage_options)
    return RunPlan(recipe="", output=url, steps=tuple(_as_the_recipe_has(steps, infos)), notes=(str(left),) if left else ())


def _as_the_recipe_has(steps: Mapping[str, StepPlan], infos: Mapping[str, SetInfo | None]) -> list[StepPlan]:
    """Return the steps in the order of the last recipe: those without a set are added, sets of other settings count as out of date."""
    raw = infos.get(RAW)
    if raw is None:
        return list(steps.values())
    lacks = lacking(infos)
    absent = {step.name: _absent(step, len(raw.shards)) for step in lacks.absent}
    own = {name: _outdated(step) if name in lacks.outdated else step for name, step in steps.items()}
    noted = {step.name: absent.get(step.name) or own[step.name] for step in raw.steps}
    return [*(step for name, step in own.items() if name not in noted), *noted.values()]


def _absent(step: NotedStep, num_shards: int) -> StepPlan:
    return StepPlan(
        name=step.name,
        kind=step.kind,
        done=0,
        new=1 if step.kind == "pack" else max(1, num_shards),
        stale=0,
        follows=0,
        reasons=("no run has come to this step, or its set was removed",),
        num_bytes=0,
        seconds_estimate=None,
    )


def _outdated(step: StepPlan) -> StepPlan:
    why = "it is not what the recipe that was run last makes: a setting of it, or of a step that it reads, was changed"
    lost = replace(step, dropped={}, failed={}, children_dropped={}, children_failed={})
    return replace(lost, done=0, stale=step.done + step.stale, reasons=(*step.reasons, why))


def _shards(standing: Standing) -> StepPlan:
    identity = standing.set.info.identity
    kind: StepKind = "select" if "gather" in identity else "source" if "source" in identity else "pass"
    done = list(standing.current.values())
    timed = [committed.seconds for committed in done if committed.seconds]
    counts = sum_of(committed.counts for committed in done)
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
        url=standing.set.store.url,
        dropped=lost_by_reason(counts, "input", "dropped"),
        failed=lost_by_reason(counts, "input", "failed"),
        children_dropped=lost_by_reason(counts, "output", "dropped"),
        children_failed=lost_by_reason(counts, "output", "failed"),
        seconds_estimate=sum(timed) / len(timed) * undone if timed else None,
    )


def _packed(store: Store, info: SetInfo, storage_options: Mapping[str, Any] | None) -> StepPlan:
    """Ask whoever reads the set: what they refuse is not done."""
    packing, stale = None, None
    try:
        packing = standing_packing(store)
        stale = why_stale(store, packing, storage_options)
        reasons = () if stale is None else (stale,)
    except ShardError as error:
        reasons = (str(error),)
    shards = packing.manifest.shards if packing else ()
    return StepPlan(
        name=info.step,
        kind="pack",
        done=0 if stale else len(shards),
        new=0 if packing else 1,
        stale=max(1, len(shards)) if stale else 0,
        follows=0,
        reasons=reasons,
        num_bytes=sum(shard.size for shard in shards) if packing else None,
        url=store.url,
        failed=dict(packing.manifest.failed.reasons) if packing and packing.manifest.failed and not stale else {},
        seconds_estimate=None,
    )
