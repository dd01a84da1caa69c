"""A few letters of an expression cannot take any memory or time."""

from __future__ import annotations

import time

import pytest

from shardprep.errors import RecipeError
from shardprep.expressions.query import Query, evaluate


@pytest.mark.parametrize(
    "expression",
    [
        "len(range(1000000000)) > 1",
        "len(RANGE(1, meta.n)) > 1",
        "generate_series(1, 25000000) IS NOT NULL",
        "len(repeat('x', 1000000000)) > 1",
        "len('x'.repeat(1000000000)) > 1",
        "len(list_resize([1], 1000000000)) > 1",
        "len(array_resize([1], 1000000000)) > 1",
        "len([x for x in range(1000000000)]) > 1",
        "len(list_transform([1], lambda x: range(1000000000))) > 1",
        "unnest([1, 2]) > 1",
        "len(lpad('x', 1000000000, 'y')) > 1",
        "len(rpad('x', meta.n, 'y')) > 1",
        "len('x'.rpad(10 ** 9, 'y')) > 1",
        "len(format('{:>1000000000}', 'x')) > 1",
        "len(format('{:>{}}', 'x', 1000000000)) > 1",
        "len(format('{0:>{1}}', 'x', 1000000000)) > 1",
        "len(format(meta.pattern, 'x')) > 1",
        "len(printf('%1000000000d', 1)) > 1",
        "len(printf('%*d', 1000000000, 1)) > 1",
        "len(printf('%' || '1000000000d', 1)) > 1",
        "len(list_reduce(meta.words, lambda x, y: x || x)) > 1",
        "len(REDUCE(['a', 'b'], lambda x, y: x || x || y)) > 1",
        "len(array_reduce(['a', 'b'], lambda x, y: x || x)) > 1",
    ],
)
def test_what_makes_many_values_of_few_letters_is_refused(expression: str) -> None:
    begun = time.monotonic()
    with pytest.raises(RecipeError, match=r"is refused|written out"):
        Query(expression)
    assert time.monotonic() - begun < 5


def test_padding_and_formats_of_a_known_width_stand() -> None:
    padded = "lpad(key, 6, '0') = '0000ab' AND rpad(key, 3, '-') = 'ab-'"
    formatted = "format('{:>4}|{}', key, 1) = '  ab|1' AND printf('%04d', 7) = '0007'"
    assert evaluate(f"{padded} AND {formatted}", [{"key": "ab"}]) == [True]
