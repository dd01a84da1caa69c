"""Detect and cut, two files at a time: ours against PySceneDetect's own command, and against one decode, detection and x264 alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from shardprep.api import open_set
from tests.bench import alone
from tests.bench.footage import ordinary_videos, own_videos
from tests.bench.measure import claimed, command, compare, emptied, machine, take_turns, timed

CRF, PRESET, THREADS, FILES_AT_A_TIME = 18, "veryfast", 1, 2
GOP_FRAMES = 25
"""A key frame every second of the generated videos, as `cut_clips` has by default; ffmpeg's default of 250 takes x264 a tenth less time."""
OURS, THEIRS, ALONE = "shardprep", "scenedetect", "decode+detect+x264 alone"
OURS_COPY, ALONE_COPY = "shardprep copy", "decode+detect alone"
FFMPEG_ARGS = f"-map 0:v:0 -c:v libx264 -preset {PRESET} -crf {CRF} -g {GOP_FRAMES} -threads {THREADS} -an"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="videos of your own; default: generated ones")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small videos, once: shows that the program works, not how fast ours is")
    options = parser.parse_args()
    place = claimed("cut", options.quick)
    rounds = 1 if options.quick else options.rounds
    videos = own_videos(options.folder) if options.folder else ordinary_videos(options.quick)
    long_videos = own_videos(options.folder) if options.folder else ordinary_videos(options.quick, repeats=3)
    encoding = f"crf {CRF}, {PRESET}, a key frame at least every {GOP_FRAMES} frames, {THREADS} thread of x264"
    print(f"bench-cut: {len(videos)} videos, {FILES_AT_A_TIME} at a time, {encoding}; {machine()}")
    fixed = timed(lambda: ours(ordinary_videos(quick=True), emptied(place / "ours")))
    print(f"of which a run takes {fixed.wall:.2f} s wall whatever it does: starting, importing, committing (measured on videos of 3 s)")
    turns = take_turns(
        {
            OURS: lambda: ours(videos, emptied(place / "ours")),
            THEIRS: lambda: theirs(videos, emptied(place / "theirs")),
            ALONE: lambda: alone.run(videos, emptied(place / "alone"), FILES_AT_A_TIME, alone.Encoding(CRF, PRESET, GOP_FRAMES, THREADS)),
        },
        rounds,
    )
    _compare_clips(place)
    copies = take_turns(
        {
            OURS_COPY: lambda: ours(long_videos, emptied(place / "ours"), mode="copy"),
            ALONE_COPY: lambda: alone.run(long_videos, emptied(place / "alone"), FILES_AT_A_TIME, None),
        },
        rounds,
    )
    compare(copies, OURS_COPY, {ALONE_COPY: 1.3})
    other, found = compare(turns, OURS, {THEIRS: 0.75, ALONE: 1.25})
    print(f"the ratio is that to {other}; one of the two bounds is to be met")
    print(f"ratio {found:.3f}")


def ours(videos: Sequence[Path], place: Path, mode: str = "exact") -> None:
    """Run the command line on a recipe of the two stages."""
    cut = {"mode": mode} if mode == "copy" else {"mode": mode, "crf": CRF, "preset": PRESET}
    recipe = {
        "name": "bench-cut",
        # One video per shard, so that both workers have the same to do.
        "source": {"list": str(place / "videos.csv"), "samples_per_shard": 1},
        "output": str(place / "out"),
        "threads": THREADS,
        "workers": FILES_AT_A_TIME,
        "steps": [{"clips": ["detect_scenes", {"cut_clips": cut}]}],
    }
    (place / "videos.csv").write_text("\n".join(["path", *map(str, videos)]))
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command(sys.executable, "-m", "shardprep.cli", "run", place / "recipe.yaml")


def theirs(videos: Sequence[Path], place: Path) -> None:
    """Run PySceneDetect's command on each video, two at a time."""
    from imageio_ffmpeg import get_ffmpeg_exe

    (place / "bin").mkdir()
    (place / "bin" / "ffmpeg").symlink_to(get_ffmpeg_exe())
    program = Path(sys.executable).parent / "scenedetect"

    def split(video: Path) -> None:
        arguments = ("-i", video, "-o", place, "detect-adaptive", "split-video", "--quiet", "--args", FFMPEG_ARGS)
        command(program, "--quiet", *arguments, folder=place, path=str(place / "bin"))

    with ThreadPoolExecutor(FILES_AT_A_TIME) as threads:
        list(threads.map(split, videos))


def _compare_clips(place: Path) -> None:
    """Say how many clips and frames each made: equal work, or the ratio says nothing."""
    counts = [sample.get("media.num_frames") for sample in open_set(str(place / "ours" / "out" / "clips"))]
    found = {
        OURS: counts,
        THEIRS: [alone.count_packets(path) for path in sorted((place / "theirs").glob("*.mp4"))],
        ALONE: [alone.count_packets(path) for path in sorted((place / "alone").glob("*.mp4"))],
    }
    for name, frames in found.items():
        print(f"{name}: {len(frames)} clips, {sum(frames)} frames")
    if len({tuple(sorted(frames)) for frames in found.values()}) > 1:
        print("NOTE: the clips differ in number or length; compare the figures with that in mind")


if __name__ == "__main__":
    main()
