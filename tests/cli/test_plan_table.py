"""The table of a plan in 80 columns: the steps can be told apart."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from shardprep.cli.plan_table import shortened, table_of
from shardprep.driver.model import StepPlan

NAMES = ("raw", "clips", "scores", "good", "captions", "captions_in_german", "captions_in_french", "train")


def lines(width: int, **numbers: int | dict[str, int]) -> list[str]:
    steps = [
        StepPlan(
            name=name,
            kind="pass",
            **{"done": 3, "new": 0, "stale": 0, "follows": 0, **numbers},
            reasons=(),
            num_bytes=5 << 20,
            seconds_estimate=90.0,
        )
        for name in NAMES
    ]
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(table_of(steps, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_what_failed_is_a_column_only_where_something_did() -> None:
    assert not {"dropped", "failed"} & set(lines(200)[0].split())
    head, _, *rows = lines(80, dropped={"where": 2, "too-short": 3}, failed={"error": 7})
    assert head.split() == ["step", "kind", "done", "dropped", "failed", "there"]
    assert {tuple(row.split()[2:5]) for row in rows} == {("3", "5", "7")}
    head, _, *rows = lines(120, dropped={"where": 2}, children_dropped={"too-short": 3}, children_failed={"error": 1})
    assert head.split()[:9] == ["step", "kind", "done", "dropped", "children", "dropped", "children", "failed", "there"]
    assert {tuple(row.split()[2:6]) for row in rows} == {("3", "2", "3", "1")}


def test_empty_columns_go_before_a_name_is_cut() -> None:
    head, _, *rows = lines(80)
    assert head.split() == ["step", "kind", "done", "there"]
    assert [row.split()[0] for row in rows] == list(NAMES)


def test_where_there_is_room_nothing_goes() -> None:
    head, _, *rows = lines(160)
    assert head.split() == ["step", "kind", "done", "stale", "new", "follow", "samples", "there", "to", "come", "worker", "time"]
    assert [row.split()[0] for row in rows] == list(NAMES)


def test_long_names_lose_their_middle_and_stay_apart() -> None:
    head, _, *rows = lines(80, new=2)
    assert head.split()[:3] == ["step", "kind", "done"]
    firsts = [row.split()[0] for row in rows]
    assert len(rows) == len(set(firsts)) == len(NAMES), "a line per step"
    assert firsts[:5] == list(NAMES[:5])
    assert firsts[5].startswith("capt")
    assert "…" in firsts[5]
    assert all(len(line) <= 80 for line in lines(80, new=2))


@pytest.mark.parametrize(
    ("names", "longest", "short"),
    [
        (["abcdefghij", "ab"], 6, ("abc…ij", "ab")),
        (["abc-x-def", "abc-y-def"], 6, ("abc-x-def", "abc-y-def")),
        (["same", "same"], 2, ("s…", "s…")),
    ],
)
def test_a_name_is_shortened_in_the_middle(names: list[str], longest: int, short: tuple[str, ...]) -> None:
    assert shortened(names, longest) == short


@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, unique=True), st.integers(3, 12))
def test_names_that_differ_differ_when_shortened(names: list[str], longest: int) -> None:
    assert len(set(shortened(names, longest))) == len(names)
