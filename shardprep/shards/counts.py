"""The counts of a ledger: how many rows have which role and fate, and for which reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shardprep.shards.ledger import InputRow, OutputRow

Counts = Mapping[str, int]
"""Rows by `ROLE.FATE` (`input.kept`), and those that are not kept by `ROLE.FATE:REASON` (`input.dropped:too-short`)."""


def count_rows(inputs: Sequence[InputRow], outputs: Sequence[OutputRow]) -> dict[str, int]:
    """Return the number of rows by role and fate, and by reason, as `Counts` has it."""
    counts: dict[str, int] = {}
    rows: list[tuple[str, InputRow | OutputRow]] = [("input", row) for row in inputs]
    rows += [("output", row) for row in outputs]
    for role, row in rows:
        names = [f"{role}.{row.fate}"]
        if row.fate != "kept":
            names.append(f"{role}.{row.fate}:{row.reason}")
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    return counts


def num_inputs(counts: Counts) -> int:
    """Return how many samples went in."""
    return sum(counts.get(f"input.{fate}", 0) for fate in ("kept", "dropped", "failed"))


def num_outputs(counts: Counts) -> int:
    """Return how many samples came out."""
    return counts.get("output.kept", 0)


def lost_by_reason(counts: Counts, role: Literal["input", "output"], fate: Literal["dropped", "failed"]) -> dict[str, int]:
    """Return how many input samples, or children of them (`output`), were dropped or failed, by reason."""
    start = f"{role}.{fate}:"
    return {name.removeprefix(start): count for name, count in sorted(counts.items()) if name.startswith(start)}


def sum_of(several: Iterable[Counts]) -> dict[str, int]:
    """Return the counts of several ledgers together."""
    total: Counter[str] = Counter()
    for counts in several:
        total.update(counts)
    return dict(total)


def num_lost(counts: Counts, fate: Literal["dropped", "failed"]) -> int:
    """Return how many samples were dropped or failed: inputs, and children of inputs."""
    return counts.get(f"input.{fate}", 0) + counts.get(f"output.{fate}", 0)
