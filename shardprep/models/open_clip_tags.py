"""What open_clip knows by name, and where the weights of its tags lie; torch is loaded only for names that our recipes do not use."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KNOWN_TAGS: Mapping[tuple[str, str], str] = {("ViT-L-14", "openai"): "timm/vit_large_patch14_clip_224.openai/"}
"""Architecture and tag, and where the hub has them: as in open_clip 3.3, whose own table takes seconds to load."""
_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Files that open_clip looks for, in this order, where a tag names a repository and no file."""


@dataclass(frozen=True)
class TagPlace:
    """Where the weights of a tag lie: in a repository of the hub, as the first of `files` that it has, or at an address."""

    repo: str | None
    files: tuple[str, ...]
    url: str | None = None

    def is_here(self) -> bool:
        """Whether one of them is on this machine; nothing is asked of the hub."""
        if self.repo is None:
            return any((Path.home() / ".cache" / "clip" / file).is_file() for file in self.files)
        from huggingface_hub import try_to_load_from_cache

        return any(isinstance(try_to_load_from_cache(self.repo, file), str) for file in self.files)


def known_architectures() -> Sequence[str]:
    """Return the names of open_clip's architectures: from its config files, as an import takes seconds; once imported it is asked."""
    if (open_clip := sys.modules.get("open_clip")) is not None:
        return sorted(open_clip.list_models())
    spec = importlib.util.find_spec("open_clip")
    folders = (spec.submodule_search_locations or []) if spec else []
    return sorted(path.stem for folder in folders for path in (Path(folder) / "model_configs").glob("*.json"))


def place_of(architecture: str, tag: str) -> TagPlace | None:
    """Return where the weights of a tag come from; None where open_clip knows no such tag."""
    address = KNOWN_TAGS.get((architecture, tag), "")
    url = ""
    if not address:
        from open_clip.pretrained import get_pretrained_cfg

        config = get_pretrained_cfg(architecture, tag)
        address, url = config.get("hf_hub", ""), config.get("url", "")
    if address:
        repo, _, file = address.rpartition("/")
        return TagPlace(repo, (*_safer(file), file) if file else _NAMES)
    return TagPlace(None, (url.rpartition("/")[2],), url) if url else None


def _safer(file: str) -> tuple[str, ...]:
    """Return the name under which open_clip looks for the same weights as safetensors."""
    return (f"{file[:-4]}.safetensors",) if file.endswith((".bin", ".pth")) else ()
