"""What a job learns from a worker that hangs: of the calls in progress only the one that hung is to blame."""

from __future__ import annotations

from pathlib import Path

from shardprep.executors.job import Job
from shardprep.runtime.journal import Journal
from tests.executors.errands import Errand


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
