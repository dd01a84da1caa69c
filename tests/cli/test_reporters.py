"""A run told as lines, as JSON and as bars, and its summary."""

from __future__ import annotations

import io
import itertools
import json
import time
from dataclasses import replace

import pytest
from rich.console import Console

from shardprep.cli.reporters import BarReporter, JsonReporter, LineReporter, fates
from shardprep.cli.summary import reasons, summary_table
from shardprep.driver.model import VIDEO_MS, Reporter, RunSummary, StepSummary

COUNTS = {
    "input.kept": 3,
    "input.dropped": 1,
    "input.dropped:no-scene": 1,
    "input.failed": 2,
    "input.failed:decode": 2,
    "output.kept": 7,
    "output.dropped": 4,
    "output.dropped:too-short": 4,
}
SUMMARY = StepSummary(
    name="scores",
    kind="pass",
    url="out/scores",
    samples_in=6,
    samples_out=7,
    kept=3,
    dropped={"no-scene": 1},
    failed={"decode": 2},
    children_dropped={"too-short": 4},
    shards_made=1,
    shards_done=2,
    worked_on=6,
    seconds=1.234,
    decodes=6,
    random_models=("embed_clip",),
)


def tell(reporter: Reporter) -> None:
    reporter.step_started("scores", 2, 24)
    reporter.shard_done("scores", "000000", {**COUNTS, VIDEO_MS: 62_000}, 1.5)
    reporter.message("[bold]weights[/bold] are random")
    reporter.step_done(SUMMARY)


def test_children_are_not_counted_with_their_parents() -> None:
    assert fates(COUNTS) == {"in": 6, "out": 7, "dropped": 1, "failed": 2, "children_dropped": 4, "children_failed": 0}


@pytest.fixture
def ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says 10 s more at each look."""
    times = itertools.count(100.0, 10.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(times))


@pytest.mark.usefixtures("ten_seconds")
def test_lines() -> None:
    stream = io.StringIO()
    with LineReporter(stream) as reporter:
        tell(reporter)
    assert stream.getvalue() == (
        "scores: 2 shards to make, 24 samples\n"
        "scores 000000  in 6  out 7  dropped 1  failed 2  children dropped 4  1.5 s  "
        "(6/24 samples, 30 s left, 1 min 02 s of video, 1/2 shards, 0.6 samples/s)\n"
        "[bold]weights[/bold] are random\n"
        "scores: done in 1.2 s\n"
    )


@pytest.mark.usefixtures("ten_seconds")
def test_json() -> None:
    stream = io.StringIO()
    with JsonReporter(stream) as reporter:
        tell(reporter)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["step-started", "shard-done", "message", "step-done"]
    assert {name: events[1][name] for name in ("step", "shard", "in", "out", "dropped", "failed", "children_dropped", "seconds")} == {
        "step": "scores", "shard": "000000", "in": 6, "out": 7, "dropped": 1, "failed": 2, "children_dropped": 4, "seconds": 1.5,
    }  # fmt: skip
    assert events[1]["so_far"] == {
        "shards_done": 1, "num_shards": 2, "samples_done": 6, "num_samples": 24, "video_seconds": 62.0, "seconds_left": 30.0,
    }  # fmt: skip
    assert events[3]["random_models"] == ["embed_clip"]
    assert events[3]["failed"] == {"decode": 2}
    assert (events[3]["children_dropped"], events[3]["children_failed"]) == ({"too-short": 4}, {})


def test_bars() -> None:
    stream = io.StringIO()
    with BarReporter(Console(file=stream, force_terminal=True, width=120)) as reporter:
        tell(reporter)
    text = stream.getvalue()
    assert "samples/s" in text
    assert "1/2" in text
    assert "6/24 samples" in text
    assert "1 min 02 s of video" in text
    assert "[bold]weights[/bold] are random" in text


def test_the_summary_names_reasons_and_random_models() -> None:
    stream = io.StringIO()
    Console(file=stream, width=160).print(summary_table(RunSummary(recipe="r", output="out", steps=(SUMMARY,))))
    text = stream.getvalue()
    head, row = (next(line.split() for line in text.splitlines() if word in line) for word in ("samples in", "2 done before"))
    assert " ".join(head) == "step samples in kept dropped failed out children lost shards seconds"
    assert " ".join(row).startswith("scores 6 3 1: no-scene 1 2: decode 2 7 dropped 4: too-short 4 1 made")
    assert "RANDOM MODEL: embed_clip" in text
    assert "1 made, 2 done before" in text


def test_a_run_that_lost_no_children_has_no_column_of_them() -> None:
    table = summary_table(RunSummary(recipe="r", output="out", steps=(replace(SUMMARY, children_dropped={}),)))
    assert [column.header for column in table.columns] == ["step", "samples in", "kept", "dropped", "failed", "out", "shards", "seconds"]


def test_reasons() -> None:
    assert reasons({}) == "0"
    assert reasons({"b": 1, "a": 1, "c": 3}) == "5: c 3, a 1, b 1"
