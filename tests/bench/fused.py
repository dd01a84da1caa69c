"""Four scorers in one pass against the same four in passes of their own, and against one decode and their own compute."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import av

from shardprep.api import open_set
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage, Worker, stage_name
from shardprep.driver.model import RunOptions, RunSummary
from shardprep.driver.run import run
from shardprep.media.decode import decode_frames
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.score_exposure import ScoreExposure
from shardprep.stages.score_flow import ScoreFlow
from shardprep.stages.score_sharpness import ScoreSharpness
from tests.bench.footage import ordinary_videos
from tests.bench.measure import Cost, claimed, compare, emptied, machine, take_turns
from tests.bench.stages import ScoreColour

WORKERS = 2
FUSED, SEPARATE, ALONE = "one pass", "four passes", "one decode + compute alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small videos, once: shows that the program works, not how fast ours is")
    parser.add_argument("--flow-runs", type=int, default=ScoreFlow().num_runs, help="`num_runs` of score_flow, which has most to compute")
    options = parser.parse_args()
    scorers = (ScoreFlow(num_runs=options.flow_runs), ScoreSharpness(), ScoreExposure(), ScoreColour())
    place = emptied(claimed("fused", options.quick))
    clips = Pass(name="clips", stages=(DetectScenes(), CutClips()))
    recipe = _recipe(place, ordinary_videos(options.quick), (clips,))
    run(recipe)
    samples = list(open_set(str(place / "out" / "clips")))
    frames = sum(sample.get("media.num_frames") for sample in samples)
    print(f"bench-fused: {len(samples)} clips, {frames} frames, {WORKERS} workers; {machine()}")
    fused = replace(recipe, steps=(clips, Pass(name="all", stages=scorers)))
    separate = replace(recipe, steps=(clips, *(Pass(name=stage_name(stage), stages=(stage,)) for stage in scorers)))
    decodes: dict[str, int] = {}
    turns = take_turns(
        {
            FUSED: lambda: _score(FUSED, fused, place, decodes),
            SEPARATE: lambda: _score(SEPARATE, separate, place, decodes),
            ALONE: lambda: _alone(place, scorers),
        },
        1 if options.quick else options.rounds,
    )
    print(f"decodes: {decodes[FUSED]} in one pass, {decodes[SEPARATE]} in four passes, of {len(samples)} clips")
    if decodes[FUSED] != len(samples):
        raise SystemExit("the fused pass did not decode every clip just once")
    other, found = compare(turns, FUSED, {SEPARATE: 0.45, ALONE: 1.2})
    print(f"the ratio is that to {other}; one of the two bounds is to be met")
    print(f"ratio {found:.3f}")


def _recipe(place: Path, videos: Sequence[Path], steps: tuple[Pass, ...]) -> Recipe:
    (place / "videos.csv").write_text("\n".join(["path", *map(str, videos)]))
    source = SourceSpec(list=str(place / "videos.csv"), samples_per_shard=1)
    return Recipe(name="bench-fused", source=source, steps=steps, output=str(place / "out"), settings=RunSettings(workers=WORKERS))


def _score(name: str, recipe: Recipe, place: Path, decodes: dict[str, int]) -> None:
    """Run the scoring steps of a recipe whose clips are there, and note the decodes."""
    for step in recipe.steps[1:]:
        shutil.rmtree(place / "out" / step.name, ignore_errors=True)
    summary: RunSummary = run(recipe, RunOptions())
    decodes[name] = sum(step.decodes for step in summary.steps)


def _alone(place: Path, scorers: Sequence[Stage]) -> Cost:
    """Return what decoding each clip once, by itself, and the scorers on frames that are there take, in as many processes."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        costs = list(pool.map(_alone_part, [place] * WORKERS, [scorers] * WORKERS, range(WORKERS)))
    return Cost(max(cost.wall for cost in costs), sum(cost.cpu for cost in costs))


def _alone_part(place: Path, scorers: Sequence[Stage], part: int) -> Cost:
    import cv2

    cv2.setNumThreads(1)
    processes = [stage.open(Worker()) for stage in scorers]
    wall = cpu = 0.0
    for sample in list(open_set(str(place / "out" / "clips")))[part::WORKERS]:
        prepared = _prepared(sample, scorers)
        started, started_cpu = time.perf_counter(), time.process_time()
        with sample.members["video"].blob.open() as file, av.open(file) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for _ in container.decode(video=0):
                pass
        for process, own in zip(processes, prepared, strict=True):
            process([own])
        wall += time.perf_counter() - started
        cpu += time.process_time() - started_cpu
    return Cost(wall, cpu)


def _prepared(sample: Sample, scorers: Sequence[Stage]) -> list[Sample]:
    """Return the sample once per scorer, with its frames."""
    wanted = [stage.frames for stage in scorers if stage.frames]
    result = decode_frames(sample.members["video"].blob, wanted)
    return [replace(sample, frames=frames) for frames in result.frames]


if __name__ == "__main__":
    main()
