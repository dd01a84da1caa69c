"""A run with nothing to do opens no shard, touches no file and is quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardprep.driver.run import run
from tests.driver.made import Made
from tests.driver.outputs import (
    files,
    make_sources,
)
from tests.driver.recipes import counted
from tests.driver.stages import noted

SECOND_RUN = """
import json, sys, time
from pathlib import Path
started = time.perf_counter()
opened = []
output = sys.argv[2]
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        name = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode()
        if name.startswith(output):
            opened.append((name[len(output) + 1:], arguments[1], arguments[2]))
sys.addaudithook(hook)
from shardprep.driver.run import run
from tests.driver.recipes import counted, planned
import multiprocessing
if __name__ == "__main__":
    summary = run(counted(Path(sys.argv[1]), Path(output), samples_per_shard=int(sys.argv[3])))
    took = time.perf_counter() - started
    print(json.dumps({
        "opened": opened, "seconds": took, "modules": sorted({n.partition(".")[0] for n in sys.modules}),
        "made": [s.shards_made for s in summary.steps], "done": [s.shards_done for s in summary.steps],
        "worked_on": [s.worked_on for s in summary.steps], "children": len(multiprocessing.active_children()),
    }))
"""
"""A run that writes down every file of the output that Python opens."""


def second_run(videos: Path, output: Path, folder: Path, samples_per_shard: int = 4) -> dict[str, object]:
    script = folder / "second_run.py"
    script.write_text(SECOND_RUN)
    command = [sys.executable, str(script), str(videos), str(output), str(samples_per_shard)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def opened_data(found: dict[str, object]) -> list[str]:
    """Return the ledgers and tars that were opened, and whatever was opened for writing."""
    opened: list[tuple[str, str | None, int]] = found["opened"]  # type: ignore[assignment] # as the script writes it
    shards = [name for name, _, _ in opened if name.endswith((".tar", ".parquet")) and "assignment-" not in name]
    written = [name for name, mode, flags in opened if set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR)]
    return shards + written


def test_a_second_run_opens_no_shard_and_touches_nothing(made: Made, tmp_path: Path) -> None:
    before = files(made.output)
    found = second_run(made.videos, made.output, tmp_path)
    assert opened_data(found) == []
    assert found["opened"], "the hook saw set.json and digests.json at least"
    assert files(made.output) == before
    assert noted(made.log) == [], "no stage was opened and none called"
    assert (found["made"], found["done"], found["worked_on"]) == ([0] * 5, [3, 3, 3, 3, 2], [0] * 5)
    assert found["children"] == 0, "no worker was started"


def test_the_hook_sees_a_ledger_that_is_opened(made: Made, tmp_path: Path) -> None:
    # The proof above would be worth nothing if the hook missed the way in which ledgers are opened.
    (made.output / "numbers/digests.json").unlink()
    assert len(opened_data(second_run(made.videos, made.output, tmp_path))) >= 3


@pytest.mark.prove
def test_a_second_run_over_200_shards_takes_under_3_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sources(tmp_path / "videos", range(200))
    output = tmp_path / "out"
    run(counted(tmp_path / "videos", output, samples_per_shard=1, workers=2))
    before = files(output)
    found = second_run(tmp_path / "videos", output, tmp_path, samples_per_shard=1)
    with capsys.disabled():
        sys.stdout.write(
            f"\nsecond run over {found['done']} shards: {found['seconds']:.2f} s with imports, {len(opened_data(found))} opened\n"
        )
    assert found["done"][:4] == [200] * 4  # type: ignore[index] # a list
    assert opened_data(found) == []
    assert files(output) == before
    assert found["seconds"] < 3  # type: ignore[operator] # a number
