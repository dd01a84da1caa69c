"""How a run tells what it does: a progress bar on a terminal, one line per shard elsewhere, JSON lines for machines; and its summary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.console import Console

from shardprep.cli.progress import StepProgress
from shardprep.core.quantity import counted
from shardprep.shards.counts import num_inputs, num_outputs

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from shardprep.driver.model import StepSummary

_BAR = 16
"""Columns of a bar: the numbers beside it say more."""
WIDE = 160
"""Columns that a table may take where no terminal says how many there are."""


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes data as it is: no markup, no highlighting, and no 80 columns in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else WIDE)


class LineReporter:
    """One line per shard: `clips 000012  in 8  out 31  dropped 2  failed 0  8.4 s  (48/256 samples, 5 min 02 s left, 13/40 shards, …)`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._steps: dict[str, StepProgress] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        self._steps[name] = StepProgress(num_shards=num_shards, num_samples=num_samples, started=time.monotonic())
        samples = "" if num_samples is None else f", {counted(num_samples, 'sample')}"
        self._say(f"{name}: {counted(num_shards, 'shard')} to make{samples}" if num_shards else f"{name}: nothing to do")

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        self._steps[name].add(counts)
        shown = {fate: number for fate, number in fates(counts).items() if number or not fate.startswith("children_")}
        numbers = "  ".join(f"{fate.replace('_', ' ')} {number}" for fate, number in shown.items())
        self._say(f"{name} {shard}  {numbers}  {seconds:.1f} s  ({self._steps[name].words(time.monotonic())})")

    def message(self, text: str) -> None:
        self._say(text)

    def step_done(self, summary: StepSummary) -> None:
        if summary.shards_made:
            self._say(f"{summary.name}: done in {summary.seconds:.1f} s")

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class MessageReporter(LineReporter):
    """Only what a person must know; the summary tells the rest."""

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        return

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        return

    def step_done(self, summary: StepSummary) -> None:
        return


class JsonReporter:
    """One JSON object per event and line; numbers are numbers, times are seconds since 1970."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._steps: dict[str, StepProgress] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        self._steps[name] = StepProgress(num_shards=num_shards, num_samples=num_samples, started=time.monotonic())
        self.event("step-started", step=name, num_shards=num_shards, num_samples=num_samples)

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        self._steps[name].add(counts)
        so_far = self._steps[name].fields(time.monotonic())
        self.event("shard-done", step=name, shard=shard, **fates(counts), seconds=round(seconds, 3), so_far=so_far)

    def message(self, text: str) -> None:
        self.event("message", text=text)

    def step_done(self, summary: StepSummary) -> None:
        self.event("step-done", **step_fields(summary))

    def event(self, name: str, **fields: Any) -> None:
        """Print one event."""
        print(json.dumps({"event": name, "time": round(time.time(), 3), **fields}, ensure_ascii=False), file=self._stream, flush=True)


class BarReporter:
    """A bar per step, of samples where their number is known, with the time of video and the time left."""

    def __init__(self, console: Console) -> None:
        self._progress = _make_progress(console)
        self._tasks: dict[str, TaskID] = {}
        self._steps: dict[str, StepProgress] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def step_started(self, name: str, num_shards: int, num_samples: int | None) -> None:
        step = self._steps[name] = StepProgress(num_shards=num_shards, num_samples=num_samples, started=time.monotonic())
        self._tasks[name] = self._progress.add_task(name, total=num_samples or num_shards, words=step.words(step.started))

    def shard_done(self, name: str, shard: str, counts: Mapping[str, int], seconds: float) -> None:
        step = self._steps[name]
        step.add(counts)
        done = step.samples_done if step.num_samples else step.shards_done
        self._progress.update(self._tasks[name], completed=done, words=step.words(time.monotonic()))

    def message(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def step_done(self, summary: StepSummary) -> None:
        if summary.name in self._tasks:
            self._progress.update(self._tasks[summary.name], refresh=True)


def _make_progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    words = TextColumn("{task.fields[words]}", markup=False)
    return Progress(TextColumn("{task.description}", markup=False), BarColumn(bar_width=_BAR), words, console=console, transient=True)


def fates(counts: Mapping[str, int]) -> dict[str, int]:
    """Return a shard's samples in and out, how many of those in were dropped and failed, and how many children, from its counts."""
    lost = {fate: counts.get(f"input.{fate}", 0) for fate in ("dropped", "failed")}
    children = {f"children_{fate}": counts.get(f"output.{fate}", 0) for fate in ("dropped", "failed")}
    return {"in": num_inputs(counts), "out": num_outputs(counts), **lost, **children}


def step_fields(summary: StepSummary) -> dict[str, Any]:
    """Return a step's summary as plain data."""
    return {
        "step": summary.name,
        "kind": summary.kind,
        "url": summary.url,
        "samples_in": summary.samples_in,
        "samples_out": summary.samples_out,
        "kept": summary.kept,
        "dropped": dict(summary.dropped),
        "failed": dict(summary.failed),
        "children_dropped": dict(summary.children_dropped),
        "children_failed": dict(summary.children_failed),
        "shards_made": summary.shards_made,
        "shards_done": summary.shards_done,
        "worked_on": summary.worked_on,
        "seconds": round(summary.seconds, 3),
        "decodes": summary.decodes,
        "random_models": list(summary.random_models),
        "first_failure": asdict(summary.first_failure) if summary.first_failure else None,
        "notes": list(summary.notes),
    }
