"""Calling a stage on a batch: one outcome per sample, whatever it does."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from shardprep.core.outcome import Failed, Joined, Kept, Outcome, Split
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage
from shardprep.errors import ShardError, StoreError, Unavailable
from shardprep.runtime.call import call_stage, failure_of
from shardprep.runtime.item import Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.task import WorkSettings

BATCH = [Sample(key) for key in "abcdefgh"]


@dataclass(frozen=True, kw_only=True)
class Do(Stage):
    """Does what it is told, and remembers its batches."""

    does: Callable[[Sequence[Sample]], Any]
    splits: bool = False
    group_by: str | None = None
    seen: list[str] = field(default_factory=list)

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        self.seen.append("".join(sample.key for sample in batch))
        return self.does(batch)


def keep(batch: Sequence[Sample]) -> list[Outcome]:
    return [Kept(sample) for sample in batch]


def call(stage: Do, alone: str = "") -> list[Outcome]:
    work = Work(WorkSettings(), Journal(None), frozenset(alone))
    return call_stage(stage, stage.process, BATCH, work)


def reasons(outcomes: Sequence[Outcome]) -> str:
    return "".join("." if isinstance(outcome, Kept) else outcome.reason[0] for outcome in outcomes if isinstance(outcome, Kept | Failed))


def test_a_batch_that_works_is_called_once() -> None:
    stage = Do(does=keep)
    assert call(stage) == keep(BATCH)
    assert stage.seen == ["abcdefgh"]


def test_a_generator_of_outcomes_is_as_good_as_a_list() -> None:
    assert call(Do(does=lambda batch: (Kept(sample) for sample in batch))) == keep(BATCH)


def test_memory_is_halved_until_it_fits_and_the_rest_fails() -> None:
    def fit(batch: Sequence[Sample]) -> list[Outcome]:
        if len(batch) > 2 or batch[0].key == "e":
            raise MemoryError
        return keep(batch)

    stage = Do(does=fit)
    work = Work(WorkSettings(), Journal(None))
    assert reasons(call_stage(stage, stage.process, BATCH, work)) == "....o..."
    assert stage.seen == ["abcdefgh", "abcd", "ab", "cd", "efgh", "ef", "e", "f", "gh"]
    assert work.halved == 4


def test_what_the_failed_batch_held_is_free_before_the_halves_are_tried() -> None:
    alive: list[int] = []

    class Tensor:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def allocate(batch: Sequence[Sample]) -> list[Outcome]:
        tensors = [Tensor() for _ in batch]
        if len(alive) > 4:
            raise MemoryError(f"{len(tensors)} tensors")
        return keep(batch)

    assert call(Do(does=allocate)) == keep(BATCH)


def test_an_error_is_worked_on_one_by_one() -> None:
    def refuse(batch: Sequence[Sample]) -> list[Outcome]:
        if any(sample.key in "cf" for sample in batch):
            raise RuntimeError("no")
        return keep(batch)

    stage = Do(does=refuse)
    assert reasons(call(stage)) == "..e..e.."
    assert stage.seen == ["abcdefgh", *"abcdefgh"]


def test_suspects_are_worked_on_one_by_one_from_the_start() -> None:
    stage = Do(does=keep)
    assert call(stage, alone="d") == keep(BATCH)
    assert stage.seen == [*"abcdefgh"]


def test_a_group_is_never_divided() -> None:
    def refuse(batch: Sequence[Sample]) -> list[Outcome]:
        raise MemoryError

    stage = Do(does=refuse, group_by="meta.pair")
    assert reasons(call(stage, alone="d")) == "oooooooo"
    assert stage.seen == ["abcdefgh"]


def test_a_group_returns_one_sample_of_a_new_key() -> None:
    def join(batch: Sequence[Sample]) -> list[Outcome]:
        return [Kept(replace(batch[0], key="joined")), *(Joined("joined") for _ in batch[1:])]

    assert call(Do(does=join, group_by="meta.pair"))[1:] == [Joined("joined")] * 7


@pytest.mark.parametrize("error", [Unavailable("down"), ShardError("cut short"), StoreError("no permission")])
def test_the_surroundings_faults_are_nobodys(error: Exception) -> None:
    def fail(batch: Sequence[Sample]) -> list[Outcome]:
        raise error

    stage = Do(does=fail)
    with pytest.raises(type(error), match=str(error)):
        call(stage)
    assert len(stage.seen) == 1


def test_a_full_disk_is_nobodys_fault() -> None:
    def fail(batch: Sequence[Sample]) -> list[Outcome]:
        raise OSError(errno.ENOSPC, "No space left on device")

    said = "No space left on device. Free some space in the folder for temporary files, or choose another"
    with pytest.raises(StoreError, match=said) as caught:
        call(Do(does=fail))
    assert str(caught.value).endswith(f"(`tmp`); it is {tempfile.gettempdir()}")


def test_ctrl_c_in_a_notebook_is_no_failure() -> None:
    def interrupt(batch: Sequence[Sample]) -> list[Outcome]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(Do(does=interrupt))


@pytest.mark.parametrize(
    ("children", "words"),
    [
        (
            (("a-0", Kept(Sample("a-0"))), ("a-0", Kept(Sample("a-0")))),
            "do returned the child 'a-0' of {}; children have keys of their own",
        ),
        (
            (("A.b", Kept(Sample("A.b"))),),
            "do returned the child 'A.b' of {}; children have keys of their own of a-z 0-9 _ -, see `child_key`",
        ),
        ((("a-0", Kept(Sample("a-1"))),), "do returned the sample a-1 as the child a-0"),
        ((("a-0", Sample("a-0")),), "do returned Sample for the child a-0; a child is Kept, Dropped or Failed"),
    ],
)
def test_children_are_checked(children: Any, words: str) -> None:
    for sample, outcome in zip(BATCH, call(Do(does=lambda batch: [Split(children) for _ in batch], splits=True)), strict=True):
        assert isinstance(outcome, Failed)
        assert outcome.reason == "wrong-outcomes"
        assert outcome.detail.startswith(words.format(sample.key))


def test_a_split_is_declared() -> None:
    outcome = call(Do(does=lambda batch: [Split(()) for _ in batch]))[0]
    assert outcome == Failed("wrong-outcomes", "do returned Split for a but does not declare `splits`")


class Strange(Exception):
    """Has a reason that is none, as UnicodeDecodeError and URLError do."""

    reason = "invalid start byte"


class Telling(Exception):
    reason = "too-dark"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (Strange("at 3"), Failed("error", "Strange: at 3")),
        (Telling("at 3"), Failed("too-dark", "Telling: at 3")),
        (ValueError(), Failed("error", "ValueError")),
        (FileNotFoundError(2, "gone", "caf\udce9.mp4"), Failed("error", "FileNotFoundError: [Errno 2] gone: 'caf\\udce9.mp4'")),
        (
            RuntimeError("CUDA out of memory. Tried to allocate"),
            Failed("out-of-memory", "RuntimeError: CUDA out of memory. Tried to allocate"),
        ),
    ],
)
def test_an_exception_in_words(error: Exception, failure: Failed) -> None:
    assert failure_of(error) == failure


def test_words_have_an_end() -> None:
    assert len(failure_of(ValueError("x" * 1_000_000)).detail) < 3000


def test_a_stage_that_changes_its_batch_fails_its_samples_and_not_the_run() -> None:
    def pop(batch: Any) -> list[Outcome]:
        batch.pop()
        return keep(batch)

    outcomes = call(Do(does=pop))
    assert len(outcomes) == len(BATCH)
    assert all(isinstance(one, Failed) and "'tuple' object has no attribute 'pop'" in one.detail for one in outcomes)
    batches: list[Any] = []
    call(Do(does=lambda batch: batches.append(batch) or keep(batch)))
    assert batches == [tuple(BATCH)]
