"""A plan, or the state of an output, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from shardprep.cli.reporters import make_console
from shardprep.core.quantity import UNKNOWN, counted, size_words, time_words

if TYPE_CHECKING:
    from shardprep.driver.model import RunPlan, StepPlan

_TEXTS = ("step", "kind")
_OF_STATUS = ("dropped", "failed", "children dropped", "children failed")
"""Columns that only a state has, and only where they say something."""
_COLUMNS = (*_TEXTS, "done", "stale", "new", "follow", *_OF_STATUS, "samples", "there", "to come", "worker time")
_SHORTEST = 8
"""Characters of a step's name below which it says nothing."""


def print_plan(found: RunPlan, as_json: bool, verdict: str) -> None:
    """Print what is done and what a run would make, why, and what it may cost."""
    if as_json:
        data = {name: value for name, value in asdict(found).items() if name != "steps"}
        print(json.dumps(data | {"has_work": found.has_work, "steps": [asdict(step) for step in found.steps]}, indent=2))
        return
    console = make_console()
    console.print(table_of(found.steps, console.width))
    for line in (*_whys(found), *found.notes, *_weights(found), *_totals(found)):
        print(line)
    print(f"output: {found.output}\n{verdict}")


def _numbers(step: StepPlan) -> list[str]:
    lost = (step.dropped, step.failed, step.children_dropped, step.children_failed)
    counts = (step.done, step.stale, step.new, step.follows, *(sum(reasons.values()) for reasons in lost))
    shards = [str(number) if number else "" for number in counts]
    samples = "" if not step.has_work else UNKNOWN if step.samples is None else str(step.samples)
    there = "" if step.kind == "source" and step.has_work else size_or_unknown(step.num_bytes)
    come = f"~{size_or_unknown(step.bytes_estimate)}" if step.bytes_estimate else size_or_unknown(step.bytes_estimate)
    return [*shards, samples, there, come if step.has_work else "", time_words(step.seconds_estimate) if step.has_work else ""]


def table_of(steps: Sequence[StepPlan], width: int) -> Table:
    """Return a row per step. Where that is wider than `width`, columns that say nothing go first, then the middle of long names."""
    columns = (
        dict(zip(_COLUMNS, zip(*((step.name, step.kind, *_numbers(step)) for step in steps), strict=True), strict=True)) if steps else {}
    )
    columns = {name: cells for name, cells in columns.items() if name not in _OF_STATUS or any(cells)}
    if _width(columns) > width:
        columns = {name: cells for name, cells in columns.items() if any(cells)}
    if (over := _width(columns) - width) > 0:
        columns["step"] = shortened(columns["step"], max(_SHORTEST, max(map(len, columns["step"])) - over))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in columns or [name for name in _COLUMNS if name not in _OF_STATUS]:
        table.add_column(name, justify="left" if name in _TEXTS else "right", no_wrap=name == "step")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def shortened(names: Sequence[str], longest: int) -> tuple[str, ...]:
    """Return the names without their middle, of at most `longest` characters, or of as many as tell them apart."""

    def short(name: str, room: int) -> str:
        head = room // 2
        return name if len(name) <= room else f"{name[:head]}…{name[len(name) - (room - 1 - head) :]}"

    room = longest
    while len({short(name, room) for name in names}) < len(set(names)):
        room += 1
    return tuple(short(name, room) for name in names)


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the width of the table: a space on both sides of a column, and one between two."""
    return sum(max(map(len, (name, *cells))) + 3 for name, cells in columns.items()) - 1


def size_or_unknown(num_bytes: int | None) -> str:
    """Return `1.5 KiB`, and `?` for an unknown size."""
    return UNKNOWN if num_bytes is None else size_words(num_bytes)


def _whys(found: RunPlan) -> list[str]:
    """Return why steps are to be made again and how many samples that touches, and what a person should know of the others."""
    lines = []
    for step in found.steps:
        touched = f" ({counted(step.stale_samples, 'sample')})" if step.stale_samples else ""
        lines += [f"{step.name}: {reason}{touched}" for reason in step.reasons]
        lines += [f"{step.name}: {note}" for note in step.notes]
    return lines


def _weights(found: RunPlan) -> list[str]:
    lines = []
    for absent in found.weights:
        what = f"weights {absent.name} are not on this machine ({absent.size})"
        how = (
            f", and {absent.obstacle}: fetch them where there is a network, with `{absent.command}`"
            if absent.obstacle
            else ": the run fetches them"
        )
        lines.append(what + how)
    return lines


def _totals(found: RunPlan) -> list[str]:
    if not found.has_work:
        return []
    sizes = [step.bytes_estimate for step in found.steps if step.has_work]
    seconds = [step.seconds_estimate for step in found.steps if step.has_work and step.kind != "pack"]
    if not sizes:
        return []
    known = sum(size for size in sizes if size is not None)
    least = "at least " if None in sizes else "about "
    lines = [f"to be written: {least}{size_words(known)}" + (" (? : nothing of that step was made yet)" if None in sizes else "")]
    worker_seconds = sum(one for one in seconds if one is not None)
    if worker_seconds:
        lines.append(f"worker time: {'at least ' if None in seconds else 'about '}{time_words(worker_seconds)}, divided by the workers")
    return lines
