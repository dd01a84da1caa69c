"""What a run would make and why: from the source's listing, file names and `digests.json`; nothing is written."""

from __future__ import annotations

from shardprep.driver.model import RunPlan, StepKind, StepPlan
from shardprep.driver.packing import Packing
from shardprep.driver.raw import raw_state
from shardprep.driver.state import StepState, Todo, step_state
from shardprep.gather.settings import Pack
from shardprep.recipe.model import RAW, Gather, Recipe
from shardprep.runtime.write import library_versions
from shardprep.shards.ledger import read_footer


def plan(recipe: Recipe, *, retry: bool = False, strict: bool = False) -> RunPlan:
    """Return what `run` would do; with `strict`, shards made with other library versions are stale.

    Raises SourceError, RecipeError or ShardError as `run` would before it starts.
    """
    raw = raw_state(recipe, retry)
    states = {RAW: raw.state}
    to_read = sum(entry.size for shard in raw.state.todo for entry in raw.entries[shard])
    steps = [_step_plan(raw.state, "source", to_read, strict)]
    for step in recipe.steps:
        parent = states[recipe.parent_of(step)]
        if isinstance(step, Gather) and isinstance(step.does, Pack):
            steps.append(_pack_plan(Packing(recipe, step.name, step.does, parent)))
            continue
        states[step.name] = step_state(recipe, step, parent, retry)
        steps.append(_step_plan(states[step.name], "select" if isinstance(step, Gather) else "pass", None, strict))
    return RunPlan(recipe=recipe.name, output=recipe.output, steps=tuple(steps))


def _step_plan(state: StepState, kind: StepKind, num_bytes: int | None, strict: bool) -> StepPlan:
    reasons = state.reasons()
    if strict:
        reasons += _strictly_stale(state)
    whys = [todo.why for todo in state.todo.values()]
    done = [committed for shard, committed in state.seen.items() if shard not in state.todo]
    known = [committed.seconds for committed in state.set.known() if committed.seconds]
    return StepPlan(
        name=state.name,
        kind=kind,
        done=len(done),
        new=whys.count("new"),
        stale=len(whys) - whys.count("new"),
        follows=len(state.follows),
        reasons=tuple(reasons),
        notes=tuple(state.changed_code()),
        num_bytes=num_bytes if num_bytes is not None else sum(committed.tar_bytes for committed in done),
        seconds_estimate=sum(known) / len(known) * (len(whys) + len(state.follows)) if known else None,
    )


def _strictly_stale(state: StepState) -> list[str]:
    """Make shards stale that other versions of the libraries made, and say which; their ledgers are opened for it."""
    now = library_versions()
    changed: dict[str, int] = {}
    for shard, committed in state.seen.items():
        was = read_footer(state.set.store.blob(committed.ledger), committed.ledger).versions
        lines = [f"{name} {was[name]} is now {now[name]}" for name in was if name in now and was[name] != now[name]]
        if lines and shard not in state.todo:
            state.todo[shard] = Todo("", "stale")
            changed[", ".join(lines)] = changed.get(", ".join(lines), 0) + 1
    return [f"{count} shards were made when {lines}" for lines, count in changed.items()]


def _pack_plan(packing: Packing) -> StepPlan:
    manifest = packing.manifest()
    num_shards = len(manifest.shards) if manifest else 0
    done, follows = packing.is_done(), packing.fingerprint is None
    return StepPlan(
        name=packing.name,
        kind="pack",
        done=num_shards if done else 0,
        new=int(not done and not follows and not num_shards),
        stale=num_shards if not done and not follows else 0,
        follows=max(1, num_shards) if follows else 0,
        reasons=packing.reasons(),
        num_bytes=sum(shard.size for shard in manifest.shards) if manifest else 0,
        seconds_estimate=None,
    )
