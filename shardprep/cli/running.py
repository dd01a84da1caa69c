"""The commands that make shards or say what would be made: run, plan, status, retry."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from types import FrameType

    from shardprep.cli.reporters import BarReporter, JsonReporter, LineReporter
    from shardprep.driver import RunOptions, RunPlan, RunSummary, StepPlan
    from shardprep.recipe import Recipe


class Log(StrEnum):
    """How progress is told."""

    auto = "auto"
    lines = "lines"
    json = "json"


RecipeFile = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file.")]
Input = Annotated[str | None, typer.Option("--input", help="Take the place of the recipe's source: a folder of videos, a list or tars.")]
Output = Annotated[str | None, typer.Option("--output", help="Folder or URL for the shard sets.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting: steps.clips.detect_scenes.threshold=2.5")]
Until = Annotated[str | None, typer.Option("--until", metavar="STEP", help="Stop after this step.")]
Workers = Annotated[str | None, typer.Option("--workers", help="Worker processes, or auto.")]
Memory = Annotated[str | None, typer.Option("--memory", help="Memory per worker, such as 2GiB.")]
MaxFailed = Annotated[str | None, typer.Option("--max-failed", help="Failures at which the run stops: 20, 0.01 or 1%.")]
LogOption = Annotated[Log, typer.Option("--log", help="auto: a bar on a terminal, else a line per shard; json: an event per line.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(
    recipe: RecipeFile,
    source: Input = None,
    output: Output = None,
    changes: Set = None,
    until: Until = None,
    workers: Workers = None,
    memory: Memory = None,
    max_failed: MaxFailed = None,
    reuse: Annotated[bool, typer.Option("--reuse/--no-reuse", help="Copy the outcomes of samples whose inputs and stages are unchanged.")] = True,
    log: LogOption = Log.auto,
) -> None:
    """Make what the recipe says and is not there yet."""
    from shardprep import driver

    loaded = _load(recipe, source, output, [*(changes or []), *_as_changes(workers, memory, max_failed)], until)
    with _reporter(log) as reporter, _stopping(reporter) as stop:
        _make_tiny_models(loaded, until, reporter)
        options = driver.RunOptions(until=until, stop=stop, reuse=reuse)
        summary = driver.run(loaded, options, reporter)
    _print_summary(loaded, summary, log)


def retry(
    recipe: RecipeFile,
    source: Input = None,
    output: Output = None,
    changes: Set = None,
    until: Until = None,
    workers: Workers = None,
    memory: Memory = None,
    max_failed: MaxFailed = None,
    log: LogOption = Log.auto,
) -> None:
    """Work again on the samples that failed, and on nothing else."""
    from shardprep import driver

    loaded = _load(recipe, source, output, [*(changes or []), *_as_changes(workers, memory, max_failed)], until)
    with _reporter(log) as reporter, _stopping(reporter) as stop:
        _make_tiny_models(loaded, until, reporter)
        options = driver.RunOptions(until=until, stop=stop)
        summary = driver.retry(loaded, options, reporter)
    _print_summary(loaded, summary, log)


def plan(
    recipe: RecipeFile,
    source: Input = None,
    output: Output = None,
    changes: Set = None,
    until: Until = None,
    strict: Annotated[bool, typer.Option("--strict", help="Shards made with other library versions are stale too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a run would make, and why: new, stale because a setting changed, or done."""
    from shardprep import driver

    loaded = _load(recipe, source, output, changes or [], until)
    _print_plan(driver.plan(loaded, strict=strict), as_json)


def status(output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The output folder or URL of a run.")], as_json: AsJson = False) -> None:
    """Say which shards of an output are done, without a recipe."""
    from shardprep import driver

    _print_plan(driver.status(output), as_json)


def _load(file: str, source: str | None, output: str | None, changes: list[str], until: str | None) -> Recipe:
    from shardprep.recipe import load_recipe

    return load_recipe(file, overrides=changes, source=source, output=output, until=until)


def _as_changes(workers: str | None, memory: str | None, max_failed: str | None) -> Iterator[str]:
    """Yield the options that are settings of the recipe as `--set` texts, so that one place checks them."""
    if workers is not None:
        yield f"workers={workers}"
    if memory is not None:
        yield f"memory={memory}"
    if max_failed is not None:
        number = max_failed.removesuffix("%")
        is_share = number != max_failed and number.replace(".", "", 1).isdigit()
        yield f"max_failed={float(number) / 100 if is_share else max_failed}"


def _make_tiny_models(recipe: Recipe, until: str | None, reporter: LineReporter | JsonReporter | BarReporter) -> None:
    """Make the random models that the recipe names, where it names some."""
    from shardprep.recipe import Pass, steps_until

    passes = [step for step in steps_until(recipe, until) if isinstance(step, Pass)]
    tiny = sorted({w.name for step in passes for stage in step.stages for w in stage.weights if w.name.startswith("tiny:")})
    if tiny:
        from shardprep.cli.tiny import make_tiny

        reporter.message(f"the recipe names {', '.join(tiny)}: RANDOM MODEL, made here to try the recipe out; their numbers mean nothing")
        make_tiny()


def _reporter(log: Log) -> LineReporter | JsonReporter | BarReporter:
    from shardprep.cli import reporters

    if log is Log.json:
        return reporters.JsonReporter(sys.stdout)
    if log is Log.auto and sys.stderr.isatty():
        return reporters.BarReporter(reporters.make_console(stderr=True))
    return reporters.LineReporter(sys.stderr)


@contextmanager
def _stopping(reporter: LineReporter | JsonReporter | BarReporter) -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set; the second signal ends the process in the ordinary way."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        for other, handler in before.items():
            signal.signal(other, handler)
        reporter.message("stopping: shards in work are finished or given up; once more to end at once")

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_summary(recipe: Recipe, summary: RunSummary, log: Log) -> None:
    from shardprep.cli import reporters

    if log is Log.json:
        steps = [reporters.step_fields(step) for step in summary.steps]
        reporters.JsonReporter(sys.stdout).event(
            "run-done", output=recipe.output, steps=steps, failed=summary.failed_total, retry_command=summary.retry_command
        )
        return
    reporters.make_console().print(reporters.summary_table(summary))
    if any(step.random_models for step in summary.steps):
        print("RANDOM MODEL: numbers and tensors of the steps so marked come from random weights and mean nothing")
    print(f"output: {recipe.output}")
    if summary.failed_total:
        print(f"{summary.failed_total} samples failed; work on them again with: {summary.retry_command}")


def _print_plan(found: RunPlan, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"steps": [_plan_fields(step) for step in found.steps]}, indent=2))
        return
    from rich import box
    from rich.table import Table

    from shardprep.cli.reporters import make_console

    table = Table("step", "kind", box=box.SIMPLE_HEAD)
    for column in ("done", "stale", "new", "bytes", "time"):
        table.add_column(column, justify="right")
    table.add_column("why", overflow="fold")
    for step in found.steps:
        numbers = map(str, (step.done, step.stale, step.new))
        table.add_row(step.name, step.kind, *numbers, _size(step.bytes), _time(step.seconds_estimate), "\n".join(step.reasons))
    make_console().print(table)


def _plan_fields(step: StepPlan) -> dict[str, Any]:
    return {
        "step": step.name,
        "kind": step.kind,
        "shards": {"done": step.done, "stale": step.stale, "new": step.new},
        "bytes": step.bytes,
        "seconds_estimate": step.seconds_estimate,
        "reasons": list(step.reasons),
    }


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "?"
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
