"""detect_scenes finds the cuts, at the times at which frames are shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from scenedetect import AdaptiveDetector, ContentDetector, ThresholdDetector, detect
from scenedetect.detector import SceneDetector

from shardprep.core.frames import Frame
from shardprep.core.stage import Stage
from shardprep.errors import RecipeError
from shardprep.media.decode import decode_frames
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.testing import videos
from tests.running import kept, run_stage, sample_of

# By presentation time. The file's README says 3.738 and 8.722: index over average rate, as PySceneDetect 0.6 counts.
REAL_CUTS = {
    "three-shots-640x360.mp4": [6.000, 9.875],
    "many-shots-portrait-362x640.mp4": [4.292, 11.000, 28.125, 29.083, 44.167, 45.458, 46.792],
    "two-shots-854x480.mp4": [8.917],
    "three-shots-320x180-two-audio.mp4": [5.080, 8.080],
    "one-shot-480x360-30fps.mp4": [],
    "one-shot-portrait-362x640.mp4": [],
    "generated-832x480-81frames-16fps.mp4": [],
    "fades.mp4": [],
    "variable-frame-rate.mp4": [3.754, 8.759],
    "unordered-pts.mov": [],
    "av1-640x360.mkv": [],
}


def scenes_of(data: bytes | Path, stage: Stage | None = None) -> list[tuple[float, float]]:
    sample = kept(run_stage(stage or DetectScenes(), sample_of(data)))
    return list(zip(sample.record["scenes"]["starts"], sample.record["scenes"]["ends"], strict=True))


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_cuts_are_found(detector: str) -> None:
    assert scenes_of(videos.three_shots(), DetectScenes(detector=detector)) == [(0, 1.5), (1.5, 2.5), (2.5, 4)]


def test_cuts_of_a_variable_rate_are_presentation_times() -> None:
    scenes = scenes_of(videos.variable_rate())
    assert [start for start, _ in scenes] == pytest.approx([0, 1.5], abs=1e-4)


def test_fades_are_found_by_the_threshold_detector() -> None:
    scenes = scenes_of(videos.fades(), DetectScenes(detector="threshold"))
    starts = [start for start, _ in scenes]
    assert len(starts) == 2
    assert starts[1] == pytest.approx(2, abs=0.15)
    early = scenes_of(videos.fades(), DetectScenes(detector="threshold", fade_bias=-1.0))[1][0]
    late = scenes_of(videos.fades(), DetectScenes(detector="threshold", fade_bias=1.0))[1][0]
    assert early < starts[1] < late


@pytest.mark.parametrize(
    ("settings", "num_scenes"),
    [
        ({"threshold": 1000.0}, 1),
        ({"min_scene_frames": 30}, 2),
        ({"min_content": 255.0}, 1),
        ({"detector": "content", "threshold": 254.0}, 1),
        ({"detector": "content", "component_weights": (0.0, 0.0, 1.0, 0.0)}, 2),
        ({"detector": "content", "luma_only": True}, 2),
        ({"detector": "content", "threshold": 5.0}, 2),
        ({"detector": "content", "threshold": 5.0, "filter_mode": "suppress"}, 6),
        ({"detector": "content", "component_weights": (0.0, 0.0, 0.0, 1.0), "threshold": 20.0, "kernel_px": 3}, 1),
        ({"detector": "content", "component_weights": (0.0, 0.0, 0.0, 1.0), "threshold": 20.0, "kernel_px": 31}, 2),
        ({"window_frames": 1, "threshold": 10.0}, 2),
        ({"window_frames": 20, "threshold": 20.0}, 1),
        ({"detector": "threshold", "threshold": 250.0, "fade_method": "ceiling"}, 1),
        ({"detector": "threshold", "min_fade_frames": 100}, 1),
    ],
)
def test_every_setting_reaches_the_detector(settings: dict[str, object], num_scenes: int) -> None:
    assert len(scenes_of(videos.three_shots(), DetectScenes(**settings))) == num_scenes


def test_lengths_and_margins() -> None:
    data = videos.three_shots()
    assert scenes_of(data, DetectScenes(min_seconds=1.2)) == [(0, 1.5), (2.5, 4)]
    assert scenes_of(data, DetectScenes(margin_seconds=0.25)) == [(0, 1.25), (1.75, 2.25), (2.75, 4)]
    assert scenes_of(data, DetectScenes(max_seconds=1)) == [(0, 1), (1, 1.5), (1.5, 2.5), (2.5, 3.5), (3.5, 4)]


@pytest.mark.parametrize("make", [videos.one_frame, videos.one_pixel, videos.still, videos.zero_duration])
def test_a_video_without_a_cut_is_one_scene(make: object) -> None:
    scenes = scenes_of(make())
    assert len(scenes) == 1
    assert scenes[0][0] == 0
    assert scenes[0][1] > 0


@pytest.mark.parametrize("settings", [{"kernel_px": 4}, {"margin_seconds": -1}, {"max_seconds": 0}, {"window_frames": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="detect_scenes"):
        DetectScenes(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"detector": "threshold", "fade_bias": 50.0}, "fade_bias is 50.0; expected -1 to 1"),
        ({"detector": "threshold", "fade_bias": -1.5}, "fade_bias is -1.5; expected -1 to 1"),
        ({"component_weights": (0.0, 0.0, 0.0, 0.0)}, "component_weights is [0.0, 0.0, 0.0, 0.0]; expected one weight above 0"),
        ({"component_weights": (-1.0, 0.0, 0.0, 2.0)}, "component_weights is (-1.0, 0.0, 0.0, 2.0); expected at least 0"),
        ({"threshold": -3.0}, "threshold is -3.0; expected at least 0"),
        ({"detector": "content", "threshold": 300.0}, "threshold is 300.0; with detector: content expected 0 to 255"),
        ({"min_content": -1.0}, "min_content is -1.0; expected 0 to 255"),
        ({"max_seconds": 1e-9}, "max_seconds is 1e-09; expected at least 0.01"),
        ({"fade_bias": 0.5}, "fade_bias is 0.5, which detector: adaptive does not look at; leave it out, or say detector: threshold"),
        (
            {"detector": "threshold", "luma_only": True},
            "luma_only is True, which detector: threshold does not look at; leave it out, or say detector: adaptive or content",
        ),
    ],
)
def test_what_a_detector_cannot_use_is_refused_with_what_came(settings: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        DetectScenes(**settings)
    assert str(caught.value).startswith(f"detect_scenes: {said}")


@pytest.mark.parametrize("name", REAL_CUTS)
def test_cuts_of_real_videos(name: str, shared: Path) -> None:
    scenes = scenes_of(shared / "videos" / name)
    assert [start for start, _ in scenes[1:]] == pytest.approx(REAL_CUTS[name], abs=6e-4)
    assert [end for _, end in scenes[:-1]] == [start for start, _ in scenes[1:]]


def test_real_fades_are_found_by_the_fade_detector(shared: Path) -> None:
    assert len(scenes_of(shared / "videos" / "fades.mp4", DetectScenes(detector="threshold"))) > 1


def test_the_last_scene_of_a_damaged_video_ends_with_its_last_good_frame() -> None:
    sample, stage, seen = sample_of(videos.damaged()), DetectScenes(), []
    watcher = stage.watch(sample)

    def see(frame: Frame) -> None:
        seen.append(frame.seconds)
        watcher.see(frame)

    decode_frames(sample.members["video"].blob, [stage.frames], {0: see}, on_corrupt="keep")
    assert 1.5 < seen[-1] < 3
    ends = kept(watcher.finish()).record["scenes"]["ends"]
    assert ends[-1] == pytest.approx(seen[-1] + 1 / 24)
    whole = kept(run_stage(stage, sample_of(videos.three_shots()))).record["scenes"]["ends"]
    assert whole[-1] == pytest.approx(4)


def test_a_late_start_stays_late(shared: Path) -> None:
    scenes = scenes_of(shared / "videos" / "delayed-start.mp4")
    assert scenes == [(pytest.approx(1.075), pytest.approx(2.035))]


# Two tests of picture and a fractal, joined by fades.
FADES = {
    "black.mp4": "[0]fade=out:50:25[a];[1]trim=0:3,fade=in:0:25,fade=out:50:25[b];[2]fade=in:0:25[c];[a][b][c]concat=n=3",
    "white.mp4": "[0]fade=out:50:25:color=white[a];[1]trim=0:3,fade=in:0:25:color=white[b];[2]null[c];[a][b][c]concat=n=3",
    "blended.mp4": "[1]trim=0:4[b];[2]null[c];[0][b]xfade=duration=1:offset=2,fps=25[a];[a][c]concat=n=2",
}


@pytest.fixture(scope="module")
def faded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fades")
    sources = "-f lavfi -i testsrc2=s=320x240:r=25:d=3 -f lavfi -i mandelbrot=s=320x240:r=25 -f lavfi -i testsrc=s=320x240:r=25:d=3"
    for name, graph in FADES.items():
        joined = ["-filter_complex", graph, "-c:v", "libx264", "-qp", "12", str(folder / name)]
        subprocess.run(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *sources.split(), *joined], check=True, timeout=120
        )
    return folder


@pytest.mark.parametrize("name", FADES)
@pytest.mark.parametrize(
    ("stage", "detector"),
    [
        (DetectScenes(detector="threshold"), lambda: ThresholdDetector()),
        (DetectScenes(detector="threshold", fade_bias=-1.0), lambda: ThresholdDetector(fade_bias=-1.0)),
        (DetectScenes(detector="threshold", fade_bias=0.3), lambda: ThresholdDetector(fade_bias=0.3)),
        (DetectScenes(detector="threshold", add_final_scene=True), lambda: ThresholdDetector(add_final_scene=True)),
        (
            DetectScenes(detector="threshold", fade_method="ceiling", threshold=240.0),
            lambda: ThresholdDetector(threshold=240.0, method=ThresholdDetector.Method.CEILING),
        ),
        (DetectScenes(), lambda: AdaptiveDetector()),
        (DetectScenes(detector="content", threshold=10.0), lambda: ContentDetector(threshold=10.0)),
    ],
    ids=["fades", "where they are dark", "biased", "final scene", "fades to white", "adaptive", "content"],
)
def test_fades_are_cut_where_pyscenedetect_cuts_them(name: str, stage: DetectScenes, detector: object, faded: Path) -> None:
    assert callable(detector)
    made = detector()
    assert isinstance(made, SceneDetector)
    expected = [start.seconds for start, _ in detect(str(faded / name), made, start_in_scene=True)]
    assert [start for start, _ in scenes_of(faded / name, stage)] == pytest.approx(expected, abs=0.021)
