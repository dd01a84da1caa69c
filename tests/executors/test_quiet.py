"""A worker that neither works nor reads nor writes is noticed in every phase: stopped, or before a disk that does not answer."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.core.stage import Map, Stage
from shardprep.errors import RunFailed
from shardprep.executors.job import ShardFailure
from shardprep.executors.local import LocalExecutor
from shardprep.runtime.item import Work
from shardprep.runtime.journal import Journal, read_journal
from shardprep.runtime.task import ShardTask, WorkSettings
from shardprep.runtime.worker import work_on
from shardprep.sources.entry import SourceEntry, SourceMember
from tests.executors.errands import Errand, Report
from tests.executors.test_local import run_all
from tests.runtime.stages import JoinPairs


def raw_task(folder: Path, shard: str, source: Path) -> ShardTask:
    """Return the task of a raw shard that copies one source."""
    entry = SourceEntry(key="k", path="k.mp4", size=10, version="1", members=(SourceMember("mp4", str(source), 0, 10),))
    return ShardTask(
        step="raw",
        shard=shard,
        out_url=str(folder / "out"),
        fingerprint=f"{int(shard):064x}",
        step_fingerprint="f",
        stages=(),
        is_base=True,
        adds={},
        reads=(),
        entries=(entry,),
    )


def test_a_source_that_does_not_answer_gives_its_shard_up_and_not_its_sample(tmp_path: Path) -> None:
    # Whoever opens a pipe that nobody writes to waits for ever, as on a mount that hangs.
    os.mkfifo(tmp_path / "hangs.mp4")
    (tmp_path / "good.mp4").write_bytes(bytes(10))
    tasks = [raw_task(tmp_path, "0", tmp_path / "hangs.mp4"), raw_task(tmp_path, "1", tmp_path / "good.mp4")]
    started = time.monotonic()
    with LocalExecutor(2, quiet_limit_seconds=3) as executor:
        answers = {answer.shard: answer for answer in executor.run(tasks, work_on)}
    assert time.monotonic() - started < 60
    failure = answers["0"]
    assert isinstance(failure, ShardFailure)
    assert "read or wrote nothing for too long, so that it was ended; see whether its disk or store answers, 3 times" in str(failure.error)
    assert not isinstance(answers["1"], ShardFailure)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 1, "nothing is committed for the shard, so that no sample is blamed"


def test_a_mount_that_hangs_ends_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs.mp4")
    tasks = [raw_task(tmp_path, str(number), tmp_path / "hangs.mp4") for number in range(20)]
    with LocalExecutor(4, quiet_limit_seconds=2) as executor, pytest.raises(RunFailed, match="see whether its disk or store answers"):
        list(executor.run(tasks, work_on))


def test_a_stopped_worker_is_ended_and_its_shard_made_by_another(tmp_path: Path) -> None:
    [answer] = run_all([Errand(shard="0", how="stop once", folder=str(tmp_path))], workers=1, quiet_limit_seconds=2).values()
    assert isinstance(answer, Report)
    assert answer.failed == {}
    assert len(list(tmp_path.iterdir())) == 2


def test_work_that_gets_on_is_noted_once_a_second(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = Journal(path)
    first = read_journal(path).beat
    for _ in range(100):
        journal.beat()
    assert read_journal(path).beat == first
    time.sleep(1.1)
    journal.beat()
    assert read_journal(path).beat > first + 1


class Slow(Map):
    """May take ten minutes for a sample."""

    timeout_seconds = 600


def test_the_limit_of_a_batch_does_not_grow_with_it() -> None:
    work = Work(WorkSettings(), Journal(None))
    assert [work.limit_of(Slow(), number) for number in (1, 2, 4, 1024)] == [600, 1200, 2400, 2400]
    group: Stage = JoinPairs()
    assert work.limit_of(group, 10) == 10 * work.limit_of(group), "a group is never divided"
    short = replace(work, settings=WorkSettings(timeout_seconds=0.5))
    assert short.limit_of(Slow(), 1024) == 2
