"""What a local model folder must hold, looked at without loading any of it: of weights the headers alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shardprep.core.blob import FileBlob
from shardprep.core.tensors import TensorInfo, read_header
from shardprep.errors import RecipeError, ShardError


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
    """Raise RecipeError where a folder holds no weights file, an empty or torn one, or not all that its index names.

    Of the `suffixes` the first one counts that a file, or a part in an index, has: a repository may hold the same weights in two formats,
    of which only one was fetched. Files in torch's own formats are not looked into: they are pickles.
    """
    files = [path for path in folder.iterdir() if path.name.endswith(tuple(suffixes))]
    if not files:
        raise RecipeError(f"weights {name!r}: {folder} holds no weights file ({', '.join(suffixes)}); download it again")
    indexes = {index.name: _weight_map(name, folder, index.name) for index in sorted(folder.glob("*.index.json"))}
    parts = {part for weight_map in indexes.values() for part in weight_map.values()}
    named = {*parts, *(path.name for path in files)}
    loaded = next((suffix for suffix in suffixes if any(name.endswith(suffix) for name in named)), "")
    wanted = {part for part in parts if part.endswith(loaded)}
    if missing := sorted(wanted - {path.name for path in folder.iterdir()}):
        raise RecipeError(f"weights {name!r}: {folder} lacks {missing[0]}, which its index names; download it again")
    if empty := [path.name for path in files if not path.stat().st_size]:
        raise RecipeError(f"weights {name!r}: {folder / empty[0]} is empty; download it again")
    tensors = {path.name: safetensors_header(name, path) for path in sorted(files) if path.suffix == ".safetensors"}
    for index, weight_map in indexes.items():
        if torn := [(tensor, part) for tensor, part in sorted(weight_map.items()) if part in tensors and tensor not in tensors[part]]:
            tensor, part = torn[0]
            raise RecipeError(f"weights {name!r}: {folder / part} lacks {tensor}, which {index} looks for in it; download both again")


def safetensors_header(name: str, path: Path) -> Mapping[str, TensorInfo]:
    """Return the tensors of a safetensors file by name; RecipeError where it is none, or not as long as its header says."""
    try:
        return read_header(FileBlob(str(path), 0, path.stat().st_size))
    except ShardError as error:
        words = re.sub(r"[:;,] make (it|the file) again$", "", str(error))
        raise RecipeError(f"weights {name!r}: {path}: {words}; download it again") from error


def _weight_map(name: str, folder: Path, index: str) -> Mapping[str, str]:
    """Return the file of each tensor, as an index says it."""
    found = read_config(name, folder, index).get("weight_map", {})
    if not isinstance(found, dict) or not all(isinstance(part, str) for part in found.values()):
        raise RecipeError(f"weights {name!r}: the weight_map of {folder / index} does not name a file per tensor; download it again")
    return found
