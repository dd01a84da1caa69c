"""Comparisons that make no sense for the declared types are found before anything runs; of unknown types only what none could mend."""

from __future__ import annotations

import pytest

from shardprep.core.stage import ColumnType
from shardprep.errors import RecipeError
from shardprep.expressions.condition import check_condition, check_order

TYPES: dict[tuple[str, ...], ColumnType | None] = {
    ("media", "codec"): "string",
    ("media", "height"): "int64",
    ("media", "is_hdr"): "bool",
    ("scores", "flow"): "double",
    ("per_frame", "flow"): "list<double>",
    ("meta", "views"): None,
    ("meta", "title"): None,
}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("media.codec = 264", ["takes text for a number", "media.codec is text"]),
        ("media.codec > 1.5", ["media.codec is text"]),
        ("media.height < '360p'", ["'360p'", "media.height is a whole number"]),
        ("Media['HEIGHT'] < '360p'", ["'360p'", "Media.HEIGHT is a whole number"]),
        ("media.height >= 720 AND media.height < '360p'", ["'360p'"]),
        ("media.height IN (360, '720p')", ["'720p'"]),
        ("media.is_hdr = 'maybe'", ["'maybe'", "media.is_hdr is true or false"]),
        ("media.codec = true", ["takes text for a number, a date or a truth value"]),
        ("media.height > 3 AND media.codec", ["takes text for"]),
        ("media.codec", ["gives string, expected true or false"]),
        ("scores.flow + 1", ["gives double, expected true or false"]),
        ("per_frame.flow > 3", ["per_frame.flow is a list of numbers"]),
        ("list_contains(per_frame.flow, 'a')", ["'a'"]),
        ("scores['flow'] = 'high'", ["'high'", "scores.flow is a number"]),
        ("sqrt(media.codec) > 2", ["sqrt"]),
        ("meta.views > 3 AND media.codec = 264", ["media.codec is text"]),
        ("media.codec > date '2020-01-01'", ["VARCHAR"]),
    ],
)
def test_nonsense_is_told_with_the_types(expression: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        check_condition(expression, TYPES)
    assert repr(expression) in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert "some text" not in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "media.codec = 'h264' OR media.codec IN ('hevc', 'av1')",
        "media.height < '360' AND media.is_hdr = 'false'",
        "media.codec::INT > 3 OR TRY_CAST(media.codec AS DOUBLE) > 1",
        "media.height / media.height > 1.5 AND NOT media.is_hdr",
        "len(list_filter(per_frame.flow, lambda v: v > scores.flow)) > 2 AND per_frame.flow[1] > 0",
        "meta.views > 3 AND meta.title LIKE '%cat%'",
        "meta.views = 'many' OR meta.views = 3",
        "meta.views AND meta.title[1] = 'a'",
        "meta.views",
        "coalesce(scores.flow, 0) > 1 AND coalesce(meta.title, 'none') <> 'none'",
        "scores.flow IS NULL",
        "strptime(media.codec, '%Y') > timestamp '2020-01-01'",
        "date '2020-01-01' < meta.title::DATE",
        "nextafter(media.height::DOUBLE, 1) > 1 OR factorial(media.height::INT + 100) > 1",
        "true",
        "struct_keys(scores) = ['flow']",
    ],
)
def test_sense_is_let_through(expression: str) -> None:
    check_condition(expression, TYPES)


def test_an_order_is_checked_too() -> None:
    check_order("scores.flow DESC, media.codec, meta.views + 1", TYPES)
    with pytest.raises(RecipeError, match=r"order 'scores.flow, media.codec \* 2'.*media.codec is text"):
        check_order("scores.flow, media.codec * 2", TYPES)
