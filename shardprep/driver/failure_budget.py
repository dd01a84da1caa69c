"""The failure budget: how many samples may fail before a run stops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shardprep.core.quantity import counted
from shardprep.errors import FailureBudgetExceeded
from shardprep.shards.counts import num_inputs, num_lost

DEFAULT_NUMBER = 10
DEFAULT_RATE = 0.05


@dataclass
class FailureBudget:
    """Counts the samples of one step as its shards come in.

    `limit` is a number of samples (int), a share of the step's samples (float), or None: more than 10 failures that are
    also more than 5 % of the samples seen are too many.
    """

    step: str
    url: str
    limit: int | float | None = None
    num_samples: int = 0
    """Samples that the step will see, as far as is known: a few failures in its first shard do not exceed a share of all."""
    num_seen: int = 0
    num_failed: int = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """Count a shard; raise FailureBudgetExceeded where too many have failed."""
        lost_children = counts.get("output.dropped", 0) + counts.get("output.failed", 0)
        self.num_seen += num_inputs(counts) + lost_children
        self.num_failed += num_lost(counts, "failed")
        if self._is_exceeded():
            raise FailureBudgetExceeded(
                f"{self.step}: {self.num_failed} of {self.num_seen} samples failed, more than --max-failed allows ({self._words()}). "
                f"They are recorded in {self.url}; see them with: shardprep table {self.url} --fate failed"
            )

    def check_plan(self, counts: Mapping[str, int], first: str) -> None:
        """Count what a packing will hold; raise FailureBudgetExceeded, which says the `first` failure, before anything is packed."""
        try:
            self.add(counts)
        except FailureBudgetExceeded as error:
            raise FailureBudgetExceeded(
                f"{self.step}: {self.num_failed} of {self.num_seen} samples cannot be packed, more than --max-failed allows "
                f"({self._words()}); nothing was packed. First {first}"
            ) from error

    def _is_exceeded(self) -> bool:
        if self.limit is None:
            return self.num_failed > DEFAULT_NUMBER and self.num_failed > DEFAULT_RATE * self.num_seen
        if isinstance(self.limit, float):
            return self.num_failed > self.limit * max(self.num_seen, self.num_samples)
        return self.num_failed > self.limit

    def _words(self) -> str:
        if self.limit is None:
            return f"{DEFAULT_NUMBER} samples and {DEFAULT_RATE:.0%}"
        return f"{self.limit:.1%}" if isinstance(self.limit, float) else counted(self.limit, "sample")
