"""What a run would make and why: from the source's listing, file names and `digests.json`; the output is not written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardprep.core.quantity import counted, was
from shardprep.core.stage import stage_name
from shardprep.driver.estimate import Expected, Rates, outputs, to_make, total
from shardprep.driver.model import RunPlan, StepKind, StepPlan
from shardprep.driver.packing import PackStep
from shardprep.driver.raw import RawState, raw_state
from shardprep.driver.state import StepState, Todo, step_state
from shardprep.gather.settings import Pack
from shardprep.models.absent import Absent, look_for
from shardprep.recipe.model import RAW, Gather, Pass, Recipe
from shardprep.runtime.write import library_versions
from shardprep.shards.ledger import read_footer
from shardprep.shards.set import read_info_to_replace
from shardprep.shards.store import Store
from shardprep.sources.entry import SourceEntry


def plan(recipe: Recipe, *, retry: bool = False, strict: bool = False) -> RunPlan:
    """Return what `run` would do; with `strict`, shards made with other library versions are stale.

    Raises SourceError, RecipeError or ShardError as `run` would before it starts; weights that are not here are named.
    """
    raw = raw_state(recipe, retry=retry)
    planning = _Planning(recipe, strict)
    planning.source(raw)
    for step in recipe.steps:
        parent = planning.states[recipe.parent_of(step)]
        if isinstance(step, Gather) and isinstance(step.does, Pack):
            planning.pack(PackStep(recipe, step.name, step.does, parent), parent, step.does)
            continue
        state = step_state(recipe, step, parent, retry=retry, weigh=planning.weigher(step))
        planning.add(state, parent, "select" if isinstance(step, Gather) else "pass")
    weights = tuple(planning.absent.values())
    return RunPlan(recipe=recipe.name, output=recipe.output, steps=tuple(planning.steps), notes=raw.notes, weights=weights)


@dataclass
class _Planning:
    """The steps planned so far, and the samples that each is expected to give."""

    recipe: Recipe
    strict: bool
    states: dict[str, StepState] = field(default_factory=dict)
    expected: dict[str, Expected] = field(default_factory=dict)
    steps: list[StepPlan] = field(default_factory=list)
    absent: dict[str, Absent] = field(default_factory=dict)

    def source(self, raw: RawState) -> None:
        """Plan the source's own set."""
        sizes = {shard: float(len(entries)) for shard, entries in raw.entries.items()}
        to_read = sum(entry.size for shard in raw.state.todo for entry in raw.entries[shard])
        reasons = [f"samples of the source: {raw.changes}"] if raw.changes else []
        reasons += _missing([entry for entries in raw.entries.values() for entry in entries])
        self.expected[RAW] = outputs(raw.state, sizes, None, keeps_number=True)
        self._step(raw.state, "source", sizes, num_bytes=to_read or None, bytes_estimate=to_read, more=reasons)

    def add(self, state: StepState, parent: StepState, kind: StepKind) -> None:
        """Plan a pass or a select."""
        inputs = self.expected[parent.name]
        rates = Rates.of(state.set.known())
        self.expected[state.name] = outputs(state, inputs, rates, keeps_number=not _splits(self.recipe, state.name))
        samples = total(inputs, to_make(state))
        has_members = state.info.kind == "base" or "member" in state.info.adds.values()
        if not has_members or samples == 0:
            bytes_estimate: float | None = 0
        else:
            bytes_estimate = rates.num_bytes * samples if rates and samples is not None else None
        self._step(state, kind, inputs, num_bytes=None, bytes_estimate=bytes_estimate, more=[])

    def pack(self, packing: PackStep, parent: StepState, pack: Pack) -> None:
        """Plan a pack."""
        current = packing.current()
        shards = current.manifest.shards if current else ()
        num_shards = len(shards)
        done, follows = packing.is_done(), packing.fingerprint is None
        stands = done or packing.is_whole()
        samples = total(self.expected[parent.name], parent.info.shards)
        self.steps.append(
            StepPlan(
                name=packing.name,
                kind="pack",
                done=num_shards if done else 0,
                new=int(not done and not follows and not num_shards),
                stale=num_shards if not done and not follows else 0,
                follows=max(1, num_shards) if follows else 0,
                reasons=packing.reasons(),
                notes=("it was packed before, and only comes to count again",) if stands and not done else (),
                num_bytes=sum(shard.size for shard in shards),
                seconds_estimate=None,
                samples=0 if stands else None if samples is None else round(samples),
                bytes_estimate=0 if stands else self._packed_bytes(parent, samples) if pack.roles is None else None,
            )
        )

    def weigher(self, step: Pass | Gather) -> Callable[[str], str]:
        """Return what says the digest of weights; of those that nobody can ask for now as they were when the step was made."""

        def weigh(name: str) -> str:
            digest, absent = look_for(name)
            if absent is not None:
                self.absent[name] = absent
            if digest is None:
                was = read_info_to_replace(Store(self.recipe.output, self.recipe.settings.storage_options).at(step.name))
                return _weights_as_they_were(step, was.identity if was else None).get(name, f"not here: {name}")
            return digest

        return weigh

    def _step(
        self, state: StepState, kind: StepKind, inputs: Expected, *, num_bytes: int | None, bytes_estimate: float | None, more: list[str]
    ) -> None:
        reasons = state.reasons()
        if self.strict:
            reasons += _strictly_stale(state)
        whys = Counter(todo.why for todo in state.todo.values())
        samples = total(inputs, to_make(state))
        stale = total(inputs, [shard for shard, todo in state.todo.items() if todo.why != "new"])
        rates = Rates.of(state.set.known())
        done = [committed for shard, committed in state.seen.items() if shard not in state.todo]
        self.states[state.name] = state
        self.steps.append(
            StepPlan(
                name=state.name,
                kind=kind,
                done=len(done),
                new=whys["new"],
                stale=whys.total() - whys["new"],
                follows=len(state.follows),
                reasons=(*reasons, *more),
                notes=tuple(state.changed_code()),
                num_bytes=num_bytes if num_bytes is not None else sum(committed.tar_bytes for committed in done),
                seconds_estimate=rates.seconds * samples if rates and samples is not None else None,
                samples=None if samples is None else round(samples),
                stale_samples=None if stale is None else round(stale),
                bytes_estimate=None if bytes_estimate is None else round(bytes_estimate),
            )
        )

    def _packed_bytes(self, parent: StepState, samples: float | None) -> int | None:
        """Return the bytes of whole samples: what one takes in the sets that are joined, times their number."""
        num_bytes = 0.0
        for state in parent.joined:
            rates = Rates.of(state.set.known())
            has_members = state.info.kind == "base" or "member" in state.info.adds.values()
            if has_members and (rates is None or not rates.kept or samples is None):
                return None
            num_bytes += rates.num_bytes / rates.kept if rates and has_members else 0
        return None if samples is None else round(num_bytes * samples)


def _missing(entries: Sequence[SourceEntry]) -> list[str]:
    """Say how many sources cannot be read, by reason, with the first of each."""
    found: dict[str, list[SourceEntry]] = {}
    for entry in entries:
        if entry.failure:
            found.setdefault(entry.failure.reason, []).append(entry)
    return [f"{len(those)} of {len(entries)} will fail ({reason}), the first {those[0].path}" for reason, those in found.items()]


def _splits(recipe: Recipe, name: str) -> bool:
    step = next(step for step in recipe.steps if step.name == name)
    return isinstance(step, Pass) and any(stage.splits for stage in step.stages)


def _weights_as_they_were(step: Pass | Gather, identity: Any) -> Mapping[str, str]:
    """Return the digests of a step's weights by name, as its identity in `set.json` has them."""
    stages = step.stages if isinstance(step, Pass) else ()
    known = {stage["stage"]: stage["weights"] for stage in identity.get("stages", ())} if isinstance(identity, Mapping) else {}
    named = [
        (weights.name, digest) for stage in stages for weights, digest in zip(stage.weights, known.get(stage_name(stage), ()), strict=False)
    ]
    return dict(named)


def _strictly_stale(state: StepState) -> list[str]:
    """Make shards stale that other versions of the libraries made, and say which; their ledgers are opened for it."""
    now = library_versions()
    changed: dict[str, int] = {}
    for shard, committed in state.seen.items():
        then = read_footer(state.set.store.blob(committed.ledger), committed.ledger).versions
        lines = [f"{name} {then[name]} is now {now[name]}" for name in then if name in now and then[name] != now[name]]
        if lines and shard not in state.todo:
            state.todo[shard] = Todo("", "stale")
            changed[", ".join(lines)] = changed.get(", ".join(lines), 0) + 1
    return [f"{counted(count, 'shard')} {was(count)} made when {lines}" for lines, count in changed.items()]
