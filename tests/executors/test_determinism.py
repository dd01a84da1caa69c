"""Batches are a function of the shard and the settings: not of the number of workers, nor of how fast anything is."""

from __future__ import annotations

from pathlib import Path

from shardprep.testing.videos import Shot, draw, encode
from tests.fates import run_over, scores
from tests.runtime.stages import DropOdd, TellBatch, WatchHash


def test_runs_with_one_and_two_workers_give_the_same_tars(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for number in range(14):
        video = encode(draw([Shot(seconds=0.3, px_per_second=30, seed=number)], height=48, width=64))
        (tmp_path / "videos" / f"v{number:02d}.mp4").write_bytes(video)
    tars = []
    for workers in (1, 2):
        output = tmp_path / f"out-{workers}"
        run_over(tmp_path / "videos", output, WatchHash(), DropOdd(), TellBatch(batch_size=2), samples_per_shard=7, workers=workers)
        tars.append({path.name: path.read_bytes() for path in sorted((output / "work").glob("*.tar"))})
    # Each tells who was in whose batch, and what the frames were.
    assert len(tars[0]) == 2
    assert tars[0] == tars[1]
    assert sorted(scores(tmp_path / "out-1", "batch").values()) == [1, 2, 2, 2, 2, 2, 2], "seven of fourteen are dropped"
