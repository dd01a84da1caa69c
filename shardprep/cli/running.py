"""The commands that make shards or say what would be made: run, plan, status, retry."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from shardprep.cli.discreet import report_only
from shardprep.cli.stopping import current_stop
from shardprep.cli.stores import StoreOptions, read_options

if TYPE_CHECKING:
    from shardprep.cli.reporters import BarReporter, JsonReporter, LineReporter
    from shardprep.cli.summary import Asked
    from shardprep.recipe.model import Recipe


class Log(StrEnum):
    """How progress is told."""

    auto = "auto"
    lines = "lines"
    summary = "summary"
    json = "json"


RecipeFile = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file.")]
Input = Annotated[str | None, typer.Option("--input", help="Take the place of the recipe's source: a folder of videos, a list or tars.")]
Output = Annotated[str | None, typer.Option("--output", help="Folder or URL for the shard sets.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting: steps.train.pack.seed=1")]
Until = Annotated[str | None, typer.Option("--until", metavar="STEP", help="Stop after this step.")]
Workers = Annotated[str | None, typer.Option("--workers", help="Worker processes, or auto.")]
Memory = Annotated[str | None, typer.Option("--memory", help="Memory per worker, such as 2GiB.")]
MaxFailed = Annotated[str | None, typer.Option("--max-failed", help="Failures at which the run stops: 20, 0.01 or 1%.")]
Reuse = Annotated[bool, typer.Option("--reuse/--no-reuse", help="Copy the outcomes of samples whose inputs and stages are unchanged.")]
Redo = Annotated[list[str] | None, typer.Option("--redo", metavar="STEP", help="Make all shards of this step again; copy nothing.")]
Repair = Annotated[bool, typer.Option("--repair", help="Read every byte first, and make damaged shards again.")]
LogOption = Annotated[
    Log,
    typer.Option(
        "--log",
        metavar="HOW",
        help="auto: a bar on a terminal, else lines; lines: one per shard; summary: only what comes of it; json: an event per line.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputArgument = Annotated[str, typer.Argument(metavar="OUTPUT", help="The output folder or URL of a run.")]


def run(
    context: typer.Context,
    recipe: RecipeFile,
    source: Input = None,
    output: Output = None,
    changes: Set = None,
    until: Until = None,
    workers: Workers = None,
    memory: Memory = None,
    max_failed: MaxFailed = None,
    reuse: Reuse = True,
    repair: Repair = False,
    redo: Redo = None,
    log: LogOption = Log.auto,
    store: StoreOptions = None,
) -> None:
    """Make what the recipe says and is not there yet."""
    wanted = _Wanted(recipe, source, output, tuple(changes or ()), until, store, _given(workers, memory, max_failed))
    _run(wanted, log, reuse=reuse, retry=False, repair=repair, redo=tuple(redo or ()), debug=wants_debug(context))


def retry(
    context: typer.Context,
    recipe: RecipeFile,
    source: Input = None,
    output: Output = None,
    changes: Set = None,
    until: Until = None,
    workers: Workers = None,
    memory: Memory = None,
    max_failed: MaxFailed = None,
    log: LogOption = Log.auto,
    store: StoreOptions = None,
) -> None:
    """Work again on the samples that failed, and make what is not there yet."""
    wanted = _Wanted(recipe, source, output, tuple(changes or ()), until, store, _given(workers, memory, max_failed))
    _run(wanted, log, reuse=True, retry=True, repair=False, debug=wants_debug(context))


def plan(
    recipe: RecipeFile,
    source: Input = None,
    output: Output = None,
    changes: Set = None,
    strict: Annotated[bool, typer.Option("--strict", help="Shards made with other library versions are stale too.")] = False,
    as_json: AsJson = False,
    store: StoreOptions = None,
) -> None:
    """Say what a run would make, and why: new, stale because a setting changed, or done."""
    from shardprep.cli.plan_table import print_plan
    from shardprep.driver.plan import plan as plan_run

    loaded = _Wanted(recipe, source, output, tuple(changes or ()), None, store).load()
    _make_tiny_models(loaded, None, _reporter(Log.lines))
    found = plan_run(loaded, strict=strict)
    print_plan(found, as_json, "there is work to do; of `follow` only the run can tell" if found.has_work else "nothing to do")


def status(output: OutputArgument, as_json: AsJson = False, store: StoreOptions = None) -> None:
    """Say which shards of an output are done, without a recipe."""
    from shardprep.cli.plan_table import print_plan
    from shardprep.core.quantity import are, counted, was
    from shardprep.driver.status import status as read_status

    found = read_status(output, read_options(store))
    missing, stale = sum(step.new for step in found.steps), sum(step.stale for step in found.steps)
    made = f"{stale} {was(stale)} made from something else than what is there"
    verdict = f"not complete: {counted(missing, 'shard')} {are(missing)} missing, {made}; run the recipe again"
    failed = [
        f"{step.num_failed} failed: shardprep table {shlex.quote(step.url)} --fate failed"
        for step in found.steps
        if step.num_failed and step.url
    ]
    print_plan(found, as_json, "\n".join([verdict if missing or stale else "complete", *failed]))


@dataclass(frozen=True)
class _Wanted:
    """A recipe as the command line asks for it."""

    file: str
    source: str | None
    output: str | None
    changes: tuple[str, ...]
    until: str | None
    store: str | None = None
    """Where the options of the stores are."""
    run_settings: Mapping[str, str] = field(default_factory=dict)
    """Options that are settings of the recipe, by the setting's name."""

    def load(self) -> Recipe:
        from shardprep.recipe.load import load_recipe

        options = read_options(self.store)
        return load_recipe(
            self.file,
            overrides=self.changes,
            run_settings=self.run_settings,
            source=self.source,
            output=self.output,
            until=self.until,
            storage_options=options,
        )

    def asked(self) -> Asked:
        """Return what a summary must know to name the next commands."""
        from shardprep.cli.summary import Asked

        store = () if self.store is None else ("--storage-options", self.store)
        return Asked(retry_command=self.retry_command(), file=self.file, store=store)

    def retry_command(self) -> str:
        """Return the command that works again on what failed."""
        words = ["shardprep", "retry", self.file]
        for option, value in (
            ("--input", self.source),
            ("--output", self.output),
            ("--until", self.until),
            ("--storage-options", self.store),
        ):
            words += [option, value] if value is not None else []
        for change in self.changes:
            words += ["--set", change]
        for name, value in self.run_settings.items():
            words += [f"--{name.replace('_', '-')}", value]
        return shlex.join(words)


def _run(wanted: _Wanted, log: Log, *, reuse: bool, retry: bool, repair: bool, redo: tuple[str, ...] = (), debug: bool) -> None:
    from shardprep.cli.summary import print_events, print_summary, raise_if_all_failed
    from shardprep.driver.model import RunOptions
    from shardprep.driver.run import run as run_recipe

    report_only()
    recipe = wanted.load()
    with _reporter(log) as reporter:
        stop = current_stop()
        _make_tiny_models(recipe, wanted.until, reporter)
        options = RunOptions(until=wanted.until, stop=stop, reuse=reuse, retry=retry, repair=repair, redo=redo, debug=debug)
        summary = run_recipe(recipe, options, reporter)
    if log is Log.json:
        print_events(summary, wanted.asked())
    else:
        print_summary(summary, wanted.asked())
    raise_if_all_failed(summary)


def wants_debug(context: typer.Context) -> bool:
    """Whether `--debug` stands on the command line; of typer's own context, as `click` does not know it."""
    return bool(context.meta.get("debug"))


def _given(workers: str | None, memory: str | None, max_failed: str | None) -> dict[str, str]:
    """Return the options that are settings of the recipe, of those that were given."""
    options = {"workers": workers, "memory": memory, "max_failed": max_failed}
    return {name: text for name, text in options.items() if text is not None}


def _make_tiny_models(recipe: Recipe, until: str | None, reporter: LineReporter | JsonReporter | BarReporter) -> None:
    """Make the random models that the recipe names, where it names some."""
    from shardprep.core.fingerprint import settings_of
    from shardprep.recipe.check import steps_until
    from shardprep.recipe.model import Pass

    stages = [stage for step in steps_until(recipe, until) if isinstance(step, Pass) for stage in step.stages]
    # Not `stage.weights`: asking a model's folder for more than its name fails where there is none yet.
    values = [value for stage in stages for value in settings_of(stage).values()]
    if tiny := sorted({value for value in values if isinstance(value, str) and value.startswith("tiny:")}):
        from shardprep.cli.tiny import make_tiny

        reporter.message(f"the recipe names {', '.join(tiny)}: RANDOM MODEL, made here to try the recipe out; their numbers mean nothing")
        make_tiny()


def _reporter(log: Log) -> LineReporter | JsonReporter | BarReporter:
    from shardprep.cli import reporters

    if log is Log.json:
        return reporters.JsonReporter(sys.stdout)
    if log is Log.summary:
        return reporters.MessageReporter(sys.stderr)
    if log is Log.auto and sys.stderr.isatty():
        return reporters.BarReporter(reporters.make_console(stderr=True))
    return reporters.LineReporter(sys.stderr)
