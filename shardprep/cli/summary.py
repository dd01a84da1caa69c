"""What a run says at its end: a table, the first failure of each step, and what to do next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from shardprep.cli.reporters import JsonReporter, make_console, step_fields
from shardprep.core.quantity import counted
from shardprep.errors import RunFailed

if TYPE_CHECKING:
    from shardprep.driver.model import RunSummary, StepSummary


@dataclass(frozen=True)
class Asked:
    """How the command line named the recipe, for commands that go on from here."""

    retry_command: str
    file: str
    store: Sequence[str]
    """The options that say how to reach the output's store."""

    def left_behind(self, summary: RunSummary) -> str | None:
        """Say what nobody counts on any more, with the command that removes it."""
        return None if summary.left_behind is None else summary.left_behind.said(self.file, self.store)


def print_summary(summary: RunSummary, asked: Asked) -> None:
    """Print a run's summary for people."""
    make_console().print(summary_table(summary))
    if any(step.random_models for step in summary.steps):
        print("RANDOM MODEL: numbers and tensors of the steps so marked come from random weights and mean nothing")
    for line in failure_lines(summary):
        print(line)
    print(f"output: {summary.output}")
    if left := asked.left_behind(summary):
        print(left)
    if summary.failed_total:
        print(f"{summary.failed_total} failed; work on them again with: {asked.retry_command}")


def print_events(summary: RunSummary, asked: Asked) -> None:
    """Print a run's summary as the last event of a machine's log."""
    JsonReporter(sys.stdout).event(
        "run-done",
        recipe=summary.recipe,
        output=summary.output,
        failed=summary.failed_total,
        retry_command=asked.retry_command if summary.failed_total else None,
        log=summary.log,
        left_behind=asked.left_behind(summary),
        steps=[step_fields(step) for step in summary.steps],
    )


def raise_if_all_failed(summary: RunSummary) -> None:
    """Raise RunFailed where a step had samples and all of them failed."""
    step = next((step for step in summary.steps if step.has_only_failures), None)
    if step is not None:
        said = f" The first, {step.first_failure}" if step.first_failure else ""
        raise RunFailed(f"{step.name}: all {counted(step.samples_in, 'sample')} failed.{said}")


def failure_lines(summary: RunSummary) -> list[str]:
    """Return what a person must not miss: who failed first in each step and how to see the others, and a step that kept nothing."""
    lines = []
    for step in summary.steps:
        if step.first_failure:
            lines.append(f"{step.name}: {step.num_failed} failed; the first, {step.first_failure}")
            lines.append(f"    all of them: shardprep table {shlex.quote(f'{summary.output}/{step.name}')} --fate failed")
    empty = next((step for step in summary.steps if step.kept_nothing), None)
    if empty is not None:
        lines.append(f"NOTHING WAS KEPT: of {counted(empty.samples_in, 'sample')} {empty.name} let none through ({_whereto(empty)})")
    if summary.log:
        lines.append(f"tracebacks: {summary.log}")
    return lines


def summary_table(summary: RunSummary) -> Table:
    """Return the table of a run: per step the samples in, which are kept, dropped and failed together, those out, shards, seconds.

    Where a step lost children of its samples a column tells how many.
    """
    table = Table("step", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("samples in", "kept"):
        table.add_column(column, justify="right")
    for column in ("dropped", "failed"):
        table.add_column(column, overflow="fold")
    table.add_column("out", justify="right")
    children = {step.name: lost_children(step) for step in summary.steps}
    if any(children.values()):
        table.add_column("children lost", overflow="fold")
    for column in ("shards", "seconds"):
        table.add_column(column, justify="right")
    for step in summary.steps:
        table.add_row(
            f"{step.name}\nRANDOM MODEL: {', '.join(step.random_models)}" if step.random_models else step.name,
            *map(str, (step.samples_in, step.kept)),
            reasons(step.dropped),
            reasons(step.failed),
            str(step.samples_out),
            *([children[step.name]] if any(children.values()) else []),
            shards_words(step),
            f"{step.seconds:.1f}",
        )
    return table


def lost_children(step: StepSummary) -> str:
    """Return `dropped 4: too-short 4; failed 1: refused 1` of the children of a step that splits; an empty text where none were lost."""
    lost = [("dropped", step.children_dropped), ("failed", step.children_failed)]
    return "; ".join(f"{word} {reasons(counts)}" for word, counts in lost if counts)


def shards_words(step: StepSummary) -> str:
    """Return `4 made`, `4 done before`, or `3 made, 1 done before`."""
    parts = [(step.shards_made, "made"), (step.shards_done, "done before")]
    return ", ".join(f"{number} {word}" for number, word in parts if number) or "0"


def reasons(counts: Mapping[str, int]) -> str:
    """Return `5: too-short 3, no-scene 2`, and `0` where there are none."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"{sum(counts.values())}: {', '.join(f'{reason} {number}' for reason, number in ordered)}" if ordered else "0"


def _whereto(step: StepSummary) -> str:
    gone = [("dropped", step.dropped), ("failed", step.failed)]
    children = [f"of their children {lost_children(step)}"] if lost_children(step) else []
    return "; ".join([*(f"{word} {reasons(counts)}" for word, counts in gone if counts), *children]) or "no samples came of them"
