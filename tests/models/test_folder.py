"""What a local model folder must hold is found before a run: of safetensors files the header alone is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.core.stage import Stage
from shardprep.errors import RecipeError
from shardprep.models.tensors import save_tensors
from shardprep.stages.embed_clip import EmbedClip
from shardprep.stages.embed_t5 import EmbedT5
from shardprep.stages.encode_vae import EncodeVae
from shardprep.stages.score_aesthetic import ScoreAesthetic
from shardprep.testing.models import make_tiny_models

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

STAGES = {
    "clip": lambda model: EmbedClip(model=model, pretrained=None),
    "t5": lambda model: EmbedT5(model=model),
    "wan-vae": lambda model: EncodeVae(model=model),
    "aesthetic": lambda model: ScoreAesthetic(model=model),
}


def stage_on(name: str, place: Path) -> tuple[Stage, Path]:
    """Return a stage on a copy of a tiny model, and the file of its weights."""
    shutil.copytree(make_tiny_models()[name], place)
    (weights,) = place.glob("*.safetensors")
    return STAGES[name](str(place)), weights


@pytest.mark.parametrize("name", STAGES)
def test_a_weights_file_that_is_torn_is_found_before_the_run(tmp_path: Path, name: str) -> None:
    stage, weights = stage_on(name, tmp_path / "model")
    stage.check()
    whole = weights.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for size in (len(whole) - 1, len(whole) // 2, header, header - 1, 8, 4):
        weights.write_bytes(whole[:size])
        with pytest.raises(RecipeError, match=rf"{weights.name}: safetensors: .*; download it again$") as error:
            stage.check()
        assert "make" not in str(error.value)
    for data in (b"<html>not found</html>", whole + b"x", whole[:8] + b"[" + whole[9:]):
        weights.write_bytes(data)
        with pytest.raises(RecipeError, match=rf"{weights.name}: safetensors: .*; download it again$"):
            stage.check()


def test_a_weights_file_for_an_architecture_is_looked_at_too(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(save_tensors({"a": torch.zeros(4)})[:-1])
    with pytest.raises(RecipeError, match=r"weights\.safetensors: safetensors: .*; download it again$"):
        EmbedClip(model="ViT-B-32", pretrained=str(file)).check()


def test_every_part_of_a_model_in_several_files_is_looked_at(tmp_path: Path) -> None:
    stage, weights = stage_on("t5", tmp_path / "model")
    from safetensors.torch import load_file

    tensors = load_file(weights)
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    weights.unlink()
    for file, held in halves.items():
        (weights.parent / file).write_bytes(save_tensors({name: tensors[name] for name in held}))
    index = weights.parent / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, held in halves.items() for name in held}}))
    stage.check()
    second = weights.parent / "model-2.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    with pytest.raises(RecipeError, match=r"model-2\.safetensors: .*; download it again$"):
        stage.check()
    second.write_bytes(save_tensors({name: tensors[name] for name in names[3::2]}))
    with pytest.raises(RecipeError, match=rf"model-2\.safetensors lacks {names[1]}, which model\.safetensors\.index\.json looks for in it"):
        stage.check()
    second.write_bytes(whole)
    index.write_text('{"weight_map": {"a": ["model-2.safetensors"]}}')
    with pytest.raises(RecipeError, match=r"the weight_map of .*index\.json does not name a file per tensor"):
        stage.check()


def test_an_index_of_a_format_that_was_not_fetched_is_no_fault(tmp_path: Path) -> None:
    """Repositories hold the same weights as safetensors and in torch's format; of the second only the index is fetched."""
    stage, weights = stage_on("t5", tmp_path / "model")
    old = weights.parent / "pytorch_model.bin.index.json"
    old.write_text('{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}')
    stage.check()
    # Where safetensors are announced, they are what is loaded.
    weights.rename(weights.parent / "pytorch_model-00001-of-00002.bin")
    stage.check()
    (weights.parent / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(RecipeError, match=r"lacks model-00001-of-00002\.safetensors, which its index names"):
        stage.check()


WIDTHS = {0: (8, 64), 2: (8, 8), 4: (8, 8), 6: (8, 8), 7: (1, 8)}


def head(widths: dict[int, tuple[int, int]], bias: int = 0) -> bytes:
    parts = {f"layers.{place}.weight": torch.zeros(size) for place, size in widths.items()}
    return save_tensors(parts | {f"layers.{place}.bias": torch.zeros(size[0] + bias) for place, size in widths.items()})


def test_keys_and_shapes_of_an_aesthetic_head_are_looked_at_before_the_run(tmp_path: Path) -> None:
    file = tmp_path / "head.safetensors"
    stage = ScoreAesthetic(model=str(file))
    file.write_bytes(head(WIDTHS))
    stage.check()
    for data, words in (
        (save_tensors({"linear.weight": torch.zeros(1, 64)}), r"keys linear\.weight; expected layers\.0\.bias"),
        (head(WIDTHS | {2: (8, 9)}), "expected five linear layers"),
        (head(WIDTHS | {7: (2, 8)}), "expected five linear layers"),
        (head(WIDTHS, bias=1), r"biases of shapes \[\(9,\)"),
    ):
        file.write_bytes(data)
        with pytest.raises(RecipeError, match=words) as error:
            stage.check()
        assert str(file) in str(error.value)


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_torn_file_is_a_wrong_setting_and_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    _, weights = stage_on("wan-vae", tmp_path / "model")
    weights.write_bytes(weights.read_bytes()[:-1])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    (tmp_path / "r.yaml").write_text("name: r\nsource: videos\noutput: out\nsteps:\n  - features: [encode_vae: {model: ./model}]\n")
    result = CliRunner().invoke(app, [command, "r.yaml"])
    assert result.exit_code == 2, result.output
    assert f"{weights.name}: safetensors: " in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("embed_t5: {model: 'tiny:clip'}", "weights 'tiny:clip': a tiny model of another kind; expected tiny:t5"),
        (
            "embed_t5: {model: 'tiny:t5', tokenizer: 'tiny:wan-vae'}",
            "weights 'tiny:wan-vae': a tiny model of another kind; expected tiny:t5",
        ),
        ("encode_vae: {model: 'tiny:t5'}", "weights 'tiny:t5': a tiny model of another kind; expected tiny:wan-vae"),
        ("embed_clip: {model: 'tiny:aesthetic'}", "weights 'tiny:aesthetic': a tiny model of another kind; expected tiny:clip"),
        ("encode_vae: {model: 'tiny:nosuch'}", "weights 'tiny:nosuch': there is no such tiny model; expected tiny:wan-vae"),
        ("embed_t5: {model: 'tiny:nosuch'}", "weights 'tiny:nosuch': there is no such tiny model; expected tiny:t5"),
    ],
)
def test_a_tiny_model_of_another_kind_is_a_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str) -> None:
    # Found by its name: nothing was made in this cache.
    monkeypatch.setenv("SHARDPREP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "videos").mkdir()
    recipe = tmp_path / "r.yaml"
    head = f"name: r\nsource: {{videos: {tmp_path}/videos}}\noutput: {tmp_path}/out"
    recipe.write_text(f"{head}\nsteps:\n  - facts: [probe_media]\n  - made:\n      - {line}\n")
    result = CliRunner().invoke(app, ["plan", str(recipe)])
    assert (result.exit_code, words in result.stderr) == (2, True), result.output
    assert f"{recipe}:7" in result.stderr
    run = CliRunner().invoke(app, ["run", str(recipe)])
    assert (run.exit_code, "RANDOM MODEL" in run.output, (tmp_path / "out").exists()) == (2, False, False)


@pytest.mark.parametrize(("stage", "other"), [(stage, other) for stage in STAGES for other in STAGES if stage != other])
def test_the_folder_of_a_model_of_another_kind_is_a_wrong_setting(tmp_path: Path, stage: str, other: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_tiny_models()[other], folder)
    with pytest.raises(RecipeError, match=str(folder)):
        STAGES[stage](str(folder)).check()
