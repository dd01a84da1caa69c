"""The loop over a recipe: for every step, make what is not up to date, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from shardprep.core.plan import PlannedPass
from shardprep.core.quantity import counted
from shardprep.driver.absent_weights import refuse_absent_weights
from shardprep.driver.claims import claims_of
from shardprep.driver.failure_budget import FailureBudget
from shardprep.driver.failures import first_failure
from shardprep.driver.identity import digests_in, random_models
from shardprep.driver.lease import RunLease
from shardprep.driver.left_behind import Left, what_is_left
from shardprep.driver.model import VIDEO_MS, Reporter, RunOptions, RunSummary, Silent, StepKind, StepSummary
from shardprep.driver.packing import PackStep
from shardprep.driver.raw import RawState, raw_state, with_former, write_raw_info
from shardprep.driver.repair import mark_damaged
from shardprep.driver.run_log import RunLog
from shardprep.driver.state import StepState, check_set_kinds, step_state, work_settings
from shardprep.errors import RecipeError, RunFailed, ShardprepError
from shardprep.executors.job import ShardFailure, Task
from shardprep.executors.local import LocalExecutor, default_workers
from shardprep.executors.main_module import end_second_run
from shardprep.gather.outline import outline_shard
from shardprep.gather.pack import PackedShard, pack_shard
from shardprep.gather.select import CandidatesTask, Cut, SelectTask, choose, find_candidates, select_shard
from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import RAW, Gather, Pass, Recipe
from shardprep.runtime.task import ShardResult, ShardTask
from shardprep.runtime.worker import work_on
from shardprep.shards.counts import lost_by_reason, num_inputs, num_outputs, sum_of
from shardprep.shards.set import Committed, ShardSet, write_info
from shardprep.shards.store import Store
from shardprep.sources.refused import find_witnesses, witnesses_for

_SILENT = Silent()

T = TypeVar("T", bound=Task)
R = TypeVar("R")

Answer = ShardResult | PackedShard | ShardFailure


def run(recipe: Recipe, options: RunOptions | None = None, reporter: Reporter = _SILENT) -> RunSummary:
    """Make every step of a recipe that is not up to date.

    Raises FailureBudgetExceeded, RunFailed, Stopped, OutputInUse, StoreError, SourceError or RecipeError; what was committed before
    stays, and the next run goes on from there.
    """
    end_second_run()
    options = options or RunOptions()
    _check_redo(recipe, options.redo, options.until)
    settings = recipe.settings
    num_workers = options.workers or (default_workers(settings.threads) if settings.workers == "auto" else settings.workers)
    refuse_absent_weights(recipe, options)
    output = Store(recipe.output, settings.storage_options)
    log = RunLog(output)
    lease = RunLease(output, recipe.name, lambda: claims_of(recipe, options.until), tell=reporter.message, stop=options.stop)
    try:
        with (
            lease,
            LocalExecutor(num_workers, settings.threads, options.stop, tmp=settings.tmp, memory_bytes=settings.memory_bytes) as executor,
        ):
            running = _Run(recipe, options, reporter, executor, log, lease)
            running.all_steps()
            running.note_former()
    except ShardprepError as error:
        log.add_end(error)
        if url := log.write():
            reporter.message(f"tracebacks: {url}")
        raise
    left = running.left_behind()
    return RunSummary(recipe=recipe.name, output=recipe.output, steps=tuple(running.summaries), log=log.write(), left_behind=left)


def _check_redo(recipe: Recipe, redo: Sequence[str], until: str | None) -> None:
    """Raise RecipeError where a step to make again is none of the recipe's, works on no samples, or comes after the last step to make."""
    reached = [step.name for step in recipe.steps]
    if until is not None:
        reached = reached[: reached.index(until) + 1] if until in reached else []
    known = [step.name for step in recipe.steps if isinstance(step, Pass) or isinstance(step.does, Select)]
    for name in redo:
        if name not in known:
            is_other = name == RAW or any(step.name == name for step in recipe.steps)
            what = "works on no samples" if is_other else "is no step of the recipe"
            raise RecipeError(f"--redo {name}: {name} {what}; these can be made again: {', '.join(known)}")
        if name not in reached:
            raise RecipeError(
                f"--redo {name}: {name} comes after {until}, with which this run ends. Say --until {name}, or leave --until out"
            )


@dataclass
class _Run:
    """One run: the recipe, how it is run and what came of it so far."""

    recipe: Recipe
    options: RunOptions
    reporter: Reporter
    executor: LocalExecutor
    log: RunLog
    lease: RunLease
    states: dict[str, StepState] = field(default_factory=dict)
    summaries: list[StepSummary] = field(default_factory=list)
    older_packings: dict[str, int] = field(default_factory=dict)
    """How many packings lie beside the one that counts, by step."""

    def all_steps(self) -> None:
        """Make the source's set and then the steps, in order."""
        raw = raw_state(self.recipe, retry=self.options.retry)
        if raw.state.was is None or raw.state.was.steps != raw.state.info.steps:
            # Before the steps are noted: a recipe that is refused leaves no trace.
            check_set_kinds(self.recipe, self.options.until)
        self._source(raw)
        if self.options.until == RAW:
            return
        for step in self.recipe.steps:
            parent = self.states[self.recipe.parent_of(step)]
            if isinstance(step, Pass):
                self._pass(step, parent)
            elif isinstance(step.does, Select):
                self._select(step, step.does, parent)
            else:
                self._pack(step.name, step.does, parent)
            if step.name == self.options.until:
                return

    def note_former(self) -> None:
        """Note the steps that the recipe no longer has, so that their sets can be named. Called last, as a recipe may be refused before."""
        raw = self.states[RAW]
        if (info := with_former(raw.info, self.recipe)) != raw.info:
            self.lease.take()
            raw.set.info = info
            write_info(raw.set.store, info)

    def left_behind(self) -> Left | None:
        """Return what nobody counts on any more.

        A run of the whole recipe that had nothing to do knows it without looking at every set: there are no superseded
        files, and no set is read with one of a former step.
        """
        if self.lease.was_taken or self.options.until is not None:
            left = what_is_left(self.recipe.output, self.recipe.settings.storage_options)
        else:
            left = Left(output=self.recipe.output, former=self.states[RAW].info.former, num_packings=sum(self.older_packings.values()))
        return left or None

    def _source(self, raw: RawState) -> None:
        for note in raw.notes:
            self.reporter.message(note)
        self._begin(raw.state)
        write_raw_info(raw)
        self._repair(raw.state)
        self.states[RAW] = raw.state
        options = self.recipe.reachable_source.storage_options
        witnesses = find_witnesses(entry for entries in raw.entries.values() for entry in entries)
        tasks = [
            replace(
                self._task(raw.state, shard),
                entries=tuple(raw.entries[shard]),
                witnesses=witnesses_for(raw.entries[shard], witnesses),
                source_options=options,
            )
            for shard in raw.state.todo
        ]
        sizes = {shard: len(entries) for shard, entries in raw.entries.items()}
        self._complete(raw.state, "source", sizes, self.executor.run(tasks, work_on))

    def _pass(self, step: Pass, parent: StepState) -> None:
        state = self._opened(step, parent)
        planned = PlannedPass(step.name, step.stages)
        weights = digests_in(state.info.identity, step.stages)
        tasks = [
            replace(self._task(state, shard), chain=parent.chain(shard), stages=step.stages, reads=planned.reads, weights=weights)
            for shard in state.todo
        ]
        self._complete(state, "pass", parent.num_samples(), self.executor.run(tasks, work_on), random_models(step.stages))

    def _select(self, step: Gather, select: Select, parent: StepState) -> None:
        state = self._opened(step, parent)
        tasks = [replace(self._task(state, shard), chain=parent.chain(shard)) for shard in state.todo]
        self._complete(state, "select", parent.num_samples(), self._selected(select, tasks, parent))

    def _selected(self, select: Select, tasks: Sequence[ShardTask], parent: StepState) -> Iterator[ShardResult | ShardFailure]:
        """Yield the shards of a selection; what a limit or a draw decides over all shards is decided first, from their candidates."""
        cuts: Mapping[str, Cut] = {}
        if select.is_global and tasks:
            options = self.recipe.settings.storage_options
            wanted = [
                CandidatesTask(step=tasks[0].step, shard=shard, select=select, chain=parent.chain(shard), storage_options=options)
                for shard in parent.info.shards
            ]
            cuts = choose(select, self._answers(tasks[0].step, wanted, find_candidates))
        made = [SelectTask(step=t.step, shard=t.shard, select=select, task=t, cut=cuts.get(t.shard, Cut())) for t in tasks]
        yield from self.executor.run(made, select_shard)

    def _pack(self, name: str, pack: Pack, parent: StepState) -> None:
        packing = PackStep(self.recipe, name, pack, parent)
        started = time.monotonic()
        tally = _Tally()
        if self.options.repair:
            self.lease.take()
            self._tell_damage(packing.repair())
        if packing.is_done():
            packing.tidy()
        else:
            self.lease.take()
            # It may be whole and not count: packed earlier, or by another run meanwhile.
            if not packing.adopt():
                self._pack_shards(packing, parent, tally)
        made = packing.finished()
        self.older_packings[name] = packing.num_older()
        self._done(name, "pack", made.ledgers(), made.manifest.committed(), packing.url, tally, started, ())

    def _pack_shards(self, packing: PackStep, parent: StepState, tally: _Tally) -> None:
        name = packing.name
        tasks = packing.start(self._answers(name, packing.outline_tasks(), outline_shard))
        self.reporter.step_started(name, len(tasks), sum(len(task.planned.places) for task in tasks))
        self._budget(name, packing.url, sum(parent.num_samples().values())).check_plan(packing.counts(), packing.first_failed())
        for packed in self.executor.run(tasks, pack_shard):
            self._count(tally, name, packed)
        _raise_failures(name, tally.failures)
        packing.finish()

    def _answers(self, name: str, tasks: Sequence[T], function: Callable[[T], R]) -> Iterator[R]:
        """Yield what comes of the tasks of a step; RunFailed at the end where one could not be done."""
        failures = []
        for answer in self.executor.run(tasks, function):
            if isinstance(answer, ShardFailure):
                failures.append(answer)
            else:
                yield answer
        _raise_failures(name, failures)

    def _opened(self, step: Pass | Gather, parent: StepState) -> StepState:
        state = step_state(self.recipe, step, parent, retry=self.options.retry, redo=step.name in self.options.redo)
        self._begin(state)
        if not state.is_described:
            write_info(state.set.store, state.info)
        self._repair(state)
        self.states[step.name] = state
        return state

    def _begin(self, state: StepState) -> None:
        """Take the lease before the first step in which something is to be written."""
        if state.todo or not state.is_described or self.options.repair:
            self.lease.take()

    def _repair(self, state: StepState) -> None:
        if self.options.repair:
            self._tell_damage(mark_damaged(state))

    def _tell_damage(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.reporter.message(f"damaged, made again: {line}")

    def _task(self, state: StepState, shard: str) -> ShardTask:
        todo = state.todo[shard]
        return ShardTask(
            step=state.name,
            shard=shard,
            out_url=state.set.store.url,
            fingerprint=todo.fingerprint,
            step_fingerprint=state.info.step_fingerprint,
            stages=(),
            is_base=state.info.kind == "base",
            adds=state.info.adds,
            reads=(),
            settings=work_settings(self.recipe),
            storage_options=self.recipe.settings.storage_options,
            earlier=todo.earlier,
            retry=todo.retry,
            reuse=self.options.reuse and todo.why != "damaged" and state.name not in self.options.redo,
            code=state.code,
            redo_failed=self.options.retry,
        )

    def _complete(
        self, state: StepState, kind: StepKind, sizes: Mapping[str, int], answers: Iterable[Answer], random: tuple[str, ...] = ()
    ) -> None:
        """Take in the shards of a step as they are made; stop where too many samples fail. `sizes` are the input samples by shard."""
        started = time.monotonic()
        tally = _Tally(notes=tuple(state.changed_code()))
        for line in tally.notes:
            self.reporter.message(line)
        self.reporter.step_started(state.name, len(state.todo), sum(sizes[shard] for shard in state.todo))
        budget = self._budget(state.name, state.set.store.url, sum(sizes.values()))
        is_unchanged = not state.todo
        if state.todo:
            state.set.save_digests()
        try:
            for shard, committed in state.seen.items():
                if shard not in state.todo:
                    budget.add(committed.counts)
            for answer in answers:
                if new := self._count(tally, state.name, answer):
                    state.set.remember(new)
                    state.made(answer.shard, new)
                    budget.add(new.counts)
        finally:
            if not is_unchanged or state.set.has_news:
                state.set.save_digests()
        _raise_failures(state.name, tally.failures)
        state.set.collect(state.seen, is_unchanged=is_unchanged)
        self._done(state.name, kind, state.set, state.seen, state.set.store.url, tally, started, random)

    def _budget(self, step: str, url: str, num_samples: int) -> FailureBudget:
        limit = self.options.max_failed if self.options.max_failed is not None else self.recipe.settings.failure_limit
        return FailureBudget(step, url, limit, num_samples)

    def _count(self, tally: _Tally, step: str, answer: Answer) -> Committed | None:
        if isinstance(answer, ShardFailure):
            tally.failures.append(answer)
            self.reporter.message(str(answer.error))
            return None
        # Of two equal runs the one that commits a shard first has made it.
        tally.made += not answer.adopted
        tally.worked_on += answer.worked_on
        tally.decodes += answer.committed.decodes
        texts = self.log.add(step, answer.shard, answer.errors) if isinstance(answer, ShardResult) else []
        for text in texts if self.options.debug else ():
            self.reporter.message(text)
        video = {VIDEO_MS: round(answer.video_seconds * 1000)} if isinstance(answer, ShardResult) and answer.video_seconds else {}
        self.reporter.shard_done(step, answer.shard, {**answer.committed.counts, **video}, answer.committed.seconds)
        return answer.committed

    def _done(
        self,
        name: str,
        kind: StepKind,
        shard_set: ShardSet,
        committed: Mapping[str, Committed],
        url: str,
        tally: _Tally,
        started: float,
        random: tuple[str, ...],
    ) -> None:
        counts = sum_of(one.counts for one in committed.values())
        summary = StepSummary(
            name=name,
            kind=kind,
            url=url,
            samples_in=num_inputs(counts),
            samples_out=num_outputs(counts),
            kept=counts.get("input.kept", 0),
            dropped=lost_by_reason(counts, "input", "dropped"),
            failed=lost_by_reason(counts, "input", "failed"),
            children_dropped=lost_by_reason(counts, "output", "dropped"),
            children_failed=lost_by_reason(counts, "output", "failed"),
            shards_made=tally.made,
            shards_done=len(committed) - tally.made,
            worked_on=tally.worked_on,
            seconds=time.monotonic() - started,
            decodes=tally.decodes,
            random_models=random,
            first_failure=first_failure(shard_set, committed),
            notes=tally.notes,
        )
        self.summaries.append(summary)
        self.reporter.step_done(summary)


@dataclass
class _Tally:
    """What this run added to a step, and what a person should know of the shards that stay."""

    notes: tuple[str, ...] = ()
    made: int = 0
    worked_on: int = 0
    decodes: int = 0
    failures: list[ShardFailure] = field(default_factory=list)


def _raise_failures(step: str, failures: list[ShardFailure]) -> None:
    if failures:
        first = failures[0]
        raise RunFailed(
            f"{step}: {counted(len(failures), 'shard')} could not be made; the others are committed. Shard {first.shard}: {first.error}"
        ) from first.error
