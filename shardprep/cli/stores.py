"""The option that says how a store is reached: endpoint and credentials, from a file or a variable, never on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from shardprep.errors import RecipeError
from shardprep.redaction import remember_secrets

VARIABLE = "SHARDPREP_STORAGE_OPTIONS"

StoreOptions = Annotated[
    str | None,
    typer.Option(
        "--storage-options",
        metavar="FILE",
        help=f"JSON with fsspec's options of the store, such as endpoint_url: a file, or env:NAME. Else {VARIABLE} where it is set.",
    ),
]


def read_options(given: str | None) -> dict[str, Any]:
    """Return the options that a file or a variable holds, none where nothing says any; RecipeError where they are no JSON object."""
    place = given or (f"env:{VARIABLE}" if os.environ.get(VARIABLE) else None)
    if place is None:
        return {}
    try:
        text = os.environ[place[4:]] if place.startswith("env:") else Path(place).read_text(encoding="utf-8-sig")
        options = json.loads(text)
    except KeyError as error:
        raise RecipeError(f"--storage-options {place}: there is no variable of that name") from error
    except OSError as error:
        raise RecipeError(f"--storage-options {place}: {error.strerror}; expected a JSON file, or env:NAME") from error
    except ValueError as error:
        # What the file holds is not shown: it may be a secret.
        raise RecipeError(
            f'--storage-options {place} is no JSON; expected an object such as {{"endpoint_url": "http://host:9000"}}'
        ) from error
    if not isinstance(options, dict):
        raise RecipeError(f"--storage-options {place} holds a JSON {type(options).__name__}, expected an object")
    remember_secrets(options)
    return options
