"""What all tests share: no hub, few threads, and where the reference material lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test imports a library that reads them; worker processes inherit them.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
# Tiny models and digests of weights go beside the other things that are made, not into the home folder.
os.environ.setdefault("SHARDPREP_CACHE", str(Path(__file__).parent.parent / "build" / "test-cache"))

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
