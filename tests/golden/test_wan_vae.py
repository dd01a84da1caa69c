"""Our Wan VAE against OmniVideo's numbers."""

from __future__ import annotations

import importlib
from functools import cache

import pytest

pytest.importorskip("diffusers")

from shardprep.models.vae import load_vae, normalise, pixels_to_float


@cache
def _vae(folder):
    return load_vae(folder, "cpu")


@pytest.fixture
def checker(shared, monkeypatch):
    if not (shared / "golden").is_dir():
        pytest.skip("../shared/golden is not there")
    monkeypatch.syspath_prepend(str(shared / "golden"))
    return importlib.import_module("check_wan_vae")


def test_pixels(checker):
    assert len(checker.check_pixels(pixels_to_float).assert_ok()) == 8


def test_raw_mean_and_normalised(checker):
    checker.check_encode(lambda folder, x: _vae(folder).encode(x[None], "normalised")[0]).assert_ok()
    checker.check_encode(lambda folder, x: _vae(folder).encode(x[None], "mean")[0], normalised=False).assert_ok()


def test_normalisation_to_the_bit(checker):
    checker.check_normalise(normalise).assert_ok()


def test_lengths_that_lose_frames(checker):
    checker.check_rejects_bad_length(lambda folder, x: _vae(folder).encode(x[None], "normalised")[0]).assert_ok()
