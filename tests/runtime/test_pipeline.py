"""The way through a pass: order, batches, verdicts, frames in memory, and threads that end."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.core.frames import AllFrames, Frame, FramesWanted, PerSecond
from shardprep.core.outcome import Dropped, Failed, Joined, Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage, Watcher, Worker
from shardprep.errors import Unavailable
from shardprep.runtime.byte_budget import ByteBudget
from shardprep.runtime.item import Item, Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.pipeline import run_stages
from shardprep.runtime.task import WorkSettings
from tests.runtime.conftest import Through
from tests.runtime.stages import CountAlive, DropOdd, JoinPairs, Measure, SplitInTwo, TellBatch, WatchHash


@dataclass(frozen=True, kw_only=True)
class Refuse(Stage):
    """Gives the shard back at the third sample."""

    frames = FramesWanted(PerSecond(10))

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        if batch[0].key == "k02":
            raise Unavailable("the server is down")
        return [Kept(sample) for sample in batch]


def told(items: Sequence[Item]) -> list[tuple[str, str]]:
    return [(item.sample.key, read_blob(item.sample.members["batch"].blob).decode()) for item in items if "batch" in item.sample.members]


def decode_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_batches_are_full_and_in_order_and_what_is_out_takes_no_place(through: Through, clips: list[Sample]) -> None:
    items = through([DropOdd(), TellBatch(batch_size=4)], clips)
    assert [item.sample.key for item in items] == [clip.key for clip in clips]
    batches = dict.fromkeys(text for _, text in told(items))
    assert [[line.split()[0] for line in text.splitlines()] for text in batches] == [["k00", "k02", "k04", "k06"], ["k08", "k10"]]


def test_batches_and_frames_do_not_depend_on_timing(through: Through, clips: list[Sample]) -> None:
    stages = [DropOdd(wants_frames=True), WatchHash(), TellBatch(batch_size=3), SplitInTwo(), Measure()]
    runs = [through(stages, clips, decode_ahead=ahead) for ahead in (0, 2, 5)]
    seen = [[(item.origin, item.sample.record, item.outcome, item.stage) for item in items] for items in runs]
    assert seen[0] == seen[1] == seen[2]
    assert told(runs[0]) == told(runs[1]) == told(runs[2])
    assert len(seen[0]) == 6 + 2 * 6


@pytest.mark.parametrize("decode_ahead", [0, 2, 6])
def test_frames_in_memory_are_bounded_in_bytes(through: Through, clips: list[Sample], decode_ahead: int) -> None:
    def alive(memory_bytes: int) -> tuple[int, int]:
        items = through([CountAlive()], clips, memory_bytes=memory_bytes, decode_ahead=decode_ahead)
        return max(item.sample.get("scores.alive") for item in items), max(item.sample.get("scores.batch") for item in items)

    # Ten frames of 48x64x3 bytes: 92 KB a sample. A pass may hold half of the memory, a batch half of that.
    assert alive(1 << 30) == (12, 12), "all at once, where there is room"
    most, batch = alive(1 << 20)
    assert batch == 3
    assert most <= 3 + 3


def test_a_sample_that_is_larger_than_the_memory_goes_through_alone(through: Through, clips: list[Sample]) -> None:
    items = through([CountAlive()], clips, memory_bytes=1)
    assert {item.sample.get("scores.batch") for item in items} == {1}
    assert max(item.sample.get("scores.alive") for item in items) <= 2


def test_many_stages_and_segments_share_one_memory(through: Through, clips: list[Sample]) -> None:
    one = through([TellBatch(batch_size=100)], clips, memory_bytes=2 << 20)
    three = through([TellBatch(batch_size=100), SplitOnce(), WatchHash(), CountAlive()], clips, memory_bytes=2 << 20)
    assert max(item.sample.get("scores.batch") for item in three) < max(item.sample.get("scores.batch") for item in one)


@dataclass(frozen=True, kw_only=True)
class SplitOnce(Stage):
    """Ends a segment: the child is the sample."""

    replaces = ("video",)

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(sample) for sample in batch]


@pytest.mark.parametrize("memory_bytes", [1, 1 << 20, 1 << 30])
def test_threads_end_where_a_stage_gives_up(clips: list[Sample], memory_bytes: int) -> None:
    stage = Refuse()
    started = time.monotonic()
    with (
        pytest.raises(Unavailable, match="the server is down"),
        Work(WorkSettings(memory_bytes=memory_bytes, decode_ahead=4), Journal(None)) as work,
    ):
        list(run_stages([stage], {id(stage): stage.open(Worker())}, (Item(clip.key, clip) for clip in clips), work))
    # With a memory of one byte the thread waits for room that nobody makes.
    assert not decode_threads()
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("memory_bytes", [1, 1 << 30])
def test_threads_end_where_nobody_reads_on(clips: list[Sample], memory_bytes: int) -> None:
    stage = CountAlive(batch_size=1)
    with Work(WorkSettings(memory_bytes=memory_bytes, decode_ahead=4), Journal(None)) as work:
        items = run_stages([stage], {id(stage): stage.open(Worker())}, (Item(clip.key, clip) for clip in clips), work)
        assert next(items).sample.key == "k00"
        assert decode_threads()
    assert not decode_threads()


def test_one_broken_video_costs_nobody_else(through: Through, clips: list[Sample]) -> None:
    data = read_blob(clips[3].members["video"].blob)
    broken = clips[3].with_member("mp4", BytesBlob(data[: len(data) // 2]))
    items = through([WatchHash(), TellBatch()], [*clips[:3], broken, *clips[4:]])
    assert [item.sample.key for item in items if item.outcome] == ["k03"]
    assert isinstance(items[3].outcome, Failed)
    assert len({item.sample.get("scores.hash") for item in items}) == 12


def test_a_watcher_writes_columns_and_members(through: Through, clips: list[Sample]) -> None:
    [item] = through([WatchHash()], clips[:1])
    assert read_blob(item.sample.members["trace"].blob).decode() == item.sample.get("scores.hash")
    assert len(item.sample.get("scores.hash")) == 64


def test_a_verdict_is_the_fate_of_a_sample_and_of_a_child(through: Through, clips: list[Sample]) -> None:
    verdicts = {"k01": Failed("worker-died", "split_in_two: died"), "k02-00001": Failed("timed-out", "measure: gave no answer")}
    work = Work(WorkSettings(), Journal(None), verdicts=verdicts)
    items = through([SplitInTwo(), Measure()], clips[:3], work)
    assert [(item.sample.key, item.stage, item.outcome) for item in items if item.outcome] == [
        ("k01", "split_in_two", verdicts["k01"]),
        ("k02-00001", "measure", verdicts["k02-00001"]),
    ]
    assert [item.sample.key for item in items if not item.outcome] == ["k00-00000", "k00-00001", "k02-00000"]


@dataclass(frozen=True, kw_only=True)
class OnlyPictures(Stage):
    """Fails whatever is no picture, and never sees any."""

    accepts = ("image",)

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(sample) if "image" in sample.members else Failed("no-picture", "given to it all the same") for sample in batch]


@dataclass(frozen=True, kw_only=True)
class PicturesToo(OnlyPictures):
    """Another one."""


def test_what_a_stage_does_not_work_on_passes_it_and_names_the_first_such_stage(through: Through) -> None:
    video, picture = Sample("a").with_member("mp4", BytesBlob(b"v")), Sample("b").with_member("jpg", BytesBlob(b"p"))
    items = through([OnlyPictures(), PicturesToo()], [video, picture])
    assert [(item.sample.key, item.outcome, item.not_applicable, item.stage) for item in items] == [
        ("a", None, True, "only_pictures"),
        ("b", None, False, None),
    ]


def test_a_split_into_nothing_is_dropped(through: Through) -> None:
    [item] = through([SplitInTwo()], [Sample("one").with_member("mp4", BytesBlob(b"1"))])
    assert (item.outcome, item.stage) == (Dropped("no-children"), "split_in_two")


def test_a_group_joins_whatever_lies_between(through: Through) -> None:
    samples = [Sample(key, {"meta": {"pair": key[0]}}).with_member("mp4", BytesBlob(key.encode())) for key in ("a1", "b1", "a2", "b2")]
    items = through([JoinPairs(), Measure()], samples)
    assert [(item.origin, item.outcome) for item in items] == [
        ("a1", None),
        ("b1", None),
        ("a2", Joined("a-joined")),
        ("b2", Joined("b-joined")),
    ]
    assert [read_blob(item.sample.members["video"].blob) for item in items[:2]] == [b"a1a2", b"b1b2"]


@dataclass(frozen=True, kw_only=True)
class WatchBadly(Stage):
    """Has a watcher that raises at k01, k03 and so on, and answers nonsense at k02."""

    frames = FramesWanted(AllFrames(), colour="none")

    def watch(self, sample: Sample) -> Watcher:
        if sample.key == "k05":
            raise ValueError("cannot watch this")
        return _Bad(sample)


class _Bad:
    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def see(self, frame: Frame) -> None:
        if int(self._sample.key[1:]) % 2:
            raise ValueError(f"frame {frame.index} is too much")

    def finish(self) -> Outcome:
        return Kept(self._sample) if self._sample.key != "k02" else self._sample  # type: ignore[return-value]  # what the test is about


def test_a_watcher_fails_its_own_stage_and_disturbs_no_other(through: Through, clips: list[Sample]) -> None:
    items = through([WatchHash(), DropOdd(), WatchBadly()], clips[:7])
    assert [item.outcome for item in items[:4]] == [
        None,
        Dropped("odd"),
        Failed("wrong-outcomes", "watch_badly returned Sample for k02; a stage returns Kept, Dropped, Failed, Split or Joined"),
        Dropped("odd"),
    ]
    assert all(item.sample.get("scores.hash") for item in items), "what the other watcher saw counts"
    items = through([WatchHash(), WatchBadly()], clips[:7])
    assert [(item.stage, item.outcome) for item in items if item.sample.key in ("k03", "k05")] == [
        ("watch_badly", Failed("error", "ValueError: frame 0 is too much")),
        ("watch_badly", Failed("error", "ValueError: cannot watch this")),
    ]


class Recorded(ByteBudget):
    """A budget that notes how much was held at most, and in the end."""

    made: ClassVar[list[Recorded]] = []

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.least = self.most = 0
        Recorded.made.append(self)

    def acquire(self, num_bytes: int, ticket: int) -> None:
        super().acquire(num_bytes, ticket)
        self.most = max(self.most, self._held)

    def release(self, num_bytes: int) -> None:
        super().release(num_bytes)
        self.least = min(self.least, self._held)

    @property
    def left(self) -> int:
        return self._held


@pytest.mark.parametrize("memory_bytes", [1, 1 << 20, 1 << 30])
def test_every_byte_of_the_budget_is_given_back_once(
    through: Through, clips: list[Sample], memory_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Damaged videos, dropped samples, children of one video: none keeps bytes, none gives them back twice.
    monkeypatch.setattr("shardprep.runtime.pipeline.ByteBudget", Recorded)
    Recorded.made.clear()
    data = read_blob(clips[0].members["video"].blob)
    # Some cannot be opened; of others the end of the frames is noise, which is only found while they are decoded.
    start, middle = data.index(b"mdat"), data.index(b"moov") // 2
    assert start < middle
    noise = data[:middle] + bytes(255 - byte for byte in data[middle : data.index(b"moov") - 8]) + data[data.index(b"moov") - 8 :]
    damaged = [clip.with_member("mp4", BytesBlob(noise if k % 3 else data[: len(data) // 2])) for k, clip in enumerate(clips[:6])]
    stages = [DropOdd(wants_frames=True), TellBatch(), WatchHash(), SplitInTwo(), Measure()]
    items = through(stages, [*damaged, *clips[6:]], memory_bytes=memory_bytes)
    assert {type(item.outcome) for item in items} == {Failed, Dropped, type(None)}
    [budget] = [budget for budget in Recorded.made if budget.most]
    assert budget.least >= 0, "bytes were given back twice: the bound is gone"
    assert budget.left == 0, "bytes were kept: decoding ahead shrinks"
