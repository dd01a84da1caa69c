"""What a job learns from a worker that dies or hangs: who is suspected, who is to blame, and when the shard is given up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from shardprep.core.outcome import Failed
from shardprep.executors.job import Job, ShardFailure
from shardprep.runtime.journal import Journal
from tests.executors.errands import Errand


@pytest.fixture
def job(tmp_path: Path) -> Job[Errand]:
    return Job(Errand(shard="0"), str(tmp_path / "journal"))


def dies(job: Job[Errand], *calls: Sequence[str], exit_code: int | None = -11) -> ShardFailure | None:
    """One attempt that ends while the worker is at these calls."""
    journal = Journal(job.journal)
    entered = [journal.call("score_x", keys, 600) for keys in calls]
    for call in entered:
        call.__enter__()
    failure = job.died(exit_code)
    for call in reversed(entered):
        call.__exit__(None, None, None)
    journal.close()
    return failure


def words_of(failure: ShardFailure | None) -> str:
    assert failure is not None
    assert failure.shard == "0"
    return str(failure.error)


def test_bystanders_of_a_hang_are_no_suspects(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    job = Job(Errand(shard="0"), path)
    journal = Journal(path)
    with journal.call("score_x", ["hangs", "with"], 0.0), journal.call("decode", ["innocent"], 600), journal.call("write", ["too"], 600):
        assert job.is_lost(3600, 300)
    assert job.hung is not None
    assert job.hung.keys == ("hangs", "with")
    assert job.died(-9) is None
    assert dict(job.suspected) == {"hangs": 1, "with": 1}
    assert job.task.alone == {"hangs", "with"}, "the batches of the others stay whole"


def test_all_calls_are_suspect_where_the_worker_died(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    job = Job(Errand(shard="0"), path)
    journal = Journal(path)
    with journal.call("score_x", ["a", "b"], 600), journal.call("decode", ["c"], 600):
        assert not job.is_lost(3600, 300)
        assert job.died(-11) is None
    assert dict(job.suspected) == {"a": 1, "b": 1, "c": 1}
    assert job.task.alone == frozenset(), "first the shard is tried again as it was"


def test_a_sample_that_dies_again_by_itself_is_to_blame_and_no_other(job: Job[Errand]) -> None:
    assert dies(job, ["a"], ["b", "c"]) is None
    assert job.task.verdicts == {}
    assert dies(job, ["a"], exit_code=-11) is None
    words = "score_x: the worker process died (signal SIGSEGV), again, while it had nothing else in work"
    assert job.task.verdicts == {"a": Failed("worker-died", words)}
    assert dies(job, ["b", "c"]) is None
    assert (job.task.verdicts.keys(), job.task.alone) == ({"a"}, {"b", "c"}), "the batch that died twice is divided"


def test_any_number_of_samples_may_be_to_blame(job: Job[Errand]) -> None:
    """A death that taught something is none of the three after which a shard is given up."""
    for key in "abcde":
        assert [dies(job, [key]), dies(job, [key])] == [None, None]
    assert job.task.verdicts.keys() == set("abcde")
    assert job.deaths == 0


def test_a_batch_of_samples_that_stay_together_is_to_blame_as_a_whole(job: Job[Errand]) -> None:
    """A group is never divided; once each of its samples was to be alone and it died again, all fail."""
    for _ in range(3):
        assert dies(job, ["a", "b"]) is None
    assert job.task.verdicts.keys() == {"a", "b"}
    assert {failed.reason for failed in job.task.verdicts.values()} == {"worker-died"}


def test_a_sample_that_hangs_again_has_timed_out(job: Job[Errand]) -> None:
    journal = Journal(job.journal)
    for _ in range(2):
        with journal.call("score_x", ["a"], 0.0):
            time.sleep(0.01)
            assert job.is_lost(3600, 300)
            assert job.died(-9) is None
    assert job.task.verdicts == {"a": Failed("timed-out", "score_x: gave no answer within 0 s")}


def test_who_dies_among_ever_other_company_is_suspected_no_longer_than_four_times(job: Job[Errand]) -> None:
    """Something outside ends the workers; to try on and on would be to hang."""
    found = [dies(job, ["a"], [f"with {number}"]) for number in range(5)]
    assert found == [None] * 5
    assert job.deaths == 1, "the fifth taught nothing"
    assert job.task.verdicts == {}


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (-9, "signal SIGKILL, perhaps for want of memory"),
        (-6, "signal SIGABRT"),
        (-63, "signal 63"),
        (None, "of what is unknown"),
    ],
)
def test_a_shard_is_given_up_after_three_deaths_outside_of_calls(job: Job[Errand], exit_code: int | None, words: str) -> None:
    assert [dies(job, exit_code=exit_code) for _ in range(2)] == [None, None]
    told = words_of(dies(job, exit_code=exit_code))
    assert told.endswith(f"the worker process died ({words}) 3 times, and no sample can be blamed")


def test_a_shard_that_takes_too_much_is_told_what_to_give(job: Job[Errand]) -> None:
    job.is_too_large, job.allowed_bytes = True, 512 << 20
    dies(job), dies(job)
    told = words_of(dies(job))
    assert "took more than the 512 MiB that it may (`memory`), so that it was ended 3 times" in told
    assert told.endswith("; give it more `memory`, or make its shards smaller")


def test_looking_whether_a_worker_is_there_does_nothing_to_it(job: Job[Errand]) -> None:
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        text = json.dumps({"pid": process.pid, "beat": time.monotonic(), "calls": []})
        Path(job.journal).write_text(f"{zlib.crc32(text.encode()):08x} {text}\n")
        assert not job.is_lost(3600, 300)
        process.communicate(b"\n")
    assert process.returncode == 0
    assert not job.is_lost(3600, 300), "a worker that has just gone may have answered"
    assert job.gone_since is not None
    job.gone_since -= 2
    assert job.is_lost(3600, 300)


def test_a_worker_that_is_quiet_for_too_long_is_lost(job: Job[Errand]) -> None:
    for ago, is_lost in ((10, False), (301, True)):
        text = json.dumps({"pid": os.getpid(), "beat": time.monotonic() - ago, "calls": []})
        Path(job.journal).write_text(f"{zlib.crc32(text.encode()):08x} {text}\n")
        assert job.is_lost(3600, 300) is job.is_quiet is is_lost
