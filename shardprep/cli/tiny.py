"""Tiny models for recipes that name them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from shardprep.errors import MissingExtra

_LIBRARIES = ("torch", "transformers", "diffusers", "open_clip", "sentencepiece")


def make_tiny(folder: Path | None = None) -> dict[str, Path]:
    """Make the tiny models that `folder` (the cache where None) lacks, and return their folders by name."""
    for library in _LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise MissingExtra("making tiny models", library, "models")
    from shardprep.testing.models import make_tiny_models

    return make_tiny_models(folder)
