"""What a stage may do to its process, and what a run makes of it: with real worker processes, through the whole driver."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from shardprep.driver.model import RunSummary, StepSummary
from shardprep.errors import RunFailed, Stopped
from shardprep.testing.videos import Shot, draw, encode
from tests import misbehaving as bad
from tests.fates import Fate, fates, make_files, run_over, scores
from tests.runtime.stages import SplitInTwo

KEYS = [f"v{number}" for number in range(8)]
KEPT = Fate("kept", None, None, None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("crash") / "files")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crash-videos")
    for key in KEYS:
        (folder / f"{key}.mp4").write_bytes(encode(draw([Shot(seconds=0.2)], height=32, width=32)))
    return folder


def pass_of(summary: RunSummary) -> StepSummary:
    step = summary.steps[-1]
    assert step.name == "work"
    assert step.kept + sum(step.dropped.values()) + sum(step.failed.values()) == step.samples_in == len(KEYS), "the counts add up"
    return step


def blamed_alone(output: Path, summary: RunSummary, culprit: str = "v5") -> Fate:
    """Return the culprit's fate, after all others were kept and the counts add up."""
    found = {key.partition("-")[0]: fate for key, fate in fates(output).items()}
    assert sorted(found) == KEYS
    assert {key: fate for key, fate in found.items() if key != culprit} == dict.fromkeys((key for key in KEYS if key != culprit), KEPT)
    assert pass_of(summary).failed == {found[culprit].reason: 1}
    assert found[culprit].fate == "failed"
    return found[culprit]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    ("how", "words"),
    [("abort", "signal SIGABRT"), ("segfault", "signal SIGSEGV"), ("leave", "exit code 0")],
)
def test_a_stage_that_kills_its_process(files: Path, tmp_path: Path, how: str, words: str, batch_size: int) -> None:
    fate = blamed_alone(tmp_path, run_over(files, tmp_path, bad.Misbehave(how={bad.CULPRIT: how}, batch_size=batch_size)))
    assert (fate.stage, fate.reason) == ("misbehave", "worker-died")
    assert fate.detail == f"misbehave: the worker process died ({words}), again, while it had nothing else in work"


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stage_that_loses_its_device(files: Path, tmp_path: Path, batch_size: int) -> None:
    fate = blamed_alone(tmp_path, run_over(files, tmp_path, bad.Misbehave(how={bad.CULPRIT: "lose_the_device"}, batch_size=batch_size)))
    words = "the device was lost (RuntimeError: CUDA error: device-side assert triggered), again, while it had nothing else in work"
    assert fate == Fate("failed", "misbehave", "device-lost", f"misbehave: {words}")


@pytest.mark.parametrize(("how", "batch_size"), [("hang", 1), ("hang", 4), ("hang_with_the_gil", 1)])
def test_a_stage_that_hangs(files: Path, tmp_path: Path, how: str, batch_size: int) -> None:
    fate = blamed_alone(
        tmp_path, run_over(files, tmp_path, bad.Misbehave(how={bad.CULPRIT: how}, batch_size=batch_size, timeout_seconds=0.3))
    )
    assert fate == Fate("failed", "misbehave", "timed-out", "misbehave: gave no answer within 0.3 s")


def test_a_stage_that_takes_long_and_says_that_it_gets_on_is_not_taken_for_one_that_hangs(files: Path, tmp_path: Path) -> None:
    summary = run_over(files, tmp_path, bad.Misbehave(how={bad.CULPRIT: "work_on"}, timeout_seconds=0.5))
    assert (pass_of(summary).kept, pass_of(summary).failed) == (len(KEYS), {})


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_sample_that_takes_more_memory_than_a_worker_may_fails_alone(files: Path, tmp_path: Path, batch_size: int) -> None:
    # 64 MiB, and half a GiB for what libraries take.
    fate = blamed_alone(tmp_path, run_over(files, tmp_path, bad.Misbehave(how={bad.CULPRIT: "eat"}, batch_size=batch_size)))
    words = "the worker process took more than the 64 MiB that it may (`memory`), so that it was ended"
    assert fate == Fate("failed", "misbehave", "out-of-memory", f"misbehave: {words}, again, while it had nothing else in work")


def test_the_recipes_time_limit_stands_above_the_stages(files: Path, tmp_path: Path) -> None:
    fate = blamed_alone(tmp_path, run_over(files, tmp_path, bad.Misbehave(how={bad.CULPRIT: "hang"}), timeout_seconds=0.25))
    assert fate.detail == "misbehave: gave no answer within 0.25 s"


PROMISES = {
    "complain": ("error", "RuntimeError: the flow does not converge"),
    "leave_politely": ("error", "SystemExit: 3"),
    "panic": ("error", "RustPanic: called `Option::unwrap()` on a `None` value"),
    "cancel": ("error", "CancelledError"),
    "exit_a_generator": ("error", "GeneratorExit"),
    "fail_without_words": ("error", "Wordless"),
    "run_out_of_memory": ("out-of-memory", "MemoryError: cannot hold the latents"),
    "too_few": ("wrong-outcomes", "misbehave returned 0 outcomes for 1 sample; a stage returns exactly one each"),
    "too_many": ("wrong-outcomes", "misbehave returned 2 outcomes for 1 sample; a stage returns exactly one each"),
    "nothing": ("wrong-outcomes", "misbehave returned NoneType; a stage returns a list with one outcome per sample"),
    "samples": ("wrong-outcomes", "misbehave returned Sample for {}; a stage returns Kept, Dropped, Failed, Split or Joined"),
    "other_key": ("wrong-outcomes", "misbehave returned the sample other in the place of {}; outcomes come in the order of the batch"),
    "undeclared": ("wrong-outcomes", "misbehave returned {} with scores.more written, which it does not declare in `writes`"),
}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stage_that_breaks_its_promises(tmp_path: Path, batch_size: int) -> None:
    files = make_files(tmp_path / "files", 16)
    misdeeds = {f"v{number + 2}.mp4": how for number, how in enumerate(PROMISES)}
    summary = run_over(files, tmp_path / "out", bad.Misbehave(how=misdeeds, batch_size=batch_size), bad.DropOne(), samples_per_shard=16)
    found = fates(tmp_path / "out")
    for name, how in misdeeds.items():
        key = next(key for key in found if key.startswith(f"{Path(name).stem}-"))
        reason, words = PROMISES[how]
        assert found.pop(key) == Fate("failed", "misbehave", reason, words.format(key))
    assert found.pop(next(key for key in found if key.startswith("v1-"))) == Fate("dropped", "drop_one", "unwanted", None)
    assert set(found.values()) == {KEPT}
    step = summary.steps[-1]
    assert (step.samples_in, step.kept, step.dropped, step.failed) == (
        16,
        2,
        {"unwanted": 1},
        {"error": 6, "out-of-memory": 1, "wrong-outcomes": 6},
    )


@pytest.mark.parametrize("where", ["a call", "open", "the thread that decodes"])
def test_ctrl_c_inside_a_stage_is_a_stop(videos: Path, tmp_path: Path, where: str) -> None:
    stages = {
        "a call": bad.Misbehave(how={bad.CULPRIT: "interrupt"}),
        "open": bad.FailToOpen(how="interrupt"),
        "the thread that decodes": bad.MisbehaveWatching(how="interrupt"),
    }
    with pytest.raises(Stopped, match=r"^Stopped: work was interrupted \(KeyboardInterrupt\) while it made shard 000000") as caught:
        run_over(videos, tmp_path / "out", stages[where])
    assert not caught.value.finished
    assert fates(tmp_path / "out") == {}, "no sample is blamed"


def test_a_batch_that_runs_out_of_memory_is_halved(files: Path, tmp_path: Path) -> None:
    step = pass_of(run_over(files, tmp_path, bad.NeedMemory(spare=True)))
    assert (step.kept, step.failed) == (8, {})
    assert set(scores(tmp_path).values()) == {2.0}, "in batches of two"


def test_the_one_sample_that_never_fits_is_isolated(files: Path, tmp_path: Path) -> None:
    fate = blamed_alone(tmp_path, run_over(files, tmp_path, bad.NeedMemory()))
    assert fate == Fate("failed", "need_memory", "out-of-memory", "MemoryError: cannot hold 1 samples")


@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        ("abort", "worker-died", "decode for misbehave_watching: the worker process died (signal SIGABRT), again"),
        ("hang", "timed-out", "decode for misbehave_watching: gave no answer within 1 s"),
        ("complain", "error", "RuntimeError: the flow does not converge"),
        ("panic", "error", "RustPanic: called `Option::unwrap()` on a `None` value"),
        ("cancel", "error", "CancelledError"),
        ("exit_a_generator", "error", "GeneratorExit"),
    ],
)
def test_a_watcher_in_the_thread_that_decodes(videos: Path, tmp_path: Path, how: str, reason: str, words: str) -> None:
    fate = blamed_alone(tmp_path, run_over(videos, tmp_path, bad.MisbehaveWatching(how=how, timeout_seconds=1)))
    assert fate.reason == reason
    assert (fate.detail or "").startswith(words)
    assert set(scores(tmp_path, "frames").values()) == {5}


def test_a_child_that_kills_its_process(files: Path, tmp_path: Path) -> None:
    summary = run_over(files, tmp_path, SplitInTwo(), bad.AbortOnChild(key_end="-00001"))
    step = summary.steps[-1]
    assert (step.kept, step.failed, step.children_failed, step.samples_out) == (8, {}, {"worker-died": 1}, 15)
    assert len(fates(tmp_path)) == 8
    assert [key for key, fate in fates(tmp_path, role="output").items() if fate.reason == "worker-died" and key.startswith("v5")]


def test_a_tar_that_is_removed_under_a_run_is_no_samples_fault(files: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RunFailed, match=r"raw/000000-.*\.tar was removed while shard 000000 of work was made from it; run the recipe again"
    ):
        run_over(files, tmp_path, bad.Linger(folder=str(tmp_path), seconds=0.1), bad.RemoveTars(folder=str(tmp_path / "raw")))
    assert not list((tmp_path / "work").glob("*.parquet"))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("complain", "work: fail_to_open could not be opened: RuntimeError: the flow does not converge"),
        ("leave_politely", "work: fail_to_open could not be opened: SystemExit: 3"),
        ("abort", "opening fail_to_open: the worker process died (signal SIGABRT), 3 times"),
    ],
)
def test_a_stage_that_cannot_be_opened_ends_the_run(files: Path, tmp_path: Path, how: str, words: str) -> None:
    with pytest.raises(RunFailed) as caught:
        run_over(files, tmp_path, bad.FailToOpen(how=how), samples_per_shard=2)
    assert str(caught.value) == words
    assert not list((tmp_path / "work").glob("*.parquet")), "no sample is blamed"


def test_a_server_that_is_down_for_a_while_costs_no_sample(files: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    started = time.monotonic()
    step = pass_of(run_over(files, tmp_path / "out", bad.AskServer(log=str(log), down=2)))
    assert (step.kept, step.failed) == (8, {})
    assert len(log.read_text()) == 2 + 8
    assert time.monotonic() - started > 2 + 4, "it waits before it asks again, longer each time"


def test_a_worker_killed_from_outside_costs_one_attempt(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()

    def kill_once() -> None:
        while not (notes := sorted(folder.iterdir())) or not (pid := notes[-1].read_text()):
            time.sleep(0.01)
        os.kill(int(pid), signal.SIGKILL)

    killer = threading.Thread(target=kill_once)
    killer.start()
    step = pass_of(run_over(files, tmp_path / "out", bad.Linger(folder=str(folder), seconds=0.1, batch_size=4)))
    killer.join()
    assert (step.kept, step.failed) == (8, {})
    assert set(scores(tmp_path / "out").values()) == {4.0}, "in the same batches as without the accident"
    pids = {note.read_text() for note in folder.iterdir()}
    assert len(pids) == 2, "one worker was killed, one made the shard"
