"""Samples: columns by dotted name, members by role, and outcomes that can be counted."""

from __future__ import annotations

import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.outcome import Dropped, Failed
from shardprep.core.sample import Member, Sample, child_key, flatten, merge_records, role_of


@pytest.mark.parametrize(
    ("suffix", "role"),
    [("mp4", "video"), ("mkv", "video"), ("source.mp4", "source"), ("jpg", "image"), ("txt", "text"), ("latent.safetensors", "latent")],
)
def test_a_suffix_has_a_role(suffix: str, role: str) -> None:
    assert role_of(suffix) == role


def test_a_changed_sample_leaves_the_first_as_it_was() -> None:
    first = Sample("a", {"scores": {"flow": 1.0}, "source": {"path": "a.mp4"}})
    second = first.with_columns({"scores.sharpness": 2.0, "clip.index": 0})
    assert first.record == {"scores": {"flow": 1.0}, "source": {"path": "a.mp4"}}
    assert second.get("scores.flow") == 1.0
    assert second.get("scores.sharpness") == 2.0
    assert first.get("scores.sharpness", "absent") == "absent"


def test_null_and_absent_columns_give_the_default() -> None:
    sample = Sample("a", {"scores": {"flow": None}, "n": 3})
    assert sample.get("scores.flow", 7) == 7
    assert sample.get("n.deeper", 7) == 7


def test_a_member_takes_the_place_of_its_role() -> None:
    sample = Sample("a").with_member("mkv", BytesBlob(b"old")).with_member("mp4", BytesBlob(b"new"))
    assert [(role, member.suffix) for role, member in sample.members.items()] == [("video", "mp4")]


def test_a_blob_given_back_keeps_what_is_known_of_it() -> None:
    blob = BytesBlob(b"same")
    sample = Sample("a", {}, {"video": Member("mp4", blob, 7, "ab")})
    assert sample.with_member("mp4", blob).members["video"] == Member("mp4", blob, 7, "ab")
    assert sample.with_member("mp4", BytesBlob(b"same")).members["video"].sha256 is None
    assert sample.with_member("mkv", blob).members["video"].sha256 is None


def test_records_merge_leaf_by_leaf() -> None:
    merged = merge_records({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}, "c": {"z": 6}})
    assert merged == {"a": {"x": 1, "y": 5}, "b": 3, "c": {"z": 6}}
    assert dict(flatten(merged)) == {"a.x": 1, "a.y": 5, "b": 3, "c.z": 6}


def test_children_sort_as_they_were_cut() -> None:
    assert child_key("a", 3) == "a-00003"
    assert sorted([child_key("a", 10), child_key("a", 9)]) == ["a-00009", "a-00010"]


@pytest.mark.parametrize("reason", ["Too Short", "too_short", "too-short-3", "", "x", "-a", "a-"])
def test_a_reason_can_be_counted(reason: str) -> None:
    with pytest.raises(ValueError, match="kebab-case"):
        Dropped(reason)
    with pytest.raises(ValueError, match="kebab-case"):
        Failed(reason, "words")
    assert Dropped("too-short").reason == "too-short"
