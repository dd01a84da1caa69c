"""The code of a stage of one's own has a digest that follows what its module and its package do, and nothing else."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardprep.core.code import changed_codes, code_digest, codes_of
from shardprep.stages.score_flow import ScoreFlow
from tests.driver.stages import Costly, Number

STAGE = """
from dataclasses import dataclass

from shardprep.core.stage import Stage
from {package}.inner import measure
import {package}.sub


@dataclass(frozen=True, kw_only=True)
class ScoreMine(Stage):
    def process(self, batch):
        return measure(batch)
"""

FILES = {
    "__init__.py": "",
    "stage.py": STAGE,
    "inner.py": "from .sub import deep\n\ndef measure(batch):\n    return deep.of(batch) * 2\n",
    "sub/__init__.py": "",
    "sub/deep.py": "def of(batch):\n    return 3\n",
    "other.py": "unused = 1\n",
}

_numbers = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a stage; its name is another in every test, as modules stay imported."""
    name = f"mine_{next(_numbers)}"
    folder = tmp_path / name
    (folder / "sub").mkdir(parents=True)
    for path, text in FILES.items():
        (folder / path).write_text(text.replace("{package}", name))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def digest_of(folder: Path) -> str | None:
    return code_digest(importlib.import_module(f"{folder.name}.stage").ScoreMine)


@pytest.mark.parametrize(
    ("path", "old", "new", "is_other"),
    [
        ("stage.py", "measure(batch)", "measure(batch)[:]", True),
        ("inner.py", "* 2", "* 3", True),
        ("sub/deep.py", "3", "4", True),
        ("sub/__init__.py", "", "x = 1\n", True),
        ("other.py", "1", "2", False),
        ("inner.py", "    return", "    # why\n\n    return", False),
        ("inner.py", "* 2", "* 2  # twice  ", False),
        ("inner.py", "* 2", "* 2 + len('# 2')", True),
    ],
)
def test_a_change_counts_where_the_stage_can_reach_it(package: Path, path: str, old: str, new: str, is_other: bool) -> None:
    before = digest_of(package)
    text = (package / path).read_text()
    (package / path).write_text(text.replace(old, new, 1) if old else new)
    assert before is not None
    assert (digest_of(package) != before) == is_other


@pytest.mark.parametrize("text", ["x = (  # open\n", "if 1:\n        a  # in\n    b\n", "x = ''' never ends\n", "\x00"])
def test_a_module_that_is_no_python_counts_with_its_bytes(package: Path, text: str) -> None:
    """One that the stage imports late, for another Python, or that is being written."""
    (package / "inner.py").write_text("def measure(batch):\n    from .late import x\n    return x\n")
    (package / "late.py").write_text(text)
    before = digest_of(package)
    assert before is not None
    (package / "late.py").write_text(text + "y = 2\n")
    assert digest_of(package) != before


def test_where_the_package_lies_does_not_count(package: Path, tmp_path: Path) -> None:
    before = digest_of(package)
    (tmp_path / "elsewhere").mkdir()
    package.rename(tmp_path / "elsewhere" / package.name)
    module = sys.modules[f"{package.name}.stage"]
    module.__file__ = str(tmp_path / "elsewhere" / package.name / "stage.py")
    assert code_digest(module.ScoreMine) == before


def test_our_own_stages_have_a_version_and_no_digest() -> None:
    assert code_digest(ScoreFlow) is None
    assert set(codes_of([ScoreFlow(), Number(), Costly()])) == {"number", "costly"}


def test_a_class_without_source_has_none() -> None:
    namespace: dict[str, object] = {"__name__": "nowhere"}
    exec("from shardprep.core.stage import Stage\nclass Made(Stage): pass", namespace)  # noqa: S102 - a class as `python -` makes it
    assert code_digest(namespace["Made"]) is None  # type: ignore[arg-type] # a class


def test_only_a_known_other_digest_is_a_change() -> None:
    assert changed_codes({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b"]
    assert changed_codes({}, {"a": "1"}) == []
