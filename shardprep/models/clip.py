"""CLIP image embeddings through open_clip.

Axes: n images, d embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shardprep.core.frames import ModelSize
from shardprep.core.hints import nearest
from shardprep.errors import RecipeError, Unavailable
from shardprep.models.folder import check_weights_files, read_config, safetensors_header
from shardprep.models.open_clip_tags import known_architectures, place_of
from shardprep.models.precision import convolutions
from shardprep.models.weights import fetch, local_path

if TYPE_CHECKING:
    import torch

WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_IMAGES_PER_CALL = 64


@dataclass(frozen=True)
class ClipImageEncoder:
    """An open_clip model with its own preprocessing."""

    model: Any
    preprocess: Any
    """open_clip's transform of one PIL image: resize, crop, normalise, as the weights were trained."""
    device: str

    @property
    def logit_scale(self) -> float:
        """The logarithm of the scale of cosines, as the checkpoint holds it."""
        return float(self.model.logit_scale.detach().float().mean())

    def shrink(self, image: np.ndarray) -> np.ndarray:
        """Return an image as the preprocessing makes it before the numbers are scaled: uint8 [height, width, 3]; twice is once."""
        from PIL import Image
        from torchvision.transforms import ToTensor

        made = Image.fromarray(image)
        for step in self.preprocess.transforms:
            if isinstance(step, ToTensor):
                break
            made = step(made)
        return np.asarray(made)

    @property
    def frame_size(self) -> ModelSize:
        """The size of the images that the model sees."""
        height, width, _ = self.shrink(np.zeros((8, 8, 3), np.uint8)).shape
        return ModelSize(height, width, self.shrink)

    def embed(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Return the features of uint8 images [height, width, 3], not normalised: fp32 [n, d] on the CPU."""
        import torch
        from PIL import Image

        if not len(images):
            raise ValueError("embed: no images; give at least one")
        parts = []
        for start in range(0, len(images), _IMAGES_PER_CALL):
            x_nchw = torch.stack([self.preprocess(Image.fromarray(image)) for image in images[start : start + _IMAGES_PER_CALL]])
            with torch.inference_mode(), convolutions():
                parts.append(self.model.encode_image(x_nchw.to(self.device), normalize=False).float().cpu())
        return torch.cat(parts).clone()


def is_model_folder(model: str) -> bool:
    """Whether `model` names weights that bring their own config, and not an architecture of open_clip."""
    return "/" in model or ":" in model


def load_clip(model: str, pretrained: str | None, device: str) -> ClipImageEncoder:
    """Return the image encoder of a folder or hub id with an open_clip_config.json, or of an architecture.

    For an architecture `pretrained` is a tag of open_clip, a weights file, or None for random weights (always the same).
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2

    network = _from_folder(model) if is_model_folder(model) else _from_architecture(model, pretrained)
    preprocess = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
    return ClipImageEncoder(network.to(device).eval(), preprocess, device)


def check_model(model: str, pretrained: str | None) -> None:
    """Raise RecipeError where a local folder lacks what is loaded, or open_clip knows no such architecture or tag. Nothing is loaded."""
    if not is_model_folder(model):
        _check_architecture(model, pretrained)
    elif (folder := local_path(model, "clip")) is not None:
        _check_folder(model, folder)


def _from_folder(model: str) -> Any:
    import open_clip

    folder = fetch(model)
    _check_folder(model, folder)
    return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, pretrained_text=False)


def _check_folder(model: str, folder: Path) -> None:
    if not (folder / "open_clip_config.json").is_file():
        raise RecipeError(
            f"weights {model!r}: {folder} holds no open_clip_config.json; for an architecture: model: ViT-L-14, pretrained: openai"
        )
    read_config(model, folder, "open_clip_config.json")
    check_weights_files(model, folder, WEIGHTS_SUFFIXES)


def _from_architecture(architecture: str, pretrained: str | None) -> Any:
    import open_clip
    import torch

    _check_architecture(architecture, pretrained)
    if pretrained is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return open_clip.create_model(architecture, pretrained_text=False)
    if pretrained.endswith(WEIGHTS_SUFFIXES):
        return open_clip.create_model(architecture, pretrained=pretrained, require_pretrained=True)
    return _from_tag(architecture, pretrained)


def _check_architecture(architecture: str, pretrained: str | None) -> None:
    known = known_architectures()
    if architecture not in known:
        raise RecipeError(f"open_clip knows no architecture {architecture!r}{nearest(architecture, known)}")
    if pretrained is None:
        return
    if pretrained.endswith(WEIGHTS_SUFFIXES):
        if not Path(pretrained).is_file():
            raise RecipeError(f"pretrained {pretrained!r}: no such weights file")
        if pretrained.endswith(".safetensors"):
            safetensors_header(pretrained, Path(pretrained))
    elif place_of(architecture, pretrained) is None:
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(architecture)
        # A tag that another library registered may name a file of this machine.
        if pretrained not in tags:
            there = ", ".join(tags) or "none"
            raise RecipeError(f"pretrained {pretrained!r}: open_clip has no such tag for {architecture}; there are {there}; or give a file")


def _from_tag(architecture: str, tag: str) -> Any:
    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    config = get_pretrained_cfg(architecture, tag)
    try:
        download_pretrained(config)
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"open_clip could not download {architecture}/{tag}: {error}") from error
    # open_clip only warns where the tag was trained with QuickGELU and the architecture says GELU: the features would be wrong.
    quick = bool(config.get("quick_gelu", False))
    return open_clip.create_model(architecture, pretrained=tag, require_pretrained=True, force_quick_gelu=quick)
