"""The tool behind `make mutants`: it draws alike for a seed, leaves annotations alone, and tells caught changes from others."""

from __future__ import annotations

import ast
import shutil
import time
from collections.abc import Sequence
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
    monkeypatch.setattr(mutants, "_maps", {})
    shutil.copy(Path(mutants.__file__).with_name("executed.py"), tmp_path / "tests")
    return tmp_path


def changes(tree: Path) -> list[mutants.Mutant]:
    return list(mutants.mutants_of(tree, tree / "shardprep/core/thing.py"))


def one_change(tree: Path, line: int, operator: str) -> mutants.Mutant:
    return next(change for change in changes(tree) if change.line == line and change.operator == f"core/{operator}")


def fate(tree: Path, change: mutants.Mutant) -> mutants.Fate:
    """The fate of a change, in two copies of the little tree."""
    return mutants.fate_of(change, mutants.Tree.copied("0"), mutants.Tree.copied("unchanged"))


def test_annotations_are_left_alone(little_tree: Path) -> None:
    assert {change.line for change in changes(little_tree)} == {5, 7}


def test_a_type_alias_is_left_alone() -> None:
    spans = list(mutants.annotation_spans(ast.parse("Fate = int | None\nx: int | str = 1\ny = 1 + 2\n")))
    assert [first[0] for first, _ in spans] == [1, 2]


def test_a_sample_is_the_same_for_a_seed(little_tree: Path) -> None:
    assert mutants.draw(little_tree, ["core"], 2, seed=3) == mutants.draw(little_tree, ["core"], 2, seed=3)
    assert len(mutants.draw(little_tree, ["core"], 2, seed=3)) == 2


def test_what_the_operator_cannot_change_is_not_drawn(little_tree: Path) -> None:
    code = "import os\ntry:\n    pass\nexcept (os.error, ValueError):\n    pass\n"
    (little_tree / "shardprep/core/thing.py").write_text(code)
    assert {(change.line, change.operator) for change in changes(little_tree)} == {(4, "core/ExceptionReplacer")}
    assert all(mutant.code(code) for mutant in mutants.draw(little_tree, ["core"], 2, seed=0))


def test_what_a_test_notices_is_caught_and_the_file_is_as_before(little_tree: Path) -> None:
    before = (little_tree / "shardprep/core/thing.py").read_text()
    found = fate(little_tree, one_change(little_tree, 7, "ReplaceBinaryOperator_Add_Mul"))
    assert str(found) == "caught by tests/core/test_thing.py::test_it"
    assert (little_tree / "build/mutants/0/shardprep/core/thing.py").read_text() == before


def test_what_no_test_looks_at_is_not_caught(little_tree: Path) -> None:
    limit = one_change(little_tree, 5, "ReplaceComparisonOperator_Gt_GtE")
    assert str(fate(little_tree, limit)) == "NOT CAUGHT by 1 tests"
    assert "+    if b >= 10:" in limit.diff((little_tree / "shardprep/core/thing.py").read_text())


def test_only_the_tests_that_come_by_are_asked_in_processes_and_shared_fixtures_too(little_tree: Path) -> None:
    (little_tree / "tests/core/test_thing.py").write_text(
        "import subprocess\nimport sys\n\nimport pytest\n\nCODE = 'from shardprep.core.thing import larger; larger(11, 12)'\n\n\n"
        "def test_elsewhere():\n    pass\n\n\n"
        "def test_in_a_process():\n    subprocess.run([sys.executable, '-c', CODE], check=True)\n\n\n"
        "@pytest.fixture(scope='module')\ndef made():\n    from shardprep.core.thing import larger\n\n    return larger(1, 2)\n\n\n"
        "def test_first(made):\n    pass\n\n\ndef test_second(made):\n    pass\n"
    )
    executed = mutants.map_of(little_tree, ["tests/core"], little_tree / "build/map")
    names = {
        line: {test.rpartition("::")[2] for test in executed.of("shardprep/core/thing.py", range(line, line + 1))} for line in (5, 6, 7)
    }
    assert names == {5: {"test_in_a_process", "test_first", "test_second"}, 6: {"test_in_a_process"}, 7: {"test_first", "test_second"}}


def test_of_a_compound_statement_the_head_is_asked_and_at_import_the_whole_file() -> None:
    code = "SIZE = 3\n\ndef f(a=1):\n    for x in (\n        a\n    ):\n        x = 1\n    return x\n"
    asked = [mutants.lines_asked(code, line) for line in (1, 3, 5, 7)]
    assert asked == [None, None, range(4, 7), range(7, 8)]


class Late(mutants.Tree):
    """A tree whose tests never end."""

    def failed(self, tests: Sequence[str], seconds: float, *, all_of_them: bool = False) -> list[str]:
        time.sleep(min(seconds, 0.3))
        raise TimeoutError(f"no end after {seconds:.0f} s")


class Quick(mutants.Tree):
    """A tree whose tests pass at once."""

    def failed(self, tests: Sequence[str], seconds: float, *, all_of_them: bool = False) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("unchanged", "limit", "word"),
    [(Quick, 60, "caught by time"), (Late, 0.3, "undecided")],
    ids=["only with the change", "on this machine"],
)
def test_tests_that_do_not_end_are_a_catch_only_where_they_end_without_the_change(
    tmp_path: Path, unchanged: type[mutants.Tree], limit: float, word: str
) -> None:
    found = mutants.tried_on(["tests/core/test_thing.py"], Late(tmp_path), unchanged(tmp_path), limit)
    assert found is not None
    assert found.word == word


def test_tests_that_do_not_end_are_ended(little_tree: Path) -> None:
    (little_tree / "tests/core/test_thing.py").write_text("import time\n\n\ndef test_it():\n    time.sleep(600)\n")
    with pytest.raises(TimeoutError, match="no end after 3 s"):
        mutants.Tree.copied("0").failed(["tests/core/test_thing.py"], seconds=3)


def test_a_test_that_fails_by_itself_has_caught_nothing(little_tree: Path) -> None:
    """On a busy machine: it passed when it was first asked, and fails without the change at the end."""
    unchanged = mutants.Tree.copied("unchanged")
    (unchanged.folder / "tests/core/test_thing.py").write_text("def test_it():\n    assert False\n\n\ndef test_other():\n    pass\n")
    first, second = changes(little_tree)[:2]
    fates = {
        first: mutants.Fate("caught by", "tests/core/test_thing.py::test_it"),
        second: mutants.Fate("caught by", "tests/core/test_thing.py::test_other"),
    }
    assert mutants.not_sure(unchanged, fates) == {first: mutants.Fate("undecided", "tests/core/test_thing.py::test_it")}
