"""Scenes equal those that PySceneDetect 0.7.2 finds through its own command, on real videos."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import pytest

from shardprep.core.blob import FileBlob
from shardprep.core.sample import Member, Sample
from shardprep.media.decode import decode_frames
from shardprep.media.timeline import Timeline
from shardprep.stages.detect_scenes import DetectScenes

PRESETS = {
    "v12": DetectScenes(detector="adaptive", threshold=3.0),
    "v13": DetectScenes(detector="adaptive", threshold=2.0, min_content=10.0, min_scene_frames=1),
    "mindone_content25_15": DetectScenes(detector="content", threshold=25.0, min_scene_frames=15),
}
# The OpenCV wheel decodes no frame of the AV1 file and all but the damage of the other: the reference has no true scenes of them.
NOT_DECODED_BY_THE_REFERENCE = ("av1-640x360.mkv", "corrupted-after-start.mp4")


@pytest.fixture(scope="module")
def golden(shared: Path) -> ModuleType:
    if importlib.metadata.version("scenedetect-headless") != "0.7.2":
        pytest.skip("the reference numbers are of scenedetect 0.7.2")
    sys.path.insert(0, str(shared / "golden"))
    import check_open_sora

    return check_open_sora


@pytest.mark.parametrize("preset", PRESETS)
def test_scenes_equal_the_reference(preset: str, golden: ModuleType, shared: Path) -> None:
    def scenes(path: str, name: str) -> list[list[float]]:
        found, timeline = detected(Path(path), PRESETS[name])
        start = timeline.seconds[0]
        # The reference counts from 0. It guesses where the last frame ends, from the number of frames and the average rate.
        end = golden.scenes(Path(path).name, name, "0.7.2")[-1][1]
        assert abs(found[-1][1] - start - end) < 1 / timeline.fps + 1e-3, path
        return [*([a - start, b - start] for a, b in found[:-1]), [found[-1][0] - start, end]]

    results = golden.check_scenes(scenes, preset, "0.7.2", corpus=shared / "videos", tol=1e-3, skip=NOT_DECODED_BY_THE_REFERENCE)
    assert len(results) == 22
    results.assert_ok()


def detected(path: Path, stage: DetectScenes) -> tuple[list[tuple[float, float]], Timeline]:
    blob = FileBlob(str(path), 0, path.stat().st_size)
    watcher = stage.watch(Sample("key", {}, {"video": Member(path.suffix[1:], blob)}))
    timeline = decode_frames(blob, [stage.frames], {0: watcher.see}).timeline
    sample = watcher.finish().sample
    return list(zip(sample.get("scenes.starts"), sample.get("scenes.ends"), strict=True)), timeline
