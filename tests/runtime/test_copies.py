"""What a stage is handed is its own: what it changes in place reaches no other stage and no shard, however stages are grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import AllFrames, Frame, FramesWanted, PerSecond
from shardprep.core.outcome import Dropped, Failed, Joined, Kept, Outcome, Split
from shardprep.core.sample import Member, Sample
from shardprep.core.stage import ColumnType, Map, Stage, Watcher
from shardprep.runtime.copies import own
from tests.runtime.conftest import Through
from tests.runtime.stages import WatchHash

RECORD: Mapping[str, Any] = {"media": {"width": 128}, "clip": {"starts": [0.0], "pairs": [[1, 2], [3, 4]]}}
ONE: Mapping[str, ColumnType] = {"scores.one": "double"}
SEEN: Mapping[str, ColumnType] = {"seen.starts": "list<double>", "seen.width": "int64"}
VALUES: Mapping[str, ColumnType] = {"scores.values": "list<double>"}
MEAN: Mapping[str, ColumnType] = {"scores.mean": "double"}
What = Literal["list", "inner list", "dict", "group", "member", "removed column", "removed member"]


def sample(key: str = "a") -> Sample:
    return Sample(key, RECORD).with_member("mp4", BytesBlob(b"video"))


def change(given: Sample, what: What = "list") -> None:
    """Change a sample in place, as somebody does who does not know better."""
    record: Any = given.record
    members: Any = given.members
    match what:
        case "list":
            given.get("clip.starts").append(99.0)
        case "inner list":
            given.get("clip.pairs")[1].reverse()
        case "dict":
            record["media"]["width"] = 7777
        case "group":
            record["mine"] = {"own": 1}
        case "member":
            members["extra"] = Member("extra.txt", BytesBlob(b"extra"))
        case "removed column":
            del record["media"]
        case "removed member":
            del members["video"]


@dataclass(frozen=True, kw_only=True)
class Change(Stage):
    """Changes its samples in place, and keeps what `keeps_what` says."""

    what: What = "list"
    answers: Literal["kept", "dropped odd"] = "kept"

    writes = ONE

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        for one in batch:
            change(one, self.what)
        return [Kept(one.with_columns({"scores.one": 1.0})) if self.answers == "kept" else Dropped("odd") for one in batch]


@dataclass(frozen=True, kw_only=True)
class ChangeAndWatch(Stage):
    """Changes the sample in place while it watches."""

    changes: bool = True

    frames = FramesWanted(AllFrames())
    writes = ONE

    def watch(self, sample: Sample) -> Watcher:
        return _Changing(sample, self.changes)


class _Changing:
    def __init__(self, given: Sample, changes: bool) -> None:
        self._kept = given.with_columns({"scores.one": 1.0})
        if changes:
            change(given)

    def see(self, frame: Frame) -> None:
        return

    def finish(self) -> Outcome:
        return Kept(self._kept)


@dataclass(frozen=True, kw_only=True)
class Copy(Map):
    """Writes what it sees in columns of its own."""

    writes = SEEN

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"seen.starts": sample.get("clip.starts"), "seen.width": sample.get("media.width")})


@dataclass(frozen=True, kw_only=True)
class ChangeThenRefuseMany(Stage):
    """Changes its batch in place and then cannot work on more than one."""

    batch_size: int = 4
    error: type[Exception] = ValueError

    writes = SEEN

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        kept = [
            Kept(one.with_columns({"seen.starts": list(one.get("clip.starts")), "seen.width": one.get("media.width")})) for one in batch
        ]
        if len(batch) > 1:
            for one in batch:
                change(one)
                change(one, "dict")
            raise self.error
        return kept


@dataclass(frozen=True, kw_only=True)
class Reuse(Stage):
    """Writes a list that it fills again at every call."""

    values: list[float] = field(default_factory=list)

    writes = VALUES

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        self.values.append(float(len(self.values)))
        return [Kept(one.with_columns({"scores.values": self.values})) for one in batch]


@dataclass(frozen=True, kw_only=True)
class Hold(Stage):
    """Waits for all samples."""

    batch_size: int = 100

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(one) for one in batch]


@dataclass(frozen=True, kw_only=True)
class Darken(Stage):
    """Paints over its frames, which are of the same size and colours as others' frames."""

    watches: bool = False

    writes = MEAN

    @property
    def frames(self) -> FramesWanted:
        return FramesWanted(AllFrames() if self.watches else PerSecond(5), colour="gray")

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        for one in batch:
            assert one.frames is not None
            one.frames.images[...] = 0
        return [Kept(one.with_columns({"scores.mean": 0.0})) for one in batch]

    def watch(self, sample: Sample) -> Watcher:
        return _Darkening(sample)


class _Darkening:
    def __init__(self, given: Sample) -> None:
        self._sample = given

    def see(self, frame: Frame) -> None:
        frame.image[...] = 0

    def finish(self) -> Outcome:
        return Kept(self._sample.with_columns({"scores.mean": 0.0}))


@pytest.mark.parametrize(
    ("what", "name"),
    [("list", "clip.starts"), ("inner list", "clip.pairs"), ("dict", "media.width"), ("group", "mine.own"), ("member", "extra")],
)
def test_what_comes_back_changed_in_place_is_refused_as_an_undeclared_write(through: Through, what: What, name: str) -> None:
    [item] = through([Change(what=what), Copy()], [sample()])
    assert isinstance(item.outcome, Failed)
    assert item.outcome.reason == "wrong-outcomes"
    assert item.outcome.detail == f"change returned a with {name} written, which it does not declare in `writes`"


@pytest.mark.parametrize(("what", "name"), [("removed column", "media.width"), ("removed member", "video")])
def test_what_comes_back_without_what_came_in_is_refused(through: Through, what: What, name: str) -> None:
    [item] = through([Change(what=what), Copy()], [sample()])
    assert isinstance(item.outcome, Failed)
    assert item.outcome.detail.startswith(f"change returned a without {name}; a stage that keeps a sample takes nothing away")


@pytest.mark.parametrize("what", ["list", "inner list", "dict", "group", "member", "removed column", "removed member"])
def test_the_samples_that_come_in_stay_as_they_were(through: Through, what: What) -> None:
    given = sample()
    before = repr(given)
    through([Change(what=what, answers="dropped odd")], [given])
    assert repr(given) == before


def test_a_watcher_that_changes_its_sample_in_place_is_refused_too(through: Through, clips: list[Sample]) -> None:
    given = replace(clips[0], record=RECORD)
    [item] = through([ChangeAndWatch(changes=True), Copy()], [given])
    assert isinstance(item.outcome, Failed)
    assert "change_and_watch returned k00 with clip.starts written" in item.outcome.detail
    [item] = through([ChangeAndWatch(changes=False), Copy()], [given])
    assert (item.outcome, item.sample.get("seen.starts"), item.sample.get("scores.one")) == (None, [0.0], 1.0)


@pytest.mark.parametrize("error", [ValueError, MemoryError])
def test_a_batch_that_is_asked_again_in_parts_comes_unchanged(through: Through, error: type[Exception]) -> None:
    items = through([ChangeThenRefuseMany(error=error)], [sample(key) for key in "abcd"])
    assert [(item.outcome, item.sample.get("seen.starts"), item.sample.get("seen.width")) for item in items] == [(None, [0.0], 128)] * 4


def test_what_a_stage_changes_after_its_call_does_not_count(through: Through) -> None:
    items = through([Reuse(), Hold()], [sample(key) for key in "abc"])
    assert [item.sample.get("scores.values") for item in items] == [[0.0], [0.0, 1.0], [0.0, 1.0, 2.0]]


def test_children_of_one_sample_share_nothing(through: Through) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Twins(Stage):
        splits = True

        def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
            return [Split(tuple((f"{one.key}-{n}", Kept(replace(one, key=f"{one.key}-{n}"))) for n in range(2))) for one in batch]

    first, second = through([Twins()], [sample()])
    change(first.sample)
    assert (first.sample.get("clip.starts"), second.sample.get("clip.starts")) == ([0.0, 99.0], [0.0])


def test_a_join_that_changes_its_group_in_place_does_not_touch_what_came_in(through: Through) -> None:
    @dataclass(frozen=True, kw_only=True)
    class First(Stage):
        group_by: str = "meta.pair"

        def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
            kept = Kept(own(batch[0]))
            for one in batch:
                change(one)
            return [kept, *(Joined(batch[0].key) for _ in batch[1:])]

    given = [replace(sample(key), record={**RECORD, "meta": {"pair": "p"}}) for key in "ab"]
    items = through([First(), Copy()], given)
    assert items[0].sample.get("seen.starts") == [0.0]
    assert [one.get("clip.starts") for one in given] == [[0.0], [0.0]]


def test_frames_of_a_batch_cannot_be_written_to(through: Through, clips: list[Sample]) -> None:
    items = through([Darken()], clips[:2])
    assert [item.outcome.reason if isinstance(item.outcome, Failed) else None for item in items] == ["error", "error"]
    assert all("read-only" in item.outcome.detail for item in items if isinstance(item.outcome, Failed))


def test_a_watcher_cannot_paint_over_the_frames_that_others_see(through: Through, clips: list[Sample]) -> None:
    [alone] = through([WatchHash()], clips[:1])
    [item] = through([Darken(watches=True)], clips[:1])
    assert isinstance(item.outcome, Failed)
    assert "read-only" in item.outcome.detail

    @dataclass(frozen=True, kw_only=True)
    class Paint(Darken):
        """Paints where it can and is kept."""

        def watch(self, sample: Sample) -> Watcher:
            return _Painting(sample)

    class _Painting(_Darkening):
        def see(self, frame: Frame) -> None:
            if frame.image.flags.writeable:
                frame.image[...] = 0

    [both] = through([Paint(watches=True), WatchHash()], clips[:1])
    assert both.sample.get("scores.hash") == alone.sample.get("scores.hash")


def test_a_copy_is_equal_and_keeps_members_and_what_is_no_list(clips: list[Sample]) -> None:
    given = clips[0].with_columns({"scores.array": np.arange(3.0), "scores.tuple": ([1], 2), "scores.nan": float("nan")})
    copied = own(given)
    assert copied.members == given.members
    assert copied.members["video"] is given.members["video"]
    copied.get("scores.array")[0] = 7
    copied.get("scores.tuple")[0].append(2)
    assert given.get("scores.array").tolist() == [0, 1, 2]
    assert given.get("scores.tuple") == ([1], 2)
    assert copied.get("scores.nan") is given.get("scores.nan")


def test_an_array_that_an_earlier_stage_wrote_is_nobodys_write_when_it_comes_back_as_it_was(through: Through) -> None:
    @dataclass(frozen=True, kw_only=True)
    class WriteArray(Map):
        writes = VALUES

        def apply(self, sample: Sample) -> Sample:
            return sample.with_columns({"scores.values": np.array([1.0, 2.0])})

    @dataclass(frozen=True, kw_only=True)
    class Scale(Map):
        writes = ONE

        def apply(self, sample: Sample) -> Sample:
            values = sample.get("scores.values")
            values *= 2
            return sample.with_columns({"scores.one": 1.0})

    [item] = through([WriteArray(), Copy()], [sample()])
    assert (item.outcome, item.sample.get("scores.values").tolist()) == (None, [1.0, 2.0])
    [item] = through([WriteArray(), Scale()], [sample()])
    assert isinstance(item.outcome, Failed)
    assert "scores.values written" in item.outcome.detail
