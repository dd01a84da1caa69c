"""The inside of a worker: stages opened once, and problems as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardprep.core.stage import Process, Stage, Worker
from shardprep.errors import MissingExtra, StoreError, Unavailable
from shardprep.runtime.call import DeviceLost
from shardprep.runtime.held_memory import note_base, read_base
from shardprep.runtime.journal import Call, Journal, read_journal
from shardprep.runtime.worker import OpenStages, StageNotOpened, WorkerProblem, attempt

OPENED: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Load(Stage):
    """Notes that it is opened."""

    weights_name: str = "a"

    def open(self, worker: Worker) -> Process:
        OPENED.append(f"{self.weights_name} on {worker.device}")
        return self.process


@pytest.fixture(autouse=True)
def nothing_opened() -> None:
    OPENED.clear()


def test_stages_are_opened_once_and_let_go_where_others_come() -> None:
    stages = OpenStages()
    first = stages.get([Load(), Load(weights_name="b")], Worker(), Journal(None), {})
    assert stages.get([Load(), Load(weights_name="b")], Worker(), Journal(None), {}) is first
    assert OPENED == ["a on cpu", "b on cpu"]
    stages.get([Load(weights_name="c")], Worker(), Journal(None), {})
    assert OPENED == ["a on cpu", "b on cpu", "c on cpu"]
    assert len(stages.processes) == 1
    stages.get([Load(weights_name="c")], Worker(on_corrupt="keep"), Journal(None), {})
    assert len(OPENED) == 4


def test_while_stages_are_loaded_and_their_weights_compared_no_base_is_noted(tmp_path: Path) -> None:
    """Else a worker that holds a large model by then is ended, for it took more than it held before."""
    path = str(tmp_path / "journal")
    noted: list[int | None] = []

    class Digests(dict[str, str]):
        def items(self) -> Any:
            noted.append(read_base(path))
            return super().items()

    note_base(path, 1)
    stages = OpenStages()
    stages.get([Load()], Worker(), Journal(path), Digests())
    assert noted == [None, None], "before and after loading"
    note_base(path, 1)
    stages.get([Load()], Worker(), Journal(path), Digests())
    assert read_base(path) == 1, "nothing was loaded"


@dataclass(frozen=True, kw_only=True)
class Fail(Stage):
    """Cannot be opened at first."""

    kind: str = "missing"

    def open(self, worker: Worker) -> Process:
        OPENED.append(self.kind)
        if len(OPENED) > 1:
            return self.process
        raise {"missing": MissingExtra("fail", "torch", "models"), "down": Unavailable("hub down"), "key": KeyError("x")}[self.kind]


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("missing", StageNotOpened, 'fail could not be opened: fail needs torch. Install it with: pip install "shardprep[models]"'),
        ("key", StageNotOpened, "fail could not be opened: KeyError: 'x'"),
        ("down", Unavailable, "hub down"),
    ],
)
def test_a_stage_that_cannot_be_opened_is_opened_again_when_asked_again(kind: str, error: type[Exception], words: str) -> None:
    stages = OpenStages()
    with pytest.raises(error) as caught:
        stages.get([Fail(kind=kind)], Worker(), Journal(None), {})
    assert str(caught.value) == words
    assert len(stages.get([Fail(kind=kind)], Worker(), Journal(None), {})) == 1


@dataclass(frozen=True, kw_only=True)
class OpenNothing(Stage):
    """Forgets to return its process."""

    def open(self, worker: Worker) -> Process:
        return None  # type: ignore[return-value]  # what the test is about


def test_open_returns_a_function() -> None:
    with pytest.raises(StageNotOpened, match="open_nothing could not be opened: `open` returned NoneType, expected a function of a batch"):
        OpenStages().get([OpenNothing()], Worker(), Journal(None), {})


def test_an_attempt_answers_or_says_why_not(tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")

    def refuse(task: object) -> None:
        assert read_journal(journal).pid is not None, "whoever watches knows the process from the start"
        raise task if isinstance(task, BaseException) else ValueError(task)

    assert attempt(len, "task", journal) == 4
    expected = {
        Unavailable("down"): ("unavailable", "down", None),
        StoreError("full"): ("store", "full", None),
        DeviceLost("encode", ["a", "b"], "gone"): ("device", "gone", Call("encode", ("a", "b"), 0.0, None)),
        SystemExit(2): ("other", "SystemExit: 2", None),
        ValueError("x"): ("other", "ValueError: x", None),
    }
    for error, (kind, message, call) in expected.items():
        problem = attempt(refuse, error, journal)
        assert isinstance(problem, WorkerProblem)
        assert (problem.kind, problem.message, problem.call) == (kind, message, call)
        assert "in refuse" in problem.traceback
