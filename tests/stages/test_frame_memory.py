"""What waits for a model is small: frames are made so as they are decoded, and features are those of whole frames."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shardprep.core.stage import SizedProcess, Worker
from shardprep.runtime.adapt import apply_stages
from shardprep.stages.embed_clip import EmbedClip
from shardprep.testing.models import make_tiny_models
from tests.stages.model_stages import decoded, run, tensors_of, video_sample

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

STAGE = EmbedClip(model="tiny:clip", fps=12.5)

PEAK = """
import resource, sys
from pathlib import Path
from shardprep.runtime.adapt import apply_stages
from shardprep.stages.embed_clip import EmbedClip
(kept,) = apply_stages(Path(sys.argv[1]), EmbedClip(model="tiny:clip", fps=float(sys.argv[2])))
print(len(kept.get("clip_embedding.frame_indices")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module", autouse=True)
def tiny() -> None:
    make_tiny_models()


def test_features_of_a_run_are_those_of_whole_frames() -> None:
    sample = video_sample("v", 40, 320, 200)
    (whole,) = run(STAGE, [decoded(STAGE, sample)])
    (kept,) = apply_stages(sample, STAGE)
    assert kept.record == whole.sample.record
    assert torch.equal(tensors_of(kept, "clip_embedding")["clip_embedding"], tensors_of(whole.sample, "clip_embedding")["clip_embedding"])


def test_the_model_says_how_large_it_wants_its_frames() -> None:
    process = STAGE.open(Worker())
    assert isinstance(process, SizedProcess)
    assert (process.size.height, process.size.width) == (64, 64)


def test_the_memory_does_not_grow_with_the_length(tmp_path) -> None:
    peaks = {}
    for seconds in (5, 30):
        path = tmp_path / f"{seconds}.mp4"
        path.write_bytes(video_sample("v", 8 * seconds, 1280, 720, fps=8).members["video"].blob.data)
        done = subprocess.run([sys.executable, "-c", PEAK, path, "8"], capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.split())
        assert count == 8 * seconds
        peaks[seconds] = peak
    # 240 whole frames of 720p are 660 MB.
    assert peaks[30] < 1.15 * peaks[5], peaks
