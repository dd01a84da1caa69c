"""A stage from a plug-in whose optional dependency is installed nowhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLUG_IN = '''
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from shardprep.core.stage import Map

@dataclass(frozen=True, kw_only=True)
class Box:
    top: int
    left: int = 0

@dataclass(frozen=True, kw_only=True)
class ScoreLab(Map):
    """Score in the lab."""
    good: float = 0.5
    """How good."""
    steps: int = 2
    mode: Literal["quick", "slow"] = "quick"
    points: tuple[float, ...] = ()
    box: Box | None = None
    weights_by_name: Mapping[str, float] = field(default_factory=dict)
    is_on: bool = True
    accepts = ()
    writes = {"scores.lab": "double"}

    def __post_init__(self):
        if self.good > 1:
            raise ValueError(f"score_lab: good {self.good}; expected at most 1")

    def apply(self, sample):
        return sample.with_columns({"scores.lab": self.good})

@dataclass(frozen=True, kw_only=True)
class ScoreFar(Map):
    """Score with what nobody has."""
    needs = (("no_such_module_at_all", "captions"),)
    accepts = ()
    writes = {"scores.far": "double"}

    def apply(self, sample):
        return sample.with_columns({"scores.far": 1.0})
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with the stages `score_lab` and `score_far`."""
    folder = tmp_path / "site"
    info = folder / "lab_stages-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "lab_stages.py").write_text(PLUG_IN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-stages\nVersion: 1.0\n", encoding="utf-8")
    points = "[shardprep.stages]\nscore_lab = lab_stages:ScoreLab\nscore_far = lab_stages:ScoreFar\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "lab_stages", raising=False)
