"""What a local model folder must hold, looked at without loading any of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shardprep.errors import RecipeError


def read_config(name: str, folder: Path, file: str = "config.json") -> dict[str, Any]:
    """Return the config in a model's folder; RecipeError where there is none, or it is no JSON object."""
    path = folder / file
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"weights {name!r}: {folder} holds no {file}; expected the folder that the model was saved in") from error
    except ValueError as error:
        raise RecipeError(f"weights {name!r}: {path} is no JSON ({error}); download it again") from error
    if not isinstance(config, dict):
        raise RecipeError(f"weights {name!r}: {path} holds a {type(config).__name__}, expected an object; download it again")
    return config


def check_weights_files(name: str, folder: Path, suffixes: Sequence[str]) -> None:
    """Raise RecipeError where a folder holds no weights file, an empty one, or not all that its index names."""
    files = [path for path in folder.iterdir() if path.name.endswith(tuple(suffixes))]
    if not files:
        raise RecipeError(f"weights {name!r}: {folder} holds no weights file ({', '.join(suffixes)}); download it again")
    wanted = {
        part for index in folder.glob("*.index.json") for part in read_config(name, folder, index.name).get("weight_map", {}).values()
    }
    if missing := sorted(wanted - {path.name for path in folder.iterdir()}):
        raise RecipeError(f"weights {name!r}: {folder} lacks {missing[0]}, which its index names; download it again")
    if empty := [path.name for path in files if not path.stat().st_size]:
        raise RecipeError(f"weights {name!r}: {folder / empty[0]} is empty; download it again")
