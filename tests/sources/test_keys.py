"""Keys: legal, distinct, stable."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprep.core.sample import KEY_PATTERN, child_key
from shardprep.sources.keys import printable, source_key

ALIKE = [
    "a b.mp4",
    "a-b.mp4",
    "A B.mp4",
    "a_b.mp4",
    "a\nb.mp4",
    'a"b.mp4',
    "a'b.mp4",
    "-a.mp4",
    ".a.mp4",
    "a.mp4",
    "A.mp4",
    "a.MP4",
    "a.mov",
    "x/a.mp4",
    "y/a.mp4",
    "x/y/a.mp4",
    "a.b.c.mp4",
    "a.b.c.d.mp4",
    "видео.mp4",
    "клипы.mp4",
    "动画.mp4",
    "動画.mp4",
    "caf\u00e9.mp4",
    "cafe\u0301.mp4",
    "\udcff.mp4",
    "\udcfe.mp4",
    "\\xff.mp4",
    f"{'long' * 50}1.mp4",
    f"{'long' * 50}2.mp4",
]


def test_names_that_look_alike_have_legal_and_distinct_keys() -> None:
    keys = [source_key(path) for path in ALIKE]
    assert len(set(keys)) == len(ALIKE)
    for key in keys:
        assert KEY_PATTERN.fullmatch(key)
        assert len(child_key(key, 3) + ".latent.safetensors") <= 100


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("videos/Holiday 2024 (final).MP4", "holiday-2024-final-"),
        ("видео.mp4", "sample-"),
        ("--rf.mp4", "rf-"),
        ("caf\u00e9 x.mp4", "caf-x-"),
    ],
)
def test_the_slug_is_readable(path: str, key: str) -> None:
    assert re.fullmatch(re.escape(key) + "[0-9a-f]{16}", source_key(path))


def test_keys_never_change() -> None:
    """A changed key would give every shard ever made another content: these are constants of the format."""
    assert source_key("a.mp4") == "a-e6d48eabd560bc60"
    assert source_key("dir/Ünïcode name.mov") == "n-code-name-88b1e6edc26bc17d"


@given(st.text(min_size=1))
def test_any_name_has_a_legal_key(path: str) -> None:
    assert KEY_PATTERN.fullmatch(source_key(path))
    assert len(source_key(path)) <= 57


def test_printable_names_can_be_written() -> None:
    assert printable("a\udcff.mp4") == "a\\xff.mp4"
    assert printable("видео.mp4") == "видео.mp4"
