"""What all tests share: no hub, few threads, and where the reference material lies."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.driver.made import Made

# Before any test imports a library that reads them; worker processes inherit them.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# Tiny models and digests of weights go beside the other things that are made, not into the home folder.
os.environ.setdefault("SHARDPREP_CACHE", str(Path(__file__).parent.parent / "build" / "test-cache"))

# What a script runs in the background ignores Ctrl-C, and so would all that tests start and press it for.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machines that run this are shared: an example's time says nothing.
settings.register_profile("shardprep", deadline=None, max_examples=50)
settings.load_profile("shardprep")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """The folder of real videos and reference numbers beside the repository; tests that need it are skipped where it is absent."""
    folder = root.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is not there")
    return folder


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An output that is made once, for `made` to copy."""
    from tests.driver.made import make_first

    return make_first(tmp_path_factory.mktemp("first"))


@pytest.fixture
def made(first: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A copy of the first run's output and sources, whose stages note their calls."""
    from tests.driver.stages import LOG

    copied = first.copy(tmp_path)
    monkeypatch.setenv(LOG, str(copied.log))
    return copied
