"""`on_corrupt: keep` holds for every stage that looks at a video, also for those that decode by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.driver.run import run
from shardprep.recipe.model import Pass, Recipe, RunSettings
from shardprep.shards.join import open_view
from shardprep.sources.spec import SourceSpec
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.probe_media import ProbeMedia
from shardprep.testing import videos


@pytest.mark.parametrize("on_corrupt", ["keep", "fail"])
def test_a_damaged_and_a_torn_video_become_clips_where_they_are_kept(on_corrupt: str, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    torn = videos.numbered(96, container="matroska", key_every=12)
    (folder / "damaged.mp4").write_bytes(videos.damaged())
    (folder / "torn.mkv").write_bytes(torn[: len(torn) * 7 // 10])
    (folder / "whole.mp4").write_bytes(videos.still())
    recipe = Recipe(
        name="kept",
        source=SourceSpec(videos=str(folder)),
        output=str(tmp_path / "out"),
        settings=RunSettings(workers=1, on_corrupt=on_corrupt, max_failed=3),
        steps=(Pass(name="clips", stages=(ProbeMedia(), DetectScenes(), CutClips(preset="ultrafast"))),),
    )
    summary = run(recipe).steps[-1]
    names = {sample.get("source.path") for sample in open_view(str(tmp_path / "out" / "clips"))}
    if on_corrupt == "keep":
        assert names == {"damaged.mp4", "torn.mkv", "whole.mp4"}
        assert not summary.failed
    else:
        assert names == {"whole.mp4"}
        assert summary.failed == {"decode-error": 1, "truncated": 1}
