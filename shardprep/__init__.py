"""Raw videos to training-ready WebDataset shards: `run` a recipe, `open_set` what it made, subclass `Stage` for your own steps."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardprep.api import Recipe as Recipe
    from shardprep.api import load_recipe as load_recipe
    from shardprep.api import open_set as open_set
    from shardprep.api import plan as plan
    from shardprep.api import retry as retry
    from shardprep.api import run as run
    from shardprep.api import shard_urls as shard_urls
    from shardprep.api import status as status
    from shardprep.api import verify as verify
    from shardprep.core.sample import Sample as Sample
    from shardprep.core.stage import Filter as Filter
    from shardprep.core.stage import Map as Map
    from shardprep.core.stage import Stage as Stage
    from shardprep.runtime.adapt import apply_stages as apply_stages
    from shardprep.runtime.adapt import as_webdataset as as_webdataset

__version__ = "0.1.0"

_HOMES = {
    "shardprep.api": ("Recipe", "load_recipe", "open_set", "plan", "retry", "run", "shard_urls", "status", "verify"),
    "shardprep.core.sample": ("Sample",),
    "shardprep.core.stage": ("Filter", "Map", "Stage"),
    "shardprep.core.outcome": ("Dropped", "Failed", "Joined", "Kept", "Split"),
    "shardprep.runtime.adapt": ("apply_stages", "as_webdataset"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import shardprep` loads neither av nor pyarrow nor torch."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'shardprep' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
