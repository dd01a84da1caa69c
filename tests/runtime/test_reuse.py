"""What an earlier ledger says of unchanged samples is used again, and of changed ones never."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.core.plan import PlannedPass
from shardprep.core.reads import Column, Role
from shardprep.core.sample import Member, Sample
from shardprep.core.stage import Stage, Worker
from shardprep.runtime.reuse import sample_digest
from shardprep.runtime.shard import make_shard
from shardprep.runtime.task import ShardResult, ShardTask
from shardprep.shards.join import Chain, open_view
from shardprep.shards.names import shard_of
from shardprep.shards.set import SetInfo, ShardSet, write_info
from shardprep.shards.store import Store
from tests.built_sets import Made, chains_of, write_base
from tests.driver.stages import LOG, Costly, Halve, JoinPairs, noted


def samples(count: int = 3, **changes: Any) -> list[Made]:
    """Return samples a0, a1 …; `changes` are of records by key."""
    return [
        Made(f"a{k}", {"source": {"name": f"a{k}"}, "meta": {"pair": f"p{k // 2}", **changes.get(f"a{k}", {})}}, {"mp4": b"video%d" % k})
        for k in range(count)
    ]


def task_of(folder: Path, stages: Sequence[Stage], made: Sequence[Made], number: int, **changes: Any) -> ShardTask:
    """Return the task of a pass over one shard of these samples."""
    source = folder / f"source-{number}"
    write_base(source, {"000000": made})
    chain: Chain = chains_of(source)["000000"]
    planned = PlannedPass("pass", tuple(stages))
    return ShardTask(
        **{
            "step": "pass",
            "shard": "000000",
            "out_url": str(folder / "pass"),
            "fingerprint": f"{number:08x}" * 8,
            "step_fingerprint": "step",
            "stages": tuple(stages),
            "is_base": planned.is_base,
            "adds": planned.adds,
            "reads": planned.reads,
            "chain": chain,
            **changes,
        }
    )


def make(task: ShardTask) -> ShardResult:
    """Make a shard in this process, as a run that begins now."""
    task = replace(task, earlier=tuple(name for name in Store(task.out_url).names() if shard_of(name) == task.shard))
    return make_shard(task, {id(stage): stage.open(Worker()) for stage in task.stages})


def outcome(folder: Path, is_base: bool = False) -> dict[str, Any]:
    """Return records and members of what the pass wrote, by key."""
    store = Store(str(folder / "pass"))
    info = SetInfo(step="pass", kind="base", step_fingerprint="step", identity={}, parents=(), shards=("000000",))
    write_info(store, info)
    committed = ShardSet(store, info).current()["000000"]
    ledger = ShardSet(store, info).ledger(committed.ledger)
    tar = ledger.footer.tar
    assert tar is not None
    return {
        row.key: (row.record, {m.suffix: read_blob(store.blob(tar.name, m.offset, m.size)) for m in row.members})
        for row in ledger.outputs
        if row.fate == "kept"
    }


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOG, str(tmp_path))
    return tmp_path


def test_unchanged_samples_are_copied_and_others_worked_on(log: Path) -> None:
    first = make(task_of(log, [Costly()], samples(3), 1))
    assert (first.worked_on, noted(log)) == (3, ["costly a0", "costly a1", "costly a2", "open costly"])
    changed = [*samples(2), replace(samples(3)[2], members={"mp4": b"another"}), samples(4)[3]]
    second = make(task_of(log, [Costly()], changed, 2))
    assert (second.worked_on, noted(log)) == (2, ["costly a2", "costly a3", "open costly"])
    copied = outcome(log)
    make(task_of(log / "fresh", [Costly()], changed, 2))
    assert copied == outcome(log / "fresh"), "as if nothing had been there"


def test_a_column_that_is_not_read_may_change(log: Path) -> None:
    make(task_of(log, [Costly()], samples(3), 1))
    second = make(task_of(log, [Costly()], samples(3, a1={"note": "new"}), 2))
    assert second.worked_on == 0
    renamed = [replace(made, record={**made.record, "source": {"name": "b"}}) for made in samples(3)]
    assert make(task_of(log, [Costly()], renamed, 3)).worked_on == 3


def test_other_settings_use_nothing_again(log: Path) -> None:
    make(task_of(log, [Costly()], samples(3), 1))
    assert make(task_of(log, [Costly(length=5)], samples(3), 2, step_fingerprint="other")).worked_on == 3


def test_other_code_uses_nothing_again(log: Path) -> None:
    make(task_of(log, [Costly()], samples(3), 1, code={"costly": "one"}))
    assert make(task_of(log, [Costly()], samples(4), 2, code={"costly": "one"})).worked_on == 1
    changed = make(task_of(log, [Costly()], samples(5), 3, code={"costly": "two"}))
    assert (changed.worked_on, changed.committed.code) == (5, {"costly": "two"})


def test_reuse_can_be_turned_off(log: Path) -> None:
    make(task_of(log, [Costly()], samples(3), 1))
    assert make(task_of(log, [Costly()], samples(3), 2, reuse=False)).worked_on == 3


def test_children_come_back_with_their_parent(log: Path) -> None:
    make(task_of(log, [Halve()], samples(2), 1))
    first = outcome(log)
    assert list(first) == ["a0-00000", "a0-00001", "a1-00000", "a1-00001"]
    second = make(task_of(log, [Halve()], samples(3), 2))
    assert second.worked_on == 1
    assert {key: value for key, value in outcome(log).items() if not key.startswith("a2")} == first


def test_a_group_is_joined_again_where_one_of_it_changed(log: Path) -> None:
    # a0 and a1 are one pair: the outcome of a0 depends on a1 too, and an outcome of the shard on all of it.
    make(task_of(log, [JoinPairs()], samples(4), 1))
    changed = [*samples(1), samples(2, a1={"pair": "p0", "note": "x"})[1], *samples(4)[2:]]
    assert make(task_of(log, [JoinPairs()], changed, 2)).worked_on == 4
    noted(log)
    assert make(task_of(log, [JoinPairs()], changed, 3)).worked_on == 0
    assert make(task_of(log, [JoinPairs()], changed[:3], 4)).worked_on == 3, "one of them is gone"


def test_failures_are_copied_unless_they_are_retried(log: Path) -> None:
    (log / "refuse").write_text("a1")
    first = make(task_of(log, [Costly()], samples(3), 1))
    assert first.committed.counts["input.failed:refused"] == 1
    (log / "refuse").unlink()
    task = task_of(log, [Costly()], samples(4), 2)
    assert make(task).worked_on == 1
    third = make(replace(task, retry=1, redo_failed=True))
    assert (third.worked_on, third.committed.counts.get("input.failed", 0)) == (1, 0)
    assert sorted(path.name for path in (log / "pass").glob("*.parquet")) == ["000000-00000002-1.parquet"]


def test_of_two_ledgers_of_a_shard_the_newest_is_used(log: Path) -> None:
    # A worker that was killed after its commit has not removed what it superseded.
    (log / "refuse").write_text("a1")
    task = task_of(log, [Costly()], samples(3), 1)
    make(task)
    first = {path: path.read_bytes() for path in (log / "pass").iterdir() if path.name.startswith("000000-")}
    (log / "refuse").unlink()
    make(replace(task, retry=1, redo_failed=True))
    for path, data in first.items():
        path.write_bytes(data)
    third = make(task_of(log, [Costly()], samples(4), 2))
    assert (third.worked_on, third.committed.counts.get("input.failed", 0)) == (1, 0)


def test_a_failed_child_is_retried_through_its_parent(log: Path) -> None:
    (log / "refuse").write_text("a1")
    stages = [Halve(), Costly()]
    task = task_of(log, stages, samples(3), 1)
    first = make(task)
    # The parent is dropped as `no-child-kept`; that its children failed is said by their own rows alone.
    assert (first.committed.counts["output.failed:refused"], first.committed.counts.get("input.failed", 0)) == (2, 0)
    (log / "refuse").unlink()
    again = make(replace(task, retry=1, redo_failed=True))
    assert (again.worked_on, again.committed.counts.get("output.failed", 0), again.committed.counts["output.kept"]) == (1, 0, 6)


@pytest.mark.parametrize("damage", ["ledger", "tar", "no tar"])
def test_a_damaged_shard_is_no_earlier_one(log: Path, damage: str) -> None:
    make(task_of(log, [Costly()], samples(3), 1))
    path = next((log / "pass").glob("*.parquet" if damage == "ledger" else "*.tar"))
    if damage == "no tar":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-600])
    assert make(task_of(log, [Costly()], samples(3), 2)).worked_on == 3
    assert len(outcome(log)) == 3
    assert len(list((log / "pass").glob("*.parquet"))) == 1, "the damaged one is superseded"


def test_a_shard_that_another_run_made_is_adopted(log: Path) -> None:
    task = task_of(log, [Costly()], samples(3), 1)
    first = make(task)
    noted(log)
    second = make(task)
    assert (second.adopted, second.worked_on, second.committed) == (True, 0, first.committed)
    assert noted(log) == ["open costly"]


def test_a_worker_looks_at_its_own_shard_only(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One listing of the folder per shard would be quadratic: of a hundred thousand shards each listing is long.
    make(task_of(log, [Costly()], samples(3), 1))
    task = task_of(log, [Costly()], samples(4), 2)
    task = replace(task, earlier=tuple(Store(task.out_url).names()))

    def listed(self: Store) -> dict[str, int]:
        raise AssertionError(f"{self.url} is listed")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "names", listed)
        made = make_shard(task, {id(stage): stage.open(Worker()) for stage in task.stages})
    assert made.worked_on == 1
    assert set(Store(task.out_url).names()) == {made.committed.ledger, made.committed.tar}


# --- the digest of a sample

records = st.dictionaries(
    st.sampled_from(["x", "y"]),
    st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([1.0, 0.5]), st.lists(st.integers(0, 2), max_size=2)),
)


def sample_of(record: Any, data: bytes, suffix: str = "mp4") -> Sample:
    return Sample("k", {"a": record}, {"video": Member(suffix, BytesBlob(data), None, data.hex())})


@given(records, records, st.sampled_from([b"1", b"2"]), st.sampled_from([b"1", b"2"]))
def test_a_digest_changes_if_and_only_if_something_that_is_read_does(one: Any, other: Any, data: bytes, others: bytes) -> None:
    # Parquet gives nulls back as absent and whole floats as its column's other rows have them, so these are no changes.
    left, right = ({name: value for name, value in record.items() if value is not None} for record in (one, other))
    both = sample_of(one, data), sample_of(other, others)
    digests = [sample_digest(sample, (Column(("a", "x")), Role("video")), False) for sample in both]
    assert (digests[0] == digests[1]) == ((left.get("x"), data) == (right.get("x"), others))
    wholes = [sample_digest(sample, (), True) for sample in both]
    assert (wholes[0] == wholes[1]) == ((left, data) == (right, others))


def test_a_set_read_back_has_the_digests_of_its_samples(tmp_path: Path) -> None:
    # The column is whole in one shard and not in the other: the sample is the same.
    mixed = [Made("a", {"meta": {"x": 3}}, {"mp4": b"1"}), Made("b", {"meta": {"x": 2.5}}, {"mp4": b"2"})]
    write_base(tmp_path / "one", {"000000": mixed})
    write_base(tmp_path / "two", {"000000": mixed[:1]})
    one, two = (next(iter(open_view(str(tmp_path / name)))) for name in ("one", "two"))
    assert (repr(one.get("meta.x")), repr(two.get("meta.x"))) == ("3.0", "3")
    assert sample_digest(one, (), True) == sample_digest(two, (), True)
