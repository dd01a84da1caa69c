"""The tool behind `make mutants`: it draws alike for a seed, leaves annotations alone, and tells caught changes from others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import mutants


@pytest.fixture
def little_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one function and one test that looks at half of it."""
    (tmp_path / "shardprep/core").mkdir(parents=True)
    (tmp_path / "tests/core").mkdir(parents=True)
    for room in ("shardprep", "shardprep/core"):
        (tmp_path / room / "__init__.py").touch()
    lines = ["from __future__ import annotations", "", "", "def larger(a: int | None, b: int) -> int | None:"]
    lines += ["    if b > 10:", "        return a", "    return b + 1", ""]
    (tmp_path / "shardprep/core/thing.py").write_text("\n".join(lines))
    (tmp_path / "tests/core/test_thing.py").write_text(
        "from shardprep.core.thing import larger\n\n\ndef test_it():\n    assert larger(1, 2) == 3\n"
    )
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    return tmp_path


def changes(tree: Path) -> list[mutants.Mutant]:
    return list(mutants.mutants_of(tree / "shardprep/core/thing.py"))


def test_annotations_are_left_alone(little_tree: Path) -> None:
    assert {change.line for change in changes(little_tree)} == {5, 7}


def test_a_type_alias_is_left_alone() -> None:
    spans = list(mutants.annotation_spans(ast.parse("Fate = int | None\nx: int | str = 1\ny = 1 + 2\n")))
    assert [first[0] for first, _ in spans] == [1, 2]


def test_a_sample_is_the_same_for_a_seed(little_tree: Path) -> None:
    assert mutants.draw(["core"], 2, seed=3) == mutants.draw(["core"], 2, seed=3)
    assert len(mutants.draw(["core"], 2, seed=3)) == 2


def test_what_a_test_notices_is_caught_and_the_file_is_as_before(little_tree: Path) -> None:
    before = (little_tree / "shardprep/core/thing.py").read_text()
    sums = [change for change in changes(little_tree) if change.line == 7 and change.operator == "core/ReplaceBinaryOperator_Add_Mul"]
    assert mutants.caught_by(little_tree, sums[0]) == "tests/core/test_thing.py"
    assert (little_tree / "shardprep/core/thing.py").read_text() == before


def test_what_no_test_looks_at_is_not_caught(little_tree: Path) -> None:
    limits = [change for change in changes(little_tree) if change.line == 5 and change.operator == "core/ReplaceComparisonOperator_Gt_GtE"]
    assert mutants.caught_by(little_tree, limits[0]) == ""
    assert "+    if b >= 10:" in limits[0].diff()


def test_a_change_that_never_ends_is_caught(little_tree: Path) -> None:
    (little_tree / "tests/core/test_thing.py").write_text("import time\n\n\ndef test_it():\n    time.sleep(60)\n")
    assert not mutants.passes(little_tree, ["tests/core/test_thing.py"], seconds=1)
