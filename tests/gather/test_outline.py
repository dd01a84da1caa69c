"""The outline of an input shard: its content digests follow all that is packed of a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardprep.gather.outline import outline_shard
from shardprep.gather.settings import Pack
from tests.built_sets import Made, write_base, write_sidecar
from tests.gather.packings import pack, packing_of, record

VIDEO = {"mp4": b"video"}
RECORD: dict[str, Any] = {"scores": {"flow": 1.5, "per_frame": [1.0, 2.0]}, "caption": {"text": "a cat"}, "meta": {"id": 7}}


def contents(folder: Path, made: Made, settings: Pack | None = None) -> list[bytes]:
    """Return the content digests of a set of one shard with this sample and one that is always the same."""
    base = write_base(folder / "clips", {"000000": [made, Made("same", RECORD, VIDEO)]})
    (task,) = packing_of(folder, [base], settings or Pack()).outline_tasks()
    digests: list[bytes] = outline_shard(task).samples["content"].to_pylist()
    return digests


@pytest.mark.parametrize(
    ("record", "members"),
    [
        ({**RECORD, "scores": {"flow": 1.25, "per_frame": [1.0, 2.0]}}, VIDEO),
        ({**RECORD, "scores": {"flow": 1.5, "per_frame": [2.0, 1.0]}}, VIDEO),
        ({**RECORD, "caption": {"text": "a dog"}}, VIDEO),
        ({name: value for name, value in RECORD.items() if name != "meta"}, VIDEO),
        (RECORD, {"mp4": b"other"}),
        (RECORD, {**VIDEO, "txt": b"a cat"}),
        (RECORD, {"webm": b"video"}),
    ],
)
def test_a_change_of_record_or_member_changes_the_content_of_its_sample_alone(
    tmp_path: Path, record: dict[str, Any], members: dict[str, bytes]
) -> None:
    before = contents(tmp_path / "one", Made("a", RECORD, VIDEO))
    after = contents(tmp_path / "two", Made("a", record, members))
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_what_is_not_packed_is_no_content(tmp_path: Path) -> None:
    video_only = Pack(roles=("video",))
    one = contents(tmp_path / "one", Made("a", RECORD, {**VIDEO, "tail.bin": b"1"}), video_only)
    two = contents(tmp_path / "two", Made("a", RECORD, {**VIDEO, "tail.bin": b"2"}), video_only)
    assert one == two


def test_a_score_that_changed_below_the_same_members_is_packed_anew(tmp_path: Path) -> None:
    base = write_base(tmp_path / "clips", {"000000": [Made("a", {"meta": {"id": 7}}, VIDEO)]})
    for flow in (1.5, 1.25):
        scores = tmp_path / "scores"
        for old in scores.glob("*"):
            old.unlink()
        sidecar = write_sidecar(scores, {"000000": [Made("a", {"scores": {"flow": flow}})]}, [base], {"scores.flow": "double"})
        pack(tmp_path, [base, sidecar])
        assert record(tmp_path, "a")["scores"] == {"flow": flow}
