"""The local executor on tasks that are no shards: what it learns from dead and hanging workers, and when it gives up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from shardprep.core.outcome import Failed
from shardprep.errors import RecipeError, RunFailed, ShardError, StoreError
from shardprep.executors.job import ShardFailure
from shardprep.executors.local import LocalExecutor
from shardprep.runtime.worker import OPENING
from tests.executors.errands import Errand, Report, run_errand


def run_all(errands: Iterable[Errand], workers: int = 2, **settings: float) -> dict[str, Report | ShardFailure]:
    """Return the answers by shard; back-offs are short."""
    with LocalExecutor(workers, **{"back_off_seconds": 0.01, **settings}) as executor:
        return {answer.shard: answer for answer in executor.run(errands, run_errand)}


def test_every_task_is_answered_and_workers_are_used_again() -> None:
    answers = run_all([Errand(shard=f"{number:06d}") for number in range(20)])
    assert sorted(answers) == [f"{number:06d}" for number in range(20)]
    pids = {answer.pid for answer in answers.values() if isinstance(answer, Report)}
    assert 1 <= len(pids) <= 2


def test_whatever_a_worker_makes_its_memory_is_limited() -> None:
    # No sample is in work, as in outline, select and pack: the shard is given up, and the others go on.
    answers = run_all([Errand(shard="0", how="eat"), Errand(shard="1")], memory_bytes=1 << 20)
    failure = answers["0"]
    assert isinstance(failure, ShardFailure)
    assert str(failure.error) == (
        "shard 0 of errand: the worker process took more than the 1 MiB that it may (`memory`), so that it was ended 3 times, "
        "and no sample can be blamed; give it more `memory`, or make its shards smaller"
    )
    assert isinstance(answers["1"], Report)


def test_several_samples_of_several_shards_that_kill_are_all_found() -> None:
    answers = run_all([Errand(shard="0", how="abort", at=("a", "c")), Errand(shard="1"), Errand(shard="2", how="segfault", at=("b",))])
    failed = {shard: answer.failed for shard, answer in answers.items() if isinstance(answer, Report)}
    assert {shard: {key: verdict.reason for key, verdict in verdicts.items()} for shard, verdicts in failed.items()} == {
        "0": {"a": "worker-died", "c": "worker-died"},
        "1": {},
        "2": {"b": "worker-died"},
    }


def test_all_of_a_group_fail_where_their_call_kills() -> None:
    # A stage that joins a group has all of it in one call, so it cannot be divided.
    [answer] = run_all([Errand(shard="0", how="abort", at=("g+h",), keys=("a", "g+h", "b"))]).values()
    assert isinstance(answer, Report)
    assert set(answer.failed) == {"g", "h"}


@pytest.mark.parametrize("how", ["abort", "leave"])
def test_a_death_outside_any_call_gives_the_shard_up_after_three(how: str, tmp_path: Path) -> None:
    answers = run_all([Errand(shard="0", how=how, folder=str(tmp_path)), Errand(shard="1")])
    failure = answers["0"]
    assert isinstance(failure, ShardFailure)
    words = "signal SIGABRT" if how == "abort" else "exit code 0"
    assert str(failure.error) == f"shard 0 of errand: the worker process died ({words}) 3 times, and no sample can be blamed"
    assert len(list(tmp_path.iterdir())) == 3
    assert isinstance(answers["1"], Report), "the others are made"


def test_a_hanging_open_ends_the_run() -> None:
    started = time.monotonic()
    with pytest.raises(RunFailed, match="^opening score_x: gave no answer for . s; see what it loads, and from where$"):
        run_all([Errand(shard="0", how="hang", at=(OPENING,))], open_limit_seconds=0.5)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [("store", StoreError, "no space left"), ("stage", RunFailed, "errand: score_x could not be opened")],
)
def test_what_no_other_shard_would_survive_ends_the_run(how: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        run_all([Errand(shard="0", how=how), *(Errand(shard=str(number)) for number in range(1, 4))])
    assert str(caught.value) == words
    assert "in run_errand" in str(caught.value.__cause__), "the worker's traceback comes along"


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("damaged", ShardError, "the tar is cut short"),
        ("missing", RunFailed, 'shard 0 of errand: score_x needs torch. Install it with: pip install "shardprep[models]"'),
        ("recipe", RunFailed, "shard 0 of errand: a setting is wrong"),
        ("unspeakable", RunFailed, "shard 0 of errand: Unspeakable: 1 and 2"),
        ("leave_politely", RunFailed, "shard 0 of errand: SystemExit: 3"),
    ],
)
def test_other_errors_cost_their_shard_whether_or_not_they_pickle(how: str, kind: type[Exception], words: str) -> None:
    answers = run_all([Errand(shard="0", how=how), Errand(shard="1")], workers=1)
    failure = answers["0"]
    assert isinstance(failure, ShardFailure)
    assert type(failure.error) is kind
    assert str(failure.error) == words
    assert isinstance(answers["1"], Report)


def test_unavailable_for_ever_gives_up_the_shard_after_five_attempts_in_new_processes(tmp_path: Path) -> None:
    answers = run_all([Errand(shard="0", how="unavailable", folder=str(tmp_path)), Errand(shard="1")])
    failure = answers["0"]
    assert isinstance(failure, ShardFailure)
    assert str(failure.error) == "shard 0 of errand was tried 5 times: the server is down"
    assert len({note.read_text() for note in tmp_path.iterdir()}) == 5
    assert isinstance(answers["1"], Report)


def test_a_run_in_which_the_surroundings_fail_again_and_again_ends(tmp_path: Path) -> None:
    errands = [Errand(shard=str(number), how="unavailable", folder=str(tmp_path)) for number in range(50)]
    with pytest.raises(RunFailed, match="was tried 5 times: the server is down"):
        run_all(errands)
    assert len({note.name.partition("-")[0] for note in tmp_path.iterdir()}) < 10, "most shards were not even begun"


def test_a_task_that_does_not_pickle_is_refused_before_anything_runs() -> None:
    with pytest.raises(RecipeError, match="errand: its stages cannot be sent to a worker .* Define them at the top of a module or script"):
        run_all([Errand(shard="0", extra=lambda: None)])


def test_a_class_that_no_worker_can_import_is_worked_on_here() -> None:
    program = """
        import os
        from dataclasses import dataclass
        from shardprep.executors.local import LocalExecutor
        from tests.executors.errands import Errand, run_errand
        @dataclass(frozen=True)
        class Here: pass
        with LocalExecutor(2, back_off_seconds=0.01) as executor:
            errands = [Errand(shard="0", extra=Here()), Errand(shard="1", extra=Here(), how="unavailable")]
            [report, failure] = executor.run(errands, run_errand)
        print(report.pid == os.getpid(), failure)
    """
    # There is no file that a worker could import as the main module.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("True ShardFailure(shard='1', error=RunFailed('shard 1 of errand: the server is down'))"), done.stdout
    assert done.stderr == ""


def test_a_worker_that_is_killed_while_it_waits_is_replaced() -> None:
    with LocalExecutor(1) as executor:
        [first] = executor.run([Errand(shard="0")], run_errand)
        assert isinstance(first, Report)
        os.kill(first.pid, signal.SIGKILL)
        time.sleep(0.5)
        [second] = executor.run([Errand(shard="1")], run_errand)
        assert isinstance(second, Report)
        os.kill(second.pid, signal.SIGKILL)
        # At once: its pool does not know yet.
        [third] = executor.run([Errand(shard="2")], run_errand)
    assert isinstance(third, Report)
    assert len({first.pid, second.pid, third.pid}) == 3


def test_temporary_files_of_workers_lie_in_the_scratch_folder_and_go_with_it(tmp_path: Path) -> None:
    with LocalExecutor(1, tmp=str(tmp_path)) as executor:
        [report] = executor.run([Errand(shard="0")], run_errand)
        [scratch] = tmp_path.iterdir()
        assert isinstance(report, Report)
        assert report.tmp == str(scratch)
        assert not list(scratch.glob("*.journal")), "the journal goes with its shard"
    assert not list(tmp_path.iterdir())


def test_a_verdict_names_stage_words_and_limit() -> None:
    [answer] = run_all([Errand(shard="0", how="hang", at=("b",))]).values()
    assert isinstance(answer, Report)
    assert answer.failed == {"b": Failed("timed-out", "score_x: gave no answer within 0.5 s")}


ORPHAN = """
    import sys
    from shardprep.executors.local import LocalExecutor
    from tests.executors.errands import Errand, run_errand
    if __name__ == "__main__":
        with LocalExecutor(1, tmp=sys.argv[1]) as executor:
            list(executor.run([Errand(shard="0", how="hang_with_the_gil", folder=sys.argv[2])], run_errand))
"""


def test_a_killed_run_takes_its_workers_along_and_the_next_removes_its_scratch(tmp_path: Path) -> None:
    tmp, notes = tmp_path / "tmp", tmp_path / "notes"
    notes.mkdir()
    script = tmp_path / "orphan.py"
    script.write_text(textwrap.dedent(ORPHAN))
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, str(script), str(tmp), str(notes)]
    # What multiprocessing's own tracker says of the killed process is no part of the test's output.
    with subprocess.Popen(command, env={"PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL) as process:
        pid = first_note(notes)
        process.kill()
    assert gone_within(5, int(pid)), "though Python runs no thread in it"
    assert [path.name[:10] for path in tmp.iterdir()] == ["shardprep-"], "nobody was there to remove it"
    with LocalExecutor(1, tmp=str(tmp)):
        assert len(list(tmp.iterdir())) == 1, "its own"
    assert not list(tmp.iterdir())


def first_note(folder: Path) -> str:
    """Wait for the first note and return it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.iterdir():
            if text := path.read_text():
                return text
        time.sleep(0.02)
    raise AssertionError(f"nothing was noted in {folder}")


def gone_within(seconds: float, pid: int) -> bool:
    """Whether a process that is no child of ours ends in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status")
        try:
            if "\nState:\tZ" in status.read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False
