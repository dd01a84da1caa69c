"""Sizes and counts in words."""

from __future__ import annotations

from shardprep.core.quantity import counted, size_words, time_words, was


def test_a_size_is_said_in_the_unit_below_1024() -> None:
    assert [size_words(size) for size in (0, 1023, 1536, 5 << 30, 3 << 40)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB", "3.0 TiB"]


def test_a_time_is_said_in_two_units() -> None:
    assert [time_words(seconds) for seconds in (None, 0, 0.4, 61, 7260)] == ["?", "0 s", "1 s", "1 min 01 s", "2 h 01 min"]


def test_a_count_has_the_noun_and_the_verb_that_go_with_it() -> None:
    assert [counted(number, "shard") for number in (0, 1, 2)] == ["0 shards", "1 shard", "2 shards"]
    assert [counted(3, noun) for noun in ("key", "entry")] == ["3 keys", "3 entries"]
    assert [counted(number, "child", "children") for number in (1, 2)] == ["1 child", "2 children"]
    assert [was(number) for number in (0, 1, 2)] == ["were", "was", "were"]
