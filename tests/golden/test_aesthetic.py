"""Our aesthetic score and the frames it looks at against Open-Sora's."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("torch")

from shardprep.core.frames import Fractions, select_frames
from shardprep.models.aesthetic import make_head, pool

POINTS = {"aes1": (0.5,), "aes2": (0.25, 0.5), "aes3": (0.1, 0.5, 0.9), "match": (0.5,)}


@pytest.fixture
def checker(shared, monkeypatch):
    if not (shared / "golden").is_dir():
        pytest.skip("../shared/golden is not there")
    monkeypatch.syspath_prepend(str(shared / "golden"))
    return importlib.import_module("check_open_sora")


def test_per_frame(checker):
    checker.check_aesthetic(lambda weights, x: make_head(weights).score(x)).assert_ok()


def test_pooled(checker):
    def pooled(weights, x, num_frames):
        return [pool(frames) for frames in make_head(weights).score(x).split(num_frames)]

    checker.check_aesthetic_pool(pooled).assert_ok()


def test_which_frames(checker):
    def frames(kind, count):
        return select_frames(Fractions(POINTS[kind]), range(count)) if kind in POINTS else []

    checked = [row for row in checker.check_frame_points(frames) if row["name"] in POINTS]
    assert [row["name"] for row in checked if row["ok"]] == list(POINTS)
