"""Which worker gets which GPU."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from shardprep.core.stage import Resources, Stage
from shardprep.executors.gpus import visible_gpus
from shardprep.executors.local import LocalExecutor, default_workers
from shardprep.runtime.task import ShardTask
from shardprep.runtime.worker import wants_gpu
from tests.executors.errands import Errand, Report, run_errand


@pytest.mark.parametrize(
    ("told", "names"),
    [("0", ("0",)), ("2,3", ("2", "3")), ("", ()), ("-1", ()), ("0,-1,1", ("0",)), ("GPU-5ab, MIG-7", ("GPU-5ab", "MIG-7"))],
)
def test_what_the_environment_says_counts(monkeypatch: pytest.MonkeyPatch, told: str, names: tuple[str, ...]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert visible_gpus() == names


def test_else_the_devices_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == tuple(str(n) for n in range(64) if Path(f"/dev/nvidia{n}").exists())


def test_there_are_no_fewer_workers_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(str(n) for n in range(100)))
    assert default_workers(1) >= 100
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert default_workers(10_000) == 1


class OnGpu(Stage):
    resources = Resources(gpus=1)


class OnTorch(Stage):
    needs = (("torch", "models"),)


@pytest.mark.parametrize(("kind", "wants"), [(OnGpu, True), (OnTorch, True), (Stage, False)])
def test_which_stages_want_one(kind: type[Stage], wants: bool) -> None:
    assert wants_gpu([Stage(), kind()]) is wants


def test_models_run_only_on_workers_with_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    tasks = [task_of(str(number), OnGpu(), tmp_path) for number in range(6)]
    with LocalExecutor(3) as executor:
        gpus = list(executor.run(tasks, tell_gpu))
    assert set(gpus) == {"4", "7"}


def tell_gpu(task: ShardTask) -> str:
    time.sleep(0.2)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def task_of(shard: str, stage: Stage, folder: Path) -> ShardTask:
    return ShardTask(
        step="s",
        shard=shard,
        out_url=str(folder),
        fingerprint="f",
        step_fingerprint="f",
        stages=(stage,),
        is_base=False,
        adds={},
        reads=(),
    )


def test_every_worker_has_its_own_gpu_and_the_rest_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with LocalExecutor(3) as executor:
        answers = list(executor.run([Errand(shard=str(n), how="linger") for n in range(3)], run_errand))
    assert sorted(answer.gpu for answer in answers if isinstance(answer, Report)) == ["", "4", "7"]
