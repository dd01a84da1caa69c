"""Sizes in words."""

from __future__ import annotations

from shardprep.core.quantity import size_words


def test_a_size_is_said_in_the_unit_below_1024() -> None:
    assert [size_words(size) for size in (0, 1023, 1536, 5 << 30, 3 << 40)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB", "3.0 TiB"]
