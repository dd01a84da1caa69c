"""Weights that are not on this machine: what is said of them, where the hub may be asked and where not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardprep.models.absent import KNOWN_BYTES, look_for
from shardprep.models.open_clip_tags import KNOWN_TAGS, known_architectures, place_of
from shardprep.recipe.load import load_recipe
from shardprep.recipe.model import Pass
from tests.models.test_hub import COMMIT, FILES, ask, hub

__all__ = ["hub"]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "hub"


def told(server, home: Path, *names: str, offline: bool = False) -> dict[str, tuple]:
    """Return what a process says of weights, by name, that takes the server for the hub: the digest, and what is absent."""
    answers = ask(server, home, f"__import__('tests.models.test_absent', fromlist=['x']).as_json({names!r})", offline)
    return {name: tuple(answer) for name, answer in json.loads(answers).items()}


def as_json(names: tuple[str, ...]) -> str:
    """Return what is said of weights, in the process that asks."""
    found = {name: look_for(name) for name in names}
    return json.dumps({name: [digest, absent and vars(absent)] for name, (digest, absent) in found.items()})


@pytest.mark.parametrize(
    ("name", "gib", "command"),
    [
        (
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/text_encoder",
            21.16,
            "hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers --include 'text_encoder/*'",
        ),
        (
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/vae@main",
            0.4727,
            "hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers --include 'vae/*' --revision main",
        ),
        (
            "trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth",
            0.003456,
            "hf download trl-lib/ddpo-aesthetic-predictor aesthetic-model.pth",
        ),
        ("open_clip:ViT-L-14/openai", 1.593, "hf download timm/vit_large_patch14_clip_224.openai open_clip_model.safetensors"),
    ],
)
def test_offline_the_weights_of_our_recipes_have_a_size_and_a_command(empty_cache: Path, name: str, gib: float, command: str) -> None:
    digest, absent = look_for(name)
    assert absent is not None
    assert absent.num_bytes == pytest.approx(gib * (1 << 30), rel=0.01)
    assert absent.size.startswith("about ")
    assert (absent.obstacle, absent.command) == ("HF_HUB_OFFLINE is set", command)
    assert digest == (name if name.startswith("open_clip:") else None)


def test_offline_the_size_of_other_weights_is_not_known(empty_cache: Path) -> None:
    _, absent = look_for("own/er")
    assert absent is not None
    assert absent.size == "size unknown until the hub can be asked"
    assert absent.command == "hf download own/er --exclude '*/*'"


def test_every_weight_that_a_recipe_names_has_a_known_size(root: Path, empty_cache: Path, tmp_path: Path) -> None:
    for file in sorted((root / "recipes").glob("*.yaml")):
        recipe = load_recipe(file, source=str(tmp_path / "list.json"), output=str(tmp_path / "out"))
        stages = [stage for step in recipe.steps if isinstance(step, Pass) for stage in step.stages]
        names = {weights.name for stage in stages if "tiny:" not in repr(stage) for weights in stage.weights}
        assert names <= KNOWN_BYTES.keys(), file.name


def test_what_is_known_of_a_tag_is_what_open_clip_says() -> None:
    """With its number of parameters in fp32, which is what the file holds."""
    open_clip = pytest.importorskip("open_clip")
    import torch
    from open_clip.pretrained import get_pretrained_cfg

    for (architecture, tag), address in KNOWN_TAGS.items():
        assert get_pretrained_cfg(architecture, tag)["hf_hub"] == address
        with torch.device("meta"):
            model = open_clip.CLIP(**open_clip.get_model_config(architecture))
        num_bytes = sum(parameter.numel() * 4 for parameter in model.parameters())
        assert KNOWN_BYTES[f"open_clip:{architecture}/{tag}"] == pytest.approx(num_bytes, rel=0.001)
    assert set(known_architectures()) == set(open_clip.list_models())


def test_the_hub_is_asked_where_it_may_be(hub, tmp_path: Path) -> None:
    found = told(hub, tmp_path, "own/er/vae", "own/er/old")
    digest, absent = found["own/er/vae"]
    assert digest == COMMIT
    assert absent["num_bytes"] == len(FILES["vae/diffusion_pytorch_model.safetensors"])
    assert not absent["is_estimate"]
    assert absent["obstacle"] is None
    assert found["own/er/old"][1]["num_bytes"] == len(FILES["old/pytorch_model.bin"])


def test_a_hub_that_gives_no_answer_is_an_obstacle(hub, tmp_path: Path) -> None:
    """Whether it says that it cannot, or is not there."""
    for names in (("down/now", f"down/now@{COMMIT}"), (f"own/er@{COMMIT}", "open_clip:ViT-L-14/openai")):
        found = told(hub, tmp_path, *names)
        assert [found[name][1]["obstacle"] for name in names] == ["the hub gives no answer"] * 2
        if names[0] == "down/now":
            hub.shutdown()
            hub.server_close()


def test_what_was_fetched_is_here_whatever_it_is(hub, tmp_path: Path) -> None:
    """Also a tokenizer, which has no weights; and a commit alone, which a plan asks for, is none."""
    names = ("own/er/vae", "own/er/words", "own/er/head.pth", "own/er/old", "own/er")
    assert all(absent is not None for _, absent in told(hub, tmp_path, *names).values())
    offline = told(hub, tmp_path, *names, offline=True)
    assert [absent["obstacle"] for _, absent in offline.values()] == ["HF_HUB_OFFLINE is set"] * 5
    ask(hub, tmp_path, f"[fetch(name) for name in {names!r}]")
    assert told(hub, tmp_path, *names) == dict.fromkeys(names, (COMMIT, None))
    assert told(hub, tmp_path, *names, offline=True) == dict.fromkeys(names, (COMMIT, None))


def test_half_of_an_index_is_not_here(hub, tmp_path: Path) -> None:
    folder = Path(ask(hub, tmp_path, "fetch('own/er/parts')"))
    assert told(hub, tmp_path, "own/er/parts")["own/er/parts"][1] is None
    (folder / "b.safetensors").unlink()
    assert told(hub, tmp_path, "own/er/parts")["own/er/parts"][1] is not None


def test_a_tag_lies_where_open_clip_looks_for_it(empty_cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    snapshot = empty_cache / "models--timm--vit_large_patch14_clip_224.openai" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (empty_cache / "models--timm--vit_large_patch14_clip_224.openai" / "refs").mkdir()
    (empty_cache / "models--timm--vit_large_patch14_clip_224.openai" / "refs" / "main").write_text(COMMIT)
    assert look_for("open_clip:ViT-L-14/openai")[1] is not None
    (snapshot / "open_clip_pytorch_model.bin").write_bytes(b"x")
    assert look_for("open_clip:ViT-L-14/openai") == ("open_clip:ViT-L-14/openai", None)
    by_address = place_of("RN50", "yfcc15m")
    assert by_address.repo is None or by_address.files


def test_the_model_of_our_recipe_is_checked_without_torch(root: Path) -> None:
    """It takes seconds to load, and a plan needs none of it."""
    pytest.importorskip("open_clip")
    code = (
        "import sys\nfrom shardprep.stages.embed_clip import EmbedClip\nstage = EmbedClip()\nstage.check(); stage.weights\n"
        "EmbedClip(pretrained=None).check()\nprint(sorted({'torch', 'open_clip'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_model_of_which_one_file_is_still_to_come_is_absent_in_torchs_format_too(empty_cache: Path) -> None:
    snapshot = empty_cache / "models--own--er" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "pytorch_model.bin.index.json").write_text('{"weight_map": {"x": "a.bin", "y": "b.bin"}}')
    (snapshot / "a.bin").write_bytes(b"one half")
    assert look_for(f"own/er@{COMMIT}")[1] is not None
    (snapshot / "b.bin").write_bytes(b"the other")
    assert look_for(f"own/er@{COMMIT}") == (COMMIT, None)
