"""Small videos, and a way through the stages of a pass without shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage, Worker
from shardprep.runtime.item import Item, Work
from shardprep.runtime.journal import Journal
from shardprep.runtime.pipeline import run_stages
from shardprep.runtime.task import WorkSettings
from shardprep.testing.videos import Shot, draw, encode

Through = Callable[..., list[Item]]


@pytest.fixture(scope="session")
def clips() -> list[Sample]:
    """Twelve different videos of a second, 48x64, ten frames each."""
    videos = [encode(draw([Shot(seconds=1, px_per_second=20, seed=seed)], height=48, width=64, fps=10), fps=10) for seed in range(12)]
    return [
        Sample(f"k{number:02d}", {"source": {"name": f"v{number}.mp4"}}).with_member("mp4", BytesBlob(v)) for number, v in enumerate(videos)
    ]


@pytest.fixture
def through() -> Through:
    """Run stages over samples in this process, to the end."""

    def run(stages: Sequence[Stage], samples: Iterable[Sample], work: Work | None = None, **settings: int) -> list[Item]:
        work = work or Work(WorkSettings(**settings), Journal(None))
        processes = {id(stage): stage.open(Worker()) for stage in stages}
        with work:
            return list(run_stages(stages, processes, (Item(sample.key, sample) for sample in samples), work))

    return run
