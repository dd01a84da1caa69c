"""A worker that is stopped while it reads or writes a store, and a store that never answers a commit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprep.executors.job import ShardFailure
from shardprep.executors.local import LocalExecutor
from shardprep.gather.outline import outline_shard
from shardprep.gather.pack import pack_shard
from shardprep.gather.settings import Pack
from shardprep.runtime.journal import read_journal
from shardprep.runtime.worker import work_on
from shardprep.shards.names import LEDGERS
from tests.built_sets import Made, write_base
from tests.executors.test_local import gone_within
from tests.executors.test_quiet import raw_task
from tests.gather.packings import packing_of
from tests.s3_server import Held, S3Server, serving


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with serving() as server:
        yield server


def task_of(phase: str, folder: Path, s3: S3Server) -> tuple[Any, Callable[[Any], Any]]:
    """Return the one task of a phase, which writes to the server, and what makes it."""
    url = f"s3://bucket/{folder.name}"
    if phase == "raw":
        (folder / "good.mp4").write_bytes(bytes(10))
        return replace(raw_task(folder, "0", folder / "good.mp4"), out_url=url, storage_options=s3.options), work_on
    made = [Made(f"k{number}", {"clip": {"index": number}}, {"mp4": b"video %d" % number}) for number in range(4)]
    packing = packing_of(folder, [write_base(folder / "clips", {"000000": made})], Pack())
    [outline] = (replace(task, rows_url=f"{url}/{LEDGERS}", storage_options=s3.options) for task in packing.outline_tasks())
    if phase == "outline":
        return outline, outline_shard
    [task] = packing.start([outline_shard(outline)])
    return replace(task, out_url=url, storage_options=s3.options), pack_shard


def worker_of(tmp: Path) -> int:
    """Return the process that works on the only task."""
    [journal] = tmp.rglob("*.journal")
    pid = read_journal(str(journal)).pid
    assert pid is not None
    return pid


@pytest.mark.parametrize("phase", ["raw", *(pytest.param(phase, marks=pytest.mark.prove) for phase in ("outline", "pack"))])
def test_a_worker_that_is_stopped_inside_is_ended_and_its_shard_made_by_another(phase: str, tmp_path: Path, s3: S3Server) -> None:
    task, function = task_of(phase, tmp_path, s3)
    stopped: list[int] = []

    def stop_it(held: Held) -> None:
        held.reached.wait(60)
        stopped.append(worker_of(tmp_path / "tmp"))
        os.kill(stopped[0], signal.SIGSTOP)
        held.answer()

    with s3.holding(lambda request: request.method == "PUT") as held:
        thread = threading.Thread(target=stop_it, args=[held])
        thread.start()
        with LocalExecutor(1, tmp=make(tmp_path / "tmp"), quiet_limit_seconds=10) as executor:
            [answer] = executor.run([task], function)
        thread.join()
    assert not isinstance(answer, ShardFailure), answer.error
    assert answer.shard == task.shard
    assert gone_within(1, stopped[0])
    assert any(name.startswith(tmp_path.name) for name in s3.names())


@pytest.mark.parametrize("phase", ["raw", pytest.param("pack", marks=pytest.mark.prove)])
def test_a_store_that_does_not_answer_a_commit_gives_the_shard_up(phase: str, tmp_path: Path, s3: S3Server) -> None:
    task, function = task_of(phase, tmp_path, s3)
    before = s3.names(tmp_path.name)
    started = time.monotonic()
    with (
        s3.holding(lambda request: request.method == "PUT") as held,
        LocalExecutor(1, tmp=make(tmp_path / "tmp"), quiet_limit_seconds=5) as executor,
    ):
        [answer] = executor.run([task], function)
    assert held.reached.is_set()
    assert time.monotonic() - started < 150
    assert isinstance(answer, ShardFailure)
    assert "read or wrote nothing for too long, so that it was ended; see whether its disk or store answers, 3 times" in str(answer.error)
    assert s3.names(tmp_path.name) == before, "nothing is committed"


def make(folder: Path) -> str:
    folder.mkdir()
    return str(folder)
