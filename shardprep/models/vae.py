"""Video latents of the Wan VAE through diffusers.

Axes: b batch, c channels, t frames, h height, w width; latents have t' = (t - 1) / 4 + 1, h / 8, w / 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shardprep.errors import RecipeError
from shardprep.models.folder import check_weights_files, read_config
from shardprep.models.precision import convolutions
from shardprep.models.weights import fetch

if TYPE_CHECKING:
    import torch

Compute = Literal["fp32", "tf32", "bf16"]
Kind = Literal["mean", "moments", "normalised"]
TEMPORAL_CHUNK = "1,4"
"""Frames per causal step: the first alone, then four at a time (Wan's feature cache)."""


@dataclass(frozen=True)
class WanVae:
    """A loaded AutoencoderKLWan."""

    model: Any
    device: str
    compute: Compute

    @property
    def shift(self) -> list[float]:
        """The mean of each latent channel."""
        return [float(value) for value in self.model.config.latents_mean]

    @property
    def scale(self) -> list[float]:
        """The standard deviation of each latent channel: the normalised form is (mean - shift) * (1 / scale)."""
        return [float(value) for value in self.model.config.latents_std]

    def encode(self, x_bcthw: torch.Tensor, kind: Kind = "mean") -> torch.Tensor:
        """Return the posterior of fp32 pixels in [-1, 1]: fp32 [b, c', t', h / 8, w / 8] on the CPU, never sampled.

        `mean` is the raw mean, `moments` mean and log variance stacked on c (`split_moments`), `normalised` OmniVideo's form.
        ValueError where t is not 4n + 1: the model would drop the tail silently.
        """
        import torch

        self._check(x_bcthw)
        with torch.inference_mode(), convolutions(tf32=self.compute == "tf32"):
            x_bcthw = x_bcthw.to(self.device, dtype=torch.bfloat16 if self.compute == "bf16" else torch.float32)
            posterior = self.model.encode(x_bcthw).latent_dist
            latents = (posterior.parameters if kind == "moments" else posterior.mode()).float().cpu().clone()
        return normalise(latents, self.shift, self.scale) if kind == "normalised" else latents

    def _check(self, x_bcthw: torch.Tensor) -> None:
        if x_bcthw.ndim != 5 or x_bcthw.shape[1] != 3:
            raise ValueError(f"pixels of shape {tuple(x_bcthw.shape)}: expected [batch, 3, frames, height, width]")
        frames, height, width = x_bcthw.shape[2:]
        if frames % 4 != 1:
            raise ValueError(
                f"{frames} frames: the Wan VAE takes 4n + 1 and would drop the rest silently; give {(frames - 1) // 4 * 4 + 1}"
            )
        if height % 8 or width % 8:
            raise ValueError(f"frames of {height}x{width}: height and width must be multiples of 8")


def load_vae(name: str, device: str, compute: Compute = "fp32", *, tiling: bool = False) -> WanVae:
    """Return the VAE in a diffusers folder, or in the `vae` folder of a pipeline. Weights must be safetensors and complete."""
    import torch
    from diffusers import AutoencoderKLWan

    folder = vae_folder(name, fetch(name))
    dtype = torch.bfloat16 if compute == "bf16" else torch.float32
    try:
        model, report = AutoencoderKLWan.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise RecipeError(f"weights {name!r}: {error}") from error
    if report["missing_keys"]:
        raise RecipeError(f"weights {name!r}: the file lacks {', '.join(sorted(report['missing_keys'])[:5])}; download it again")
    if tiling:
        model.enable_tiling()
    return WanVae(model.to(device).eval(), device, compute)


def pixels_to_float(images: Sequence[Any]) -> torch.Tensor:
    """Return uint8 images [t, h, w, 3] as fp32 [3, t, h, w] in [-1, 1].

    ((x / 255) - 0.5) / 0.5 in fp32, step by step, on the CPU: torchvision's ToTensor and Normalize to the last bit. A GPU
    divides by multiplying with the reciprocal.
    """
    import numpy as np
    import torch

    # torch warns of arrays that are read-only; only those are copied.
    x_thwc = torch.from_numpy(np.require(images, dtype=np.uint8, requirements="W"))
    x_cthw = x_thwc.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return x_cthw.div_(255).sub_(0.5).div_(0.5)


def normalise(mean: torch.Tensor, shift: Sequence[float], scale: Sequence[float]) -> torch.Tensor:
    """Return (mean - shift) * (1 / scale) over channels, [..., c, t, h, w] in fp32: OmniVideo's order, bit for bit."""
    import torch

    shift_c = torch.tensor(shift, dtype=torch.float32).view(-1, 1, 1, 1)
    scale_c = torch.tensor(scale, dtype=torch.float32).view(-1, 1, 1, 1)
    return (mean - shift_c) * (1.0 / scale_c)


def split_moments(moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and log variance of moments [b, 2 c', t', h', w'], the latter between -30 and 20 as diffusers takes it."""
    import torch

    mean, logvar = moments.chunk(2, dim=1)
    return mean.contiguous(), torch.clamp(logvar, -30.0, 20.0).contiguous()


def draw(mean: torch.Tensor, logvar: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return a sample of the posterior for standard normal `noise` of the same shape: diffusers' `latent_dist.sample`, bit for bit."""
    import torch

    return mean + torch.exp(0.5 * logvar) * noise


def vae_folder(name: str, folder: Path) -> Path:
    """Return the folder of the VAE in a diffusers folder; RecipeError where it is no Wan VAE, or lacks files. Nothing is loaded."""
    found = next((place for place in (folder, folder / "vae") if (place / "config.json").is_file()), None)
    if found is None:
        raise RecipeError(f"weights {name!r}: no config.json; expected the diffusers folder of a VAE, such as OWNER/REPO/vae")
    kind = read_config(name, found).get("_class_name")
    if kind != "AutoencoderKLWan":
        raise RecipeError(f"weights {name!r}: holds {kind}, expected AutoencoderKLWan (Wan 2.1 or 2.2)")
    check_weights_files(name, found, [".safetensors"])
    return found
