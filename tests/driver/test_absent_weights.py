"""A plan and a run where weights are not on this machine, and no network is there to fetch them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shardprep.core.sample import Sample
from shardprep.core.stage import ColumnType, Map, Weights
from shardprep.driver.plan import plan
from shardprep.driver.run import run
from shardprep.errors import RecipeError
from shardprep.recipe.load import load_recipe
from shardprep.recipe.model import Pass
from tests.driver.made import Made

WAN, HEAD = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "trl-lib/ddpo-aesthetic-predictor"


_LOADED: Mapping[str, ColumnType] = {"scores.loaded": "bool"}


@dataclass(frozen=True, kw_only=True)
class Loaded(Map):
    """Names weights, and loads none."""

    model: str

    writes = _LOADED

    @property
    def weights(self) -> tuple[Weights, ...]:
        return (Weights(self.model),)

    def apply(self, sample: Sample) -> Sample:
        return sample.with_columns({"scores.loaded": True})


@pytest.mark.parametrize("name", ["open-sora", "omnivideo"])
def test_recipes_with_weights_of_the_hub_are_planned_without_a_network(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("huggingface_hub")
    assert os.environ["HF_HUB_OFFLINE"] == "1", "the tests ask no hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "data.json").write_text('[{"video": "a.mp4", "conversations": [{}, {"value": "a caption"}]}]')
    source = str(tmp_path / ("data.json" if name == "omnivideo" else ""))
    found = plan(load_recipe(root / "recipes" / f"{name}.yaml", source=source, output=str(tmp_path / "out")))
    assert found.has_work
    wanted = {
        "open-sora": {"open_clip:ViT-L-14/openai": 1_710_466_052, f"{HEAD}/aesthetic-model.pth": 3_711_876},
        "omnivideo": {f"{WAN}/text_encoder": 22_723_671_744, f"{WAN}/tokenizer": 21_454_609, f"{WAN}/vae": 507_591_892},
    }
    assert {weights.name: weights.num_bytes for weights in found.weights} == wanted[name]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["open-sora", "omnivideo"])
def test_a_run_without_its_weights_and_a_network_names_all_of_them_and_makes_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "data.json").write_text('[{"video": "a.mp4", "conversations": [{}, {"value": "a caption"}]}]')
    source = str(tmp_path / ("data.json" if name == "omnivideo" else ""))
    lines = {
        "open-sora": [
            "open_clip:ViT-L-14/openai (about 1.6 GiB): hf download timm/vit_large_patch14_clip_224.openai open_clip_model.safetensors",
            f"{HEAD}/aesthetic-model.pth (about 3.5 MiB): hf download {HEAD} aesthetic-model.pth",
        ],
        "omnivideo": [
            f"{WAN}/text_encoder (about 21.2 GiB): hf download {WAN} --include 'text_encoder/*'",
            f"{WAN}/tokenizer (about 20.5 MiB): hf download {WAN} --include 'tokenizer/*'",
            f"{WAN}/vae (about 484.1 MiB): hf download {WAN} --include 'vae/*'",
        ],
    }
    with pytest.raises(RecipeError) as raised:
        run(load_recipe(root / "recipes" / f"{name}.yaml", source=source, output=str(tmp_path / "out")))
    first, *others = str(raised.value).splitlines()
    assert first.startswith("weights that this run needs are not on this machine, and HF_HUB_OFFLINE is set")
    assert [line.strip() for line in others] == lines[name]
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_here_matter_where_their_step_has_work(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a commit the digest is known, so that everything before it would be made in vain; where all is made none of it is loaded."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    weights = f"own/er@{'0123456789abcdef' * 2}01234567"
    recipe = made.recipe()
    first = next(step for step in recipe.steps if isinstance(step, Pass))
    named = replace(first, stages=(*first.stages, Loaded(model=weights)))
    changed = replace(recipe, steps=tuple(named if step is first else step for step in recipe.steps))
    with pytest.raises(RecipeError, match=r"own/er@\w+ \(size unknown until the hub can be asked\): hf download own/er"):
        run(changed)
    with monkeypatch.context() as there:
        there.setattr("shardprep.models.absent.is_fetched", lambda *_: True)
        run(changed)
    assert not plan(changed).has_work
    run(changed)


def test_a_hub_that_gives_no_answer_is_said_before_anything_is_made(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    answers = {}
    for command in ("plan", "run"):
        line = [sys.executable, "-m", "shardprep.cli", command, str(root / "recipes" / "open-sora.yaml")]
        line += ["--input", str(tmp_path / "videos"), "--output", str(tmp_path / "out")]
        answers[command] = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert answers["plan"].returncode == 0, answers["plan"].stderr
    said = [line for line in answers["plan"].stdout.splitlines() if line.startswith("weights ")]
    assert [line.partition(" are not on this machine (about ")[0] for line in said] == [
        "weights open_clip:ViT-L-14/openai",
        f"weights {HEAD}/aesthetic-model.pth",
    ]
    assert all(", and the hub gives no answer: fetch them where there is a network, with `hf download " in line for line in said)
    assert answers["run"].returncode == 2
    assert answers["run"].stderr.startswith("error: weights that this run needs are not on this machine, and the hub gives no answer.")
    assert not (tmp_path / "out").exists()
