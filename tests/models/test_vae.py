"""The Wan VAE: equal to diffusers called directly, and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from shardprep.errors import RecipeError
from shardprep.models.vae import load_vae, normalise, pixels_to_float
from shardprep.testing.models import make_tiny_models

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def folder():
    return make_tiny_models()["wan-vae"]


@pytest.fixture(scope="module")
def vae():
    make_tiny_models()
    return load_vae("tiny:wan-vae", "cpu")


@pytest.fixture(scope="module")
def pixels():
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 32, 48, 3), dtype=np.uint8)
    return torch.stack([pixels_to_float(video) for video in images])


def test_the_mean_equals_diffusers_bit_for_bit(vae, folder, pixels):
    model = diffusers.AutoencoderKLWan.from_pretrained(folder, low_cpu_mem_usage=False).eval()
    with torch.no_grad():
        posterior = model.encode(pixels[:1]).latent_dist
    mean = vae.encode(pixels[:1])
    assert mean.shape == (1, 16, 3, 4, 6)
    assert torch.equal(mean, posterior.mode())
    assert torch.equal(vae.encode(pixels[:1], "moments"), posterior.parameters)
    shift, scale = (torch.tensor(values).view(-1, 1, 1, 1) for values in (model.config.latents_mean, model.config.latents_std))
    assert torch.equal(vae.encode(pixels[:1], "normalised"), (mean - shift) * (1.0 / scale))
    assert torch.equal(normalise(mean, vae.shift, vae.scale), (mean - shift) * (1.0 / scale))


def test_one_at_a_time_equals_many(vae, pixels):
    one = torch.cat([vae.encode(video[None]) for video in pixels])
    torch.testing.assert_close(vae.encode(pixels), one, atol=1e-5, rtol=1e-5)


def test_the_result_owns_its_memory(vae, pixels):
    mean = vae.encode(pixels[:1])
    assert mean.untyped_storage().nbytes() == mean.numel() * 4


@pytest.mark.parametrize("frames", [2, 4, 6, 7, 8])
def test_lengths_that_would_lose_their_tail_are_refused(vae, pixels, frames):
    with pytest.raises(ValueError, match=r"4n \+ 1"):
        vae.encode(pixels[:1, :, :frames])


def test_other_shapes_are_refused(vae, pixels):
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode(pixels[:1, :, :1, :31])
    with pytest.raises(ValueError, match="expected \\[batch, 3"):
        vae.encode(pixels[0])


def test_pixels_are_those_of_torchvision(folder):
    from PIL import Image
    from torchvision import transforms

    images = np.arange(256 * 3, dtype=np.int64).astype(np.uint8).reshape(1, 16, 16, 3).repeat(2, axis=0)
    images.setflags(write=False)
    classic = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    want = torch.stack([classic(Image.fromarray(image)) for image in images], dim=1)
    assert torch.equal(pixels_to_float(images), want)
    assert pixels_to_float(images).is_contiguous()


def test_tiling_changes_the_values_so_it_must_be_asked_for(pixels):
    x = torch.randn(1, 3, 1, 320, 320, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    whole, tiled = (load_vae("tiny:wan-vae", "cpu", tiling=tiling).encode(x) for tiling in (False, True))
    assert whole.shape == tiled.shape
    assert float((whole - tiled).abs().max()) > 1e-3


def test_bf16_is_close(vae, pixels):
    difference = (load_vae("tiny:wan-vae", "cpu", "bf16").encode(pixels[:1]) - vae.encode(pixels[:1])).abs().max()
    assert 0 < float(difference) < 0.3


def test_the_vae_of_a_pipeline_is_found(folder, tmp_path, vae, pixels):
    shutil.copytree(folder, tmp_path / "pipeline" / "vae")
    assert torch.equal(load_vae(str(tmp_path / "pipeline"), "cpu").encode(pixels[:1]), vae.encode(pixels[:1]))


def test_incomplete_weights_and_other_models_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = load_file(broken / "diffusion_pytorch_model.safetensors")
    del weights["quant_conv.weight"]
    save_file(weights, broken / "diffusion_pytorch_model.safetensors")
    with pytest.raises(RecipeError, match=r"lacks quant_conv\.weight"):
        load_vae(str(broken), "cpu")
    (broken / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(RecipeError, match="holds AutoencoderKL, expected"):
        load_vae(str(broken), "cpu")
    (broken / "config.json").unlink()
    with pytest.raises(RecipeError, match=r"no config\.json"):
        load_vae(str(broken), "cpu")


def test_a_folder_without_weights_says_so(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(RecipeError, match=r"holds no weights file \(\.safetensors\)"):
        load_vae(str(tmp_path), "cpu")
