"""Progress in samples and in time of video, and a time left that comes from them; at the end of real runs too."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import shardprep
from shardprep.cli.commands import app
from shardprep.cli.progress import StepProgress
from shardprep.cli.reporters import BarReporter, JsonReporter, LineReporter
from shardprep.driver.model import VIDEO_MS
from shardprep.recipe.load import recipe_from_dict
from shardprep.testing.videos import still

NUM_VIDEOS, SECONDS = 5, 2.0


def progress(num_samples: int | None) -> StepProgress:
    return StepProgress(num_shards=4, num_samples=num_samples, started=100.0)


def test_the_time_left_comes_from_samples_and_not_from_shards() -> None:
    step = progress(40)
    assert step.seconds_left(110.0) is None
    step.add({"input.kept": 20, "input.failed": 10, VIDEO_MS: 1500})
    step.add({VIDEO_MS: 500})
    assert (step.samples_done, step.shards_done, step.video_seconds) == (30, 2, 2.0)
    assert step.seconds_left(160.0) == 20.0
    assert step.words(160.0) == "30/40 samples, 20 s left, 2 s of video, 2/4 shards, 0.5 samples/s"


def test_where_nobody_knows_the_samples_it_comes_from_shards() -> None:
    step = progress(None)
    step.add({"input.kept": 3})
    assert step.seconds_left(110.0) == 30.0
    assert step.words(110.0) == "3 samples, 30 s left, 1/4 shards, 0.3 samples/s"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("progress")
    (folder / "videos").mkdir()
    for number in range(NUM_VIDEOS):
        (folder / f"videos/v{number}.mp4").write_bytes(still(SECONDS))
    return {
        "source": {"videos": str(folder / "videos"), "samples_per_shard": 2},
        "workers": 1,
        "steps": [{"facts": ["probe_media"]}, {"train": {"pack": {"samples_per_shard": 2}}}],
    }


def test_a_real_run_tells_its_samples_and_its_video(document: dict[str, object], tmp_path: Path) -> None:
    lines, events = io.StringIO(), io.StringIO()
    shardprep.run(recipe_from_dict({**document, "output": str(tmp_path / "lines")}), reporter=LineReporter(lines))
    shardprep.run(recipe_from_dict({**document, "output": str(tmp_path / "json")}), reporter=JsonReporter(events))
    last = {line.split()[0]: line for line in lines.getvalue().splitlines() if "shards, " in line}
    for step in ("raw", "facts", "train"):
        assert f"({NUM_VIDEOS}/{NUM_VIDEOS} samples, 0 s left, " in last[step]
        assert "3/3 shards" in last[step]
    assert re.search(r"left, \d+ s of video", last["facts"])
    assert "of video" not in last["raw"], "nobody has looked into them yet"
    told = [json.loads(line) for line in events.getvalue().splitlines()]
    so_far = [event["so_far"] for event in told if event["event"] == "shard-done" and event["step"] == "facts"]
    assert [one["samples_done"] for one in so_far] in ([2, 4, 5], [2, 3, 5], [1, 3, 5])
    assert so_far[0]["seconds_left"] > 0 == so_far[-1]["seconds_left"]
    assert so_far[-1]["video_seconds"] == pytest.approx(NUM_VIDEOS * SECONDS, abs=0.5)


def test_a_terminal_shows_the_same_from_python_and_from_the_command_line(
    document: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    with BarReporter(Console(file=stream, force_terminal=True, width=100)) as reporter:
        shardprep.run(recipe_from_dict({**document, "output": str(tmp_path / "python")}), reporter=reporter)
    assert f"{NUM_VIDEOS}/{NUM_VIDEOS} samples, 0 s left" in stream.getvalue()
    assert "s of video" in stream.getvalue()
    (tmp_path / "recipe.yaml").write_text(json.dumps(document))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "command"), "--log", "lines"])
    assert f"({NUM_VIDEOS}/{NUM_VIDEOS} samples, 0 s left, " in done.stderr
    assert "s of video" in done.stderr
