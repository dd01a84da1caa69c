"""A joined sample shares the fate of the sample it went into, however far that comes; the shard says so and verify agrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardprep.core.blob import BytesBlob
from shardprep.core.outcome import Dropped, Failed, Joined, Kept, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Stage
from shardprep.driver.verify import verify
from shardprep.runtime.call import call_stage
from shardprep.runtime.item import Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.task import WorkSettings
from shardprep.shards.ledger import InputRow
from shardprep.shards.set import SetInfo, ShardSet, write_info
from shardprep.shards.store import Store
from tests.built_sets import Made
from tests.runtime.test_reuse import make, task_of

NOTE: Mapping[str, ColumnType] = {"note": "member", "scores.bad": "double"}


@dataclass(frozen=True, kw_only=True)
class Join(Stage):
    """Joins those of a group that want to be joined into the first of them; the others get the fate that they ask for."""

    group_by: str = "meta.a"
    wish: str = "meta.one"
    renames: bool = False
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        wanting = [sample for sample in batch if sample.get(self.wish) == "join"]
        key = f"j-{wanting[0].key}" if wanting and self.renames else wanting[0].key if wanting else ""
        return [self._one(sample, sample is wanting[0] if wanting else False, key) for sample in batch]

    def _one(self, sample: Sample, is_first: bool, key: str) -> Outcome:
        match sample.get(self.wish):
            case "join":
                return Kept(replace(sample, key=key)) if is_first else Joined(key)
            case "drop":
                return Dropped("unwanted", "it asked to be")
            case "fail":
                return Failed("refused", "it asked to be")
        return Kept(sample)


@dataclass(frozen=True, kw_only=True)
class Decide(Stage):
    """Gives each sample the fate that its record asks for, or makes it one that cannot be written."""

    accepts = ()
    writes = NOTE

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Sample) -> Outcome:
        match sample.get("meta.last"):
            case "drop":
                return Dropped("too-short", "shorter than 3 s")
            case "fail":
                return Failed("error", "ValueError: no")
            case "unnamable":
                return Kept(sample.with_member(f"note.{'x' * 100}", BytesBlob(b"note")))
            case "unstorable":
                return Kept(sample.with_columns({"scores.bad": float("nan")}))
        return Kept(sample)


REASONS = {"drop": ("dropped", "too-short"), "fail": ("failed", "error")}
REASONS |= {"unnamable": ("failed", "not-packable"), "unstorable": ("failed", "bad-record")}
OWN = {"drop": ("dropped", "unwanted"), "fail": ("failed", "refused")}


def made_of(wishes: Sequence[Mapping[str, Any]]) -> list[Made]:
    return [Made(f"s{number}", {"meta": dict(wish)}, {"mp4": b"video%d" % number}) for number, wish in enumerate(wishes)]


def rows_of(folder: Path) -> dict[str, InputRow]:
    store = Store(str(folder / "pass"))
    info = SetInfo(step="pass", kind="base", step_fingerprint="step", identity={}, parents=("../source-1",), shards=("000000",))
    write_info(store, info)
    shard_set = ShardSet(store, info)
    ledger = shard_set.ledger(shard_set.current()["000000"].ledger)
    assert [row.key for row in ledger.outputs if row.fate != "kept"] == [], "a joined sample is no child"
    return {row.key: row for row in ledger.inputs}


def expected(wishes: Sequence[Mapping[str, Any]], renames: bool) -> dict[str, tuple[str, str | None, tuple[str, ...]]]:
    """Return fate, reason and keys gone into by key, found by following each sample by itself."""
    keys = [f"s{number}" for number in range(len(wishes))]
    wish = dict(zip(keys, wishes, strict=True))
    name = dict(zip(keys, keys, strict=True))
    into: dict[str, str] = {}
    fate: dict[str, tuple[str, str | None]] = {}
    for group, asked in (("a", "one"), ("b", "two")):
        for value in range(3):
            here = [key for key in keys if key not in into and key not in fate and wish[key][group] == value]
            joining = [key for key in here if wish[key][asked] == "join"]
            if joining and renames:
                name[joining[0]] = f"j-{name[joining[0]]}"
            into |= dict.fromkeys(joining[1:], joining[0] if joining else "")
            fate |= {key: OWN[wish[key][asked]] for key in here if wish[key][asked] in OWN}
    fate |= {key: REASONS[wish[key]["last"]] for key in keys if key not in into and key not in fate and wish[key]["last"] in REASONS}
    found = {}
    for key in keys:
        end = key
        while end in into:
            end = into[end]
        found[key] = (*fate[end], ()) if end in fate else ("kept", None, (name[end],))
    return found


wishes = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.integers(0, 2),
            "b": st.integers(0, 2),
            "one": st.sampled_from(["join", "join", "keep", "drop", "fail"]),
            "two": st.sampled_from(["join", "join", "keep", "drop", "fail"]),
            "last": st.sampled_from(["keep", "keep", "drop", "fail", "unnamable", "unstorable"]),
        }
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=150, deadline=None)
@given(wishes, st.booleans())
def test_fates_follow_the_sample_they_went_into(asked: list[dict[str, Any]], renames: bool) -> None:
    stages = [Join(renames=renames), Join(group_by="meta.b", wish="meta.two", renames=renames), Decide()]
    with TemporaryDirectory() as name:
        folder = Path(name)
        committed = make(task_of(folder, stages, made_of(asked), 1)).committed
        rows = rows_of(folder)
        assert {key: (row.fate, row.reason, row.into) for key, row in rows.items()} == expected(asked, renames)
        assert [problem.what for problem in verify(str(folder / "pass"))] == []
        assert committed.counts.get("output.kept", 0) == len({key for row in rows.values() for key in row.into})
        again = make(task_of(folder, stages, made_of(asked), 2))
        assert (again.worked_on, again.committed.digest) == (0, committed.digest), "an unchanged shard is copied whole"


@pytest.mark.parametrize("last", ["drop", "fail", "unnamable", "unstorable"])
def test_what_happened_is_named(tmp_path: Path, last: str) -> None:
    asked = [{"a": 0, "b": number, "one": "join", "two": "keep", "last": last} for number in range(3)]
    committed = make(task_of(tmp_path, [Join(), Decide()], made_of(asked), 1)).committed
    fate, reason = REASONS[last]
    assert committed.counts == {f"input.{fate}": 3, f"input.{fate}:{reason}": 3}
    assert (rows_of(tmp_path)["s2"].detail or "").startswith(f"it went into s0, which was {fate}: ")


Answer = Callable[[Sequence[Sample]], Any]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda b: [Kept(b[0]), Joined("elsewhere")], "Joined('elsewhere'), and keeps no sample with that key in the same call"),
        (lambda b: [Dropped("x-y"), Joined("s0")], "Joined('s0'), and keeps no sample with that key in the same call"),
        (lambda b: [Kept(b[0]), Kept(b[0])], "two samples with the key s0; each sample of a group has a key of its own"),
        (lambda b: [Kept("s0"), Dropped("x-y")], "Kept(str) for s0; what is kept is a Sample"),
        (lambda b: [Kept(replace(b[0], key="A.b")), Dropped("x-y")], "the sample 'A.b' in the place of s0; keys are of a-z 0-9 _ -"),
    ],
)
def test_a_group_that_goes_into_nothing_is_a_broken_promise(answer: Answer, words: str) -> None:
    outcomes = call_stage(Join(), answer, [Sample("s0"), Sample("s1")], Work(WorkSettings(), Journal(None)))
    assert outcomes == [Failed("wrong-outcomes", f"join returned {words}")] * 2


def test_only_a_stage_that_groups_joins() -> None:
    outcomes = call_stage(Decide(), lambda b: [Joined("s0")], [Sample("s0")], Work(WorkSettings(), Journal(None)))
    assert outcomes == [Failed("wrong-outcomes", "decide returned Joined for s0 but does not declare `group_by`")]
