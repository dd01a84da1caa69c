"""The aesthetic head: its formula, its file formats and what it refuses."""

from __future__ import annotations

import os

import pytest

from shardprep.errors import RecipeError
from shardprep.models.aesthetic import LAYERS, load_aesthetic, make_head, pool
from shardprep.testing.models import CLIP_DIM, make_tiny_models

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def weights():
    from safetensors.torch import load_file

    return load_file(make_tiny_models()["aesthetic"] / "aesthetic.safetensors")


def test_the_score_is_a_chain_of_linear_layers_on_the_normalised_embedding(weights):
    x = torch.randn(7, CLIP_DIM, generator=torch.Generator().manual_seed(1)) * 3
    layers = [torch.nn.Linear(*reversed(weights[f"layers.{i}.weight"].shape)) for i in LAYERS]
    for i, layer in zip(LAYERS, layers, strict=True):
        layer.load_state_dict({"weight": weights[f"layers.{i}.weight"], "bias": weights[f"layers.{i}.bias"]})
    want = torch.nn.Sequential(*layers)(x / x.norm(dim=1, keepdim=True))[:, 0].detach()
    head = load_aesthetic("tiny:aesthetic")
    torch.testing.assert_close(head.score(x), want, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.score(x * 50), head.score(x), atol=1e-5, rtol=0)
    assert head.dim == CLIP_DIM
    assert pool(head.score(x)) == pytest.approx(float(want.mean()), abs=1e-5)


def test_files_of_torch_are_read_with_weights_only(weights, tmp_path):
    torch.save(weights, tmp_path / "head.pth")
    x = torch.ones(1, CLIP_DIM)
    assert torch.equal(load_aesthetic(str(tmp_path / "head.pth")).score(x), load_aesthetic("tiny:aesthetic").score(x))


def test_a_file_that_wants_to_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"layers.0.weight": Evil()}, tmp_path / "head.pth")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        load_aesthetic(str(tmp_path / "head.pth"))
    assert not (tmp_path / "executed").exists()


def test_other_keys_and_shapes_are_refused(weights, tmp_path):
    with pytest.raises(RecipeError, match="expected layers"):
        make_head({**weights, "extra": torch.ones(1)})
    with pytest.raises(RecipeError, match="five linear layers"):
        make_head({**weights, "layers.2.weight": torch.ones(128, 99)})
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(RecipeError, match="holds a list"):
        load_aesthetic(str(tmp_path / "list.pth"))


def test_a_folder_must_hold_one_file(weights, tmp_path):
    for name in ("a.pth", "b.pth"):
        torch.save(dict(weights), tmp_path / name)
    with pytest.raises(RecipeError, match="2 weights files"):
        load_aesthetic(str(tmp_path))
