"""An output that is made once for all tests of the driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.driver.made import Made, make_first
from tests.driver.stages import LOG


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_first(tmp_path_factory.mktemp("first"))


@pytest.fixture
def made(first: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy of the first run's output and sources, whose stages note their calls."""
    copied = first.copy(tmp_path)
    monkeypatch.setenv(LOG, str(copied.log))
    return copied
