"""Runs in the test's own process, for properties of thousands of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from shardprep.executors import local


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let tasks run one after the other in this process, as those of a notebook do, and let nobody wait for the disk."""
    monkeypatch.setattr(local, "needs_main", lambda task, step: True)
    monkeypatch.setattr(local, "is_importable_again", lambda: False)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    # A worker collects its garbage when it opens stages; here that would go through all of pytest's objects each time.
    gc.freeze()
    yield
    gc.unfreeze()
