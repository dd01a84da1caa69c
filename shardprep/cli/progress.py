"""How far a step is, in what a person counts: samples of all, time of video, and the time left, reckoned from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardprep.core.quantity import time_words
from shardprep.driver.model import VIDEO_MS
from shardprep.shards.counts import num_inputs


@dataclass(kw_only=True)
class StepProgress:
    """What a step has to make and has made so far; times are seconds of one clock."""

    num_shards: int
    num_samples: int | None
    """Input samples of these shards; None where nothing tells."""
    started: float
    shards_done: int = 0
    samples_done: int = 0
    video_seconds: float = 0.0
    """How long the videos of these samples are, as far as is known."""

    def add(self, counts: Mapping[str, int]) -> None:
        """Count one more shard, by the counts that a reporter is told."""
        self.shards_done += 1
        self.samples_done += num_inputs(counts)
        self.video_seconds += counts.get(VIDEO_MS, 0) / 1000

    def seconds_left(self, now: float) -> float | None:
        """Return the time that the rest takes if it goes on like this, by samples where their number is known; None before any is done."""
        done, of_all = (self.samples_done, self.num_samples) if self.num_samples else (self.shards_done, self.num_shards)
        return (now - self.started) / done * max(0, of_all - done) if done else None

    def words(self, now: float) -> str:
        """Return `48/256 samples, 5 min 02 s left, 12 min 10 s of video, 3/16 shards, 4.1 samples/s`, what matters most first."""
        of_all = "" if self.num_samples is None else f"/{self.num_samples}"
        left = self.seconds_left(now)
        parts = [f"{self.samples_done}{of_all} samples"]
        parts += [f"{time_words(left)} left"] if left is not None else []
        parts += [f"{time_words(self.video_seconds)} of video"] if self.video_seconds else []
        rate = self.samples_done / max(1e-3, now - self.started)
        return ", ".join([*parts, f"{self.shards_done}/{self.num_shards} shards", f"{rate:.1f} samples/s"])

    def fields(self, now: float) -> dict[str, Any]:
        """Return the same as plain data."""
        left = self.seconds_left(now)
        return {
            "shards_done": self.shards_done,
            "num_shards": self.num_shards,
            "samples_done": self.samples_done,
            "num_samples": self.num_samples,
            "video_seconds": round(self.video_seconds, 3),
            "seconds_left": None if left is None else round(left, 3),
        }
