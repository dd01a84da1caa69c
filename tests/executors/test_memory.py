"""What a worker may take: `memory` beyond what it held when its stages were loaded, and nothing more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shardprep.core.stage import Resources
from shardprep.executors.job import ShardFailure
from shardprep.executors.memory import allowed_bytes
from shardprep.runtime.task import ShardTask
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.embed_clip import EmbedClip
from shardprep.stages.embed_t5 import EmbedT5
from shardprep.stages.encode_vae import EncodeVae
from shardprep.stages.probe_media import ProbeMedia
from shardprep.testing.models import make_tiny_models
from shardprep.testing.videos import Shot, draw, encode
from tests.executors.errands import Errand, Report
from tests.executors.test_local import run_all
from tests.fates import fates, run_over

MIB = 1 << 20


def test_memory_is_what_a_worker_may_take() -> None:
    """Nothing is added to it: 300 MiB are too much for 200, and 150 are not."""
    answers = run_all(
        [Errand(shard="0", how="hold", extra=150), Errand(shard="1", how="hold", extra=300)], workers=1, memory_bytes=200 * MIB
    )
    assert isinstance(answers["0"], Report)
    assert isinstance(answers["1"], ShardFailure)
    assert "took more than the 200 MiB that it may (`memory`)" in str(answers["1"].error)


def test_what_a_worker_keeps_of_earlier_shards_counts() -> None:
    """Else a worker that leaks may take `memory` again with every shard."""
    answers = run_all([Errand(shard=str(number), how="keep", extra=150) for number in range(2)], workers=1, memory_bytes=200 * MIB)
    pids = [answer.pid for answer in answers.values() if isinstance(answer, Report)]
    assert len(pids) == len(set(pids)) == 2, "the second shard was made by another process, for the first had kept too much"


def test_where_models_work_a_worker_may_take_what_they_declare_besides() -> None:
    task = ShardTask(step="s", shard="0", out_url="o", fingerprint="f", step_fingerprint="f", stages=(), is_base=False, adds={}, reads=())
    assert allowed_bytes(task, 7) == 7
    assert allowed_bytes(replace(task, stages=(ProbeMedia(), DetectScenes(), CutClips())), 7) == 7
    assert allowed_bytes(replace(task, stages=(EmbedClip(), EmbedT5())), 7) == 7 + Resources().memory_bytes
    # 480 x 832 pixels of 20 KiB; no 16 GiB, whatever the model.
    assert allowed_bytes(replace(task, stages=(EmbedT5(), EncodeVae())), 7) == 7 + 480 * 832 * 20_480


def test_libraries_and_weights_are_no_work(tmp_path: Path) -> None:
    """Torch and open_clip take more than 128 MiB as they are loaded; with that much for the work all goes through."""
    pytest.importorskip("open_clip")
    make_tiny_models()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.mp4").write_bytes(encode(draw([Shot(seconds=0.5)], height=96, width=128)))
    run_over(tmp_path / "files", tmp_path / "out", EmbedClip(model="tiny:clip", pretrained=None), memory="128MiB")
    assert [fate.fate for fate in fates(tmp_path / "out").values()] == ["kept"]


def test_the_stages_of_the_core_keep_to_it_with_full_hd(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.mp4").write_bytes(encode(draw([Shot(seconds=1), Shot(seconds=1)], height=1080, width=1920)))
    run_over(tmp_path / "files", tmp_path / "out", ProbeMedia(), DetectScenes(), CutClips(min_seconds=0.1), memory="512MiB")
    assert [fate.fate for fate in fates(tmp_path / "out").values()] == ["kept"]
