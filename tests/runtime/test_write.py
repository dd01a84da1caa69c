"""A commit is whole or nothing, whoever else writes the same shard at the same time."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.outcome import Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Map, Process, Stage, Worker
from shardprep.driver.verify import verify
from shardprep.errors import ShardError, Unavailable
from shardprep.runtime.task import ShardResult
from shardprep.shards.set import SetInfo, write_info
from shardprep.shards.store import Store
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.probe_media import ProbeMedia
from shardprep.stages.score_exposure import ScoreExposure
from shardprep.testing.videos import three_shots
from tests.built_sets import Made
from tests.driver.outputs import tar_members
from tests.driver.stages import Costly, Halve
from tests.runtime.test_reuse import make, outcome, samples, task_of

_MEANWHILE: list[Callable[[], None]] = []
_CALLS: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Uncertain(Stage):
    """Gives another member each time, and lets something happen while it is at it."""

    accepts = ()

    @property
    def writes(self) -> dict[str, str]:  # type: ignore[override] # the same values
        return {"note": "member"}

    def open(self, worker: Worker) -> Process:
        return self.process

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        _CALLS.append("called")
        while _MEANWHILE:
            _MEANWHILE.pop()()
        return [Kept(sample.with_member("note.bin", BytesBlob(f"{len(_CALLS)}".encode()))) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class Measure(Map):
    """Writes whole and broken numbers, and a column without a value."""

    replaces = ("video",)
    accepts = ()

    @property
    def writes(self) -> dict[str, str]:  # type: ignore[override] # the same values
        return {"scores.whole": "double", "scores.none": "double", "scores.half": "double"}

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"scores.whole": 3, "scores.none": None, "scores.half": 0.5})


@pytest.fixture(autouse=True)
def _nothing_happens() -> Iterator[None]:
    _MEANWHILE.clear()
    _CALLS.clear()
    yield
    _MEANWHILE.clear()


def names(folder: Path, suffix: str = "") -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(suffix))


def test_the_second_to_commit_removes_its_tar_and_adopts_the_first(tmp_path: Path) -> None:
    task = task_of(tmp_path, [Uncertain()], samples(2), 1)
    others = []
    _MEANWHILE.append(lambda: others.append(make(task)))
    mine = make(task)
    assert (mine.adopted, others[0].adopted) == (True, False)
    assert mine.committed == others[0].committed
    assert names(tmp_path / "pass") == sorted(n for n in (mine.committed.tar, mine.committed.ledger) if n)
    assert {members["note.bin"] for _, members in outcome(tmp_path).values()} != {b"1"}


def test_a_tar_that_was_taken_away_is_never_committed(tmp_path: Path) -> None:
    # Another run collects leftovers just before the ledger says that the tar is none.
    task = task_of(tmp_path, [Uncertain()], samples(1), 1)
    folder = tmp_path / "pass"

    class Taking(Store):
        def create_bytes(self, name: str, data: bytes) -> bool:
            for path in folder.glob("*.tar"):
                path.unlink()
            return super().create_bytes(name, data)

    from shardprep.runtime.item import Work
    from shardprep.runtime.journal import Journal
    from shardprep.runtime.rows import Outgoing, Result
    from shardprep.runtime.write import ShardWriter
    from shardprep.shards.ledger import InputRow, OutputRow

    with Work(task.settings, Journal(None)) as work, ShardWriter(task, Taking(str(folder)), work) as writer:
        member = Sample("a0").with_member("note.bin", BytesBlob(b"1")).members["note"]
        row = OutputRow(key="a0", parent="a0", fate="kept")
        writer.add(Result(InputRow(key="a0", fate="kept", into=("a0",)), [Outgoing(row, [member])]))
        with pytest.raises(Unavailable, match="vanished before its ledger was written: another run uses this output"):
            writer.commit(num_reused=0)
    assert names(folder) == [], "a ledger without its tar would pass for a shard"
    assert make(task).committed.tar in names(folder)


def test_what_is_being_copied_may_be_superseded_by_another_run(tmp_path: Path) -> None:
    # Both runs copy a0 from the first shard; the one that is first takes its tar away while the other works on a1.
    make(task_of(tmp_path, [Uncertain()], samples(1), 1))
    task = task_of(tmp_path, [Uncertain()], samples(2)[::-1], 2)
    others: list[ShardResult] = []
    _MEANWHILE.append(lambda: others.append(make(task)))
    mine = make(task)
    assert mine.adopted
    assert mine.committed == others[0].committed
    assert len(names(tmp_path / "pass")) == 2


def test_a_new_shard_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    first = make(task_of(tmp_path, [Costly()], samples(2), 1)).committed
    second = make(task_of(tmp_path, [Costly()], samples(3), 2)).committed
    assert names(tmp_path / "pass") == sorted(n for n in (second.tar, second.ledger) if n)
    assert first.tar != second.tar
    third = make(task_of(tmp_path, [Costly()], samples(3), 3, fingerprint="3" * 64)).committed
    assert (third.tar, third.digest) == (second.tar, second.digest), "equal bytes have one name"


@pytest.mark.parametrize("damage", [lambda data: data[:-512], lambda data: data.replace(b"video", b"VIDEO")])
def test_a_damaged_tar_of_the_same_name_is_replaced(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    task = task_of(tmp_path, [Halve()], samples(2), 1)
    committed = make(task).committed
    assert committed.tar is not None
    tar = tmp_path / "pass" / committed.tar
    whole = tar.read_bytes()
    tar.write_bytes(damage(whole))
    assert tar.read_bytes() != whole
    (tmp_path / "pass" / committed.ledger).unlink()
    assert make(task).committed.digest == committed.digest
    assert tar.read_bytes() == whole
    write_info(
        Store(str(tmp_path / "pass")),
        SetInfo(step="pass", kind="base", step_fingerprint="step", identity={}, parents=("../source-1",), shards=("000000",)),
    )
    assert list(verify(str(tmp_path / "pass"))) == []


def test_nothing_is_left_of_a_shard_that_was_given_up(tmp_path: Path) -> None:
    def fail() -> None:
        raise Unavailable("the server is down")

    _MEANWHILE.append(fail)
    with pytest.raises(Unavailable):
        make(task_of(tmp_path, [Uncertain()], samples(2), 1))
    assert not (tmp_path / "pass").exists() or names(tmp_path / "pass") == []


def test_a_copied_record_has_the_bytes_of_a_fresh_one(tmp_path: Path) -> None:
    made = [*samples(1, a0={"x": 3, "nothing": None}), *samples(2, a1={"x": 2.5})[1:]]
    make(task_of(tmp_path, [Measure()], made, 1))
    tar = next((tmp_path / "pass").glob("*.tar"))
    fresh = tar_members(tar)["a0.json"]
    assert json.loads(fresh) == {
        "meta": {"pair": "p0", "x": 3},
        "scores": {"half": 0.5, "whole": 3},
        "source": {"name": "a0"},
    }
    # Alone in the shard its columns are of other types.
    assert make(task_of(tmp_path, [Measure()], made[:1], 2)).worked_on == 0
    assert tar_members(next((tmp_path / "pass").glob("*.tar")))["a0.json"] == fresh


def test_keys_that_come_back_are_one_sample_each(tmp_path: Path) -> None:
    made: list[Made] = samples(2)
    committed = make(task_of(tmp_path, [Costly()], made, 1)).committed
    assert committed.counts == {"input.kept": 2, "output.kept": 2}
    retried = make(replace(task_of(tmp_path, [Costly()], samples(3), 2), retry=3)).committed
    assert retried.ledger == "000000-00000002-3.parquet"


@pytest.mark.parametrize("stage", [Halve(), Measure()])
def test_bit_rot_in_a_parent_is_the_shards_fault_and_no_samples(tmp_path: Path, stage: Stage) -> None:
    task = task_of(tmp_path, [stage], samples(3), 1)
    tar = next((tmp_path / "source-1").glob("*.tar"))
    whole = tar.read_bytes()
    tar.write_bytes(whole.replace(b"video1", b"vidEo1"))
    with pytest.raises(ShardError, match=r"a1\S*\.mp4 does not have the crc32 that its ledger says: .* Run the recipe again with --repair"):
        make(task)
    assert not (tmp_path / "pass").exists() or names(tmp_path / "pass") == [], "nothing is committed, so that nothing is blamed"
    tar.write_bytes(whole)
    assert make(task).committed.counts.get("input.kept") == 3


@pytest.mark.parametrize("stage", [ScoreExposure(), ProbeMedia(), CutClips()])
def test_rot_in_a_video_is_found_before_it_is_decoded(tmp_path: Path, stage: Stage) -> None:
    # Behind its frames lies what no decoder reads to the end.
    video = three_shots()
    padding = struct.pack(">I4s", 1 << 20, b"free").ljust(1 << 20, b"\0")
    task = task_of(tmp_path, [stage], [Made("a0", {}, {"mp4": video + padding})], 1)
    tar = next((tmp_path / "source-1").glob("*.tar"))
    whole = bytearray(tar.read_bytes())
    # In the middle of its frames: most decoders show something else and say nothing.
    whole[whole.index(video) + len(video) // 2] ^= 1
    tar.write_bytes(whole)
    with pytest.raises(ShardError, match=r"a0\.mp4 does not have the crc32 that its ledger says: .* Run the recipe again with --repair"):
        make(task)
    assert not (tmp_path / "pass").exists() or names(tmp_path / "pass") == []
