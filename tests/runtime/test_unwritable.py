"""What no tar takes fails its own sample: a key that came already, a name that is too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shardprep.core.blob import BytesBlob
from shardprep.core.outcome import Kept, Outcome, Split
from shardprep.core.sample import Sample, child_key
from shardprep.core.stage import ColumnType, Stage
from tests.fates import fates, make_files, run_over

NOTE: Mapping[str, ColumnType] = {"note": "member"}


@dataclass(frozen=True, kw_only=True)
class SplitAlike(Stage):
    """Two children each, the second of which has the same key for all."""

    splits = True
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Split(tuple((key, Kept(replace(sample, key=key))) for key in (child_key(sample.key, 0), "same"))) for sample in batch]


@dataclass(frozen=True, kw_only=True)
class NameBadly(Stage):
    """Adds a member whose name no USTAR header holds, to v1 or to a child of v1."""

    accepts = ()
    writes = NOTE

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Kept(sample.with_member(f"note.{'x' * (100 if is_bad(sample) else 1)}", BytesBlob(b"note"))) for sample in batch]


def is_bad(sample: Sample) -> bool:
    return sample.get("source.name") == "v1.mp4" and not sample.key.endswith("-00000")


def test_a_key_that_came_already_fails_the_whole_of_its_parent(tmp_path: Path) -> None:
    step = run_over(make_files(tmp_path / "files", 3), tmp_path / "out", SplitAlike()).steps[-1]
    assert (step.kept, step.failed, step.samples_out) == (1, {"duplicate-key": 2}, 2)
    found = [fate for fate in fates(tmp_path / "out").values() if fate.fate == "failed"]
    assert {fate.detail for fate in found} == {"the key same came out twice; a stage that splits gives each child its own key"}


def test_a_member_that_no_tar_takes_fails_its_sample(tmp_path: Path) -> None:
    step = run_over(make_files(tmp_path / "files", 3), tmp_path / "out", NameBadly()).steps[-1]
    assert (step.kept, step.failed) == (2, {"not-packable": 1})
    [fate] = [fate for fate in fates(tmp_path / "out").values() if fate.fate == "failed"]
    assert fate.stage == "write"
    assert "bytes; USTAR names hold 100. Shorten the key or the suffix" in (fate.detail or "")


@dataclass(frozen=True, kw_only=True)
class SplitPlainly(Stage):
    """Two children each."""

    splits = True
    accepts = ()

    def process(self, batch: Sequence[Sample]) -> Sequence[Outcome]:
        return [Split(tuple((key, Kept(replace(s, key=key))) for key in (child_key(s.key, 0), child_key(s.key, 1)))) for s in batch]


def test_a_child_that_no_tar_takes_fails_alone(tmp_path: Path) -> None:
    step = run_over(make_files(tmp_path / "files", 3), tmp_path / "out", SplitPlainly(), NameBadly()).steps[-1]
    assert (step.kept, step.failed, step.children_failed, step.samples_out) == (3, {}, {"not-packable": 1}, 5)
    assert {key[:2] for key, fate in fates(tmp_path / "out", role="output").items() if fate.fate == "failed"} == {"v1"}
