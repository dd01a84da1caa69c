"""The LAION improved aesthetic predictor: a linear head on CLIP image embeddings.

Axes: n embeddings, d embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from shardprep.errors import RecipeError
from shardprep.models.folder import safetensors_header
from shardprep.models.hub import FILE_SUFFIXES
from shardprep.models.weights import fetch, local_path

if TYPE_CHECKING:
    import torch

LAYERS = (0, 2, 4, 6, 7)
"""Places of the linear layers in the published checkpoint; dropouts lie between them, and no activations."""


@dataclass(frozen=True)
class AestheticHead:
    """The weights of the five linear layers, `layers.N.weight` and `layers.N.bias`."""

    weights: Mapping[str, torch.Tensor]

    @property
    def dim(self) -> int:
        """The embedding size it was trained on (768 for ViT-L-14)."""
        return int(self.weights["layers.0.weight"].shape[1])

    def score(self, x_nd: torch.Tensor) -> torch.Tensor:
        """Return the score (1 to 10, about) of every embedding, fp32 [n].

        The embeddings are L2-normalised here (improved-aesthetic-predictor; Open-Sora 1.2 `scoring/aesthetic`).
        """
        import torch

        with torch.inference_mode():
            x_nd = torch.nn.functional.normalize(x_nd.float(), dim=-1)
            for layer in LAYERS:
                x_nd = torch.nn.functional.linear(x_nd, self.weights[f"layers.{layer}.weight"], self.weights[f"layers.{layer}.bias"])
        return x_nd[:, 0]


def pool(per_frame_n: torch.Tensor) -> float:
    """Return the score of a video: the mean over its frames (Open-Sora 1.2 `scoring/aesthetic`)."""
    return float(per_frame_n.double().mean())


def make_head(weights: Mapping[str, torch.Tensor]) -> AestheticHead:
    """Return the head of a state dict; RecipeError where its keys or shapes are not those of the published one."""
    _check_layers("aesthetic weights", {name: tuple(tensor.shape) for name, tensor in weights.items()})
    return AestheticHead({name: tensor.float() for name, tensor in weights.items()})


def _check_layers(what: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {f"layers.{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")}
    if set(shapes) != wanted:
        raise RecipeError(f"{what}: keys {', '.join(sorted(shapes)[:12])}; expected {', '.join(sorted(wanted))}")
    sizes = [shapes[f"layers.{layer}.weight"] for layer in LAYERS]
    chained = all(len(size) == 2 for size in sizes) and all(out == into for (out, _), (_, into) in pairwise(sizes))
    if not chained or sizes[-1][0] != 1:
        raise RecipeError(f"{what}: layers of shapes {sizes}; expected five linear layers that end in one value")
    biases = [shapes[f"layers.{layer}.bias"] for layer in LAYERS]
    if biases != [(out,) for out, _ in sizes]:
        raise RecipeError(f"{what}: biases of shapes {biases}; expected one value for each output of {sizes}")


def load_aesthetic(name: str) -> AestheticHead:
    """Return the head in a file (safetensors, or torch's format with weights only) or in a folder that holds one such file.

    It runs on the CPU: it is a few matrices.
    """
    import torch
    from safetensors.torch import load_file

    path = _weights_file(name, fetch(name))
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(weights, Mapping):
        raise RecipeError(f"aesthetic weights {name!r}: {path.name} holds a {type(weights).__name__}, expected a state dict")
    return make_head(weights)


def check_local(name: str) -> None:
    """Raise RecipeError where a local file or folder cannot be the head. Nothing is loaded: torch's own formats are not looked into."""
    if (path := local_path(name, "aesthetic")) is not None:
        file = _weights_file(name, path)
        if file.suffix not in FILE_SUFFIXES:
            raise RecipeError(f"aesthetic weights {name!r}: expected a file that ends in {', '.join(FILE_SUFFIXES)}")
        if not file.stat().st_size:
            raise RecipeError(f"aesthetic weights {name!r}: {file.name} is empty; download it again")
        if file.suffix == ".safetensors":
            _check_layers(f"aesthetic weights {name!r}", {tensor: info.shape for tensor, info in safetensors_header(name, file).items()})


def _weights_file(name: str, path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in FILE_SUFFIXES)
    if len(files) != 1:
        raise RecipeError(f"aesthetic weights {name!r}: {len(files)} weights files in the folder, expected one; name the file itself")
    return files[0]
