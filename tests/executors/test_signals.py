"""Stopping a run: the shards in work are finished or abandoned, nothing is half written, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shardprep.core.stage import Stage
from shardprep.driver.model import RunOptions
from shardprep.errors import Stopped
from shardprep.executors.stop import StopSignal
from tests.executors.test_local import first_note, gone_within
from tests.fates import fates, make_files, run_over
from tests.misbehaving import Linger, LingerThen
from tests.plugins.distribution import install


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return make_files(tmp_path / "files", 6)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def stop_after_first_note(files: Path, notes: Path, output: Path, stage: Stage, how: str, workers: int = 1) -> tuple[Stopped, float]:
    """Run until the stage works on a sample, ask to stop, and return how the run ended and how long that took."""
    stop = StopSignal()
    asked: list[float] = []

    def ask() -> None:
        first_note(notes)
        asked.append(time.monotonic())
        stop.finish.set()
        if how == "abandon":
            stop.abandon.set()

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(Stopped) as caught:
        run_over(files, output, stage, options=RunOptions(stop=stop), samples_per_shard=2, workers=workers)
    thread.join()
    return caught.value, time.monotonic() - asked[0]


def left(output: Path) -> list[str]:
    """Return the shards that are there; AssertionError where something is half written."""
    names = [path.name for path in sorted((output / "work").iterdir())]
    assert not [name for name in names if name.startswith(".") or name.endswith(".tar")], names
    return [name[:6] for name in names if name.endswith(".parquet")]


def test_finish_lets_the_shard_in_work_commit(files: Path, notes: Path, tmp_path: Path) -> None:
    stopped, _ = stop_after_first_note(files, notes, tmp_path / "out", Linger(folder=str(notes), seconds=0.3), "finish")
    assert stopped.finished
    assert str(stopped) == "Stopped: the shards in work were finished, 2 shards of this step are left. Run the recipe again to make them."
    assert left(tmp_path / "out") == ["000000"]
    run_over(files, tmp_path / "out", Linger(folder=str(notes), seconds=0.3), samples_per_shard=2)
    assert left(tmp_path / "out") == ["000000", "000001", "000002"]
    assert {fate.fate for fate in fates(tmp_path / "out").values()} == {"kept"}


@pytest.mark.parametrize("how", ["hang", "hang_with_the_gil", "hang_deaf"])
def test_abandon_ends_whatever_a_stage_does(files: Path, notes: Path, tmp_path: Path, how: str) -> None:
    stopped, seconds = stop_after_first_note(files, notes, tmp_path / "out", LingerThen(folder=str(notes), how=how), "abandon")
    assert not stopped.finished
    assert str(stopped) == "Stopped: 1 unfinished shard was abandoned, 2 shards not begun. Run the recipe again to make them."
    assert seconds < 10
    assert left(tmp_path / "out") == []
    assert gone_within(1, int(first_note(notes)))


PLUG_IN = '''
    """Waits, and says so."""

    import os
    import time
    from dataclasses import dataclass
    from pathlib import Path

    from shardprep.core.stage import Map


    @dataclass(frozen=True, kw_only=True)
    class WaitAWhile(Map):
        """Wait."""

        folder: str
        seconds: float

        accepts = ()

        def apply(self, sample):
            (Path(self.folder) / sample.key).write_text(str(os.getpid()))
            time.sleep(self.seconds)
            return sample
'''

RECIPE = """
name: waiting
source: {{videos: files, samples_per_shard: 2}}
output: out
workers: 1
steps:
  - work: [wait_a_while: {{folder: {folder}, seconds: {seconds}}}]
"""


@pytest.mark.parametrize(
    ("seconds", "signals", "code", "words", "shards"),
    [
        (0.5, [signal.SIGINT], 3, "the shards in work were finished, 2 shards of this step are left", ["000000"]),
        (60, [signal.SIGINT, signal.SIGINT], 4, "1 unfinished shard was abandoned, 2 shards not begun", []),
        (60, [signal.SIGTERM], 4, "1 unfinished shard was abandoned, 2 shards not begun", []),
    ],
)
def test_ctrl_c_and_sigterm_on_the_command_line(
    files: Path, notes: Path, tmp_path: Path, seconds: float, signals: list[signal.Signals], code: int, words: str, shards: list[str]
) -> None:
    env = install(tmp_path / "site", "waiting", PLUG_IN, wait_a_while="WaitAWhile")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(folder=notes, seconds=seconds))
    command = [sys.executable, "-m", "shardprep.cli", "run", "recipe.yaml", "--log", "lines"]
    # In a group of its own: a terminal sends Ctrl-C to all of it, the workers too.
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        worker = int(first_note(notes))
        asked = time.monotonic()
        for number in signals:
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
            time.sleep(0.3)
        _, told = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert process.returncode == code, told
    assert words in told
    assert left(tmp_path / "out") == shards
    assert gone_within(1, worker)


def test_nobody_looks_at_the_events_but_while_it_is_promised() -> None:
    """Where nobody does, Ctrl-C must interrupt, as while a source is listed."""
    stop = StopSignal()
    assert not stop.is_watched
    with stop.watched():
        assert stop.is_watched
        with stop.watched():
            pass
        assert stop.is_watched
    assert not stop.is_watched
