"""File names of a packed set: its packings, and what lies in each."""

from __future__ import annotations

import re
from collections.abc import Iterable

MANIFEST_FILE = "manifest.json"
"""In the folder of the step the pointer to the packing that counts, in the folder of a packing what it holds."""
INDEX_FILE = "index.parquet"
CARD_FILE = "README.md"
"""The dataset card, by which Hugging Face `datasets` finds the tars of the packing that counts."""
ROWS_SUFFIX = ".rows"
"""Files of rows lie beside the ledgers of a packing until it is whole."""
FAILED_SHARD = "failed-000000"
"""The shard that holds no sample, only the fates of those that could not be packed."""

_PACKING = re.compile(r"[0-9a-f]{8}")


def packing_name(fingerprint: str) -> str:
    """Return the folder of a packing, which says what it is made from."""
    return fingerprint[:8]


def is_packing_name(name: str) -> bool:
    """Whether a folder of this name in the folder of the step is a packing."""
    return _PACKING.fullmatch(name) is not None


def by_packing(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the files of each packing by its name, as paths in it; files beside the packings are left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        packing, _, inner = name.partition("/")
        if inner and is_packing_name(packing):
            found.setdefault(packing, []).append(inner)
    return found
