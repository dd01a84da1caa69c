"""What the tests of refusing stores and disks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.commands import Place
from tests.hostile.five_videos import make_five, make_undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the tars that a run without faults makes."""
    return make_undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Five good videos, two to a shard."""
    return make_five(tmp_path / "place")
