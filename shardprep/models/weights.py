"""What weights are called, where they lie, and which bytes they are.

A name is a hub id (`OWNER/REPO[/FOLDER or FILE][@REVISION]`), a local folder or file, `tiny:NAME` (random weights made by
`shardprep models tiny`) or `open_clip:ARCHITECTURE/TAG` (weights that open_clip itself knows).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shardprep.errors import RecipeError
from shardprep.models.hub import fetch_files, find_commit

RANDOM_MARKER = "RANDOM_MODEL"
"""A file of this name in a folder says that its weights are random."""
RANDOM_WORDS = "RANDOM MODEL"
TINY_VERSION = 1
"""Raised when the tiny models change."""
TINY_MODELS = ("clip", "aesthetic", "t5", "wan-vae")
_TINY, _OPEN_CLIP = "tiny:", "open_clip:"
_HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<path>[\w./-]+?))?(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubWeights:
    """A repository of the hub, a folder or file in it (empty: all of it) and a revision (None: main)."""

    repo: str
    path: str
    revision: str | None


@dataclass(frozen=True)
class OpenClipTag:
    """Weights that open_clip downloads by architecture and tag; a tag names one release and does not move."""

    architecture: str
    tag: str


def cache_folder() -> Path:
    """Return the folder for tiny models and digests: $SHARDPREP_CACHE, else ~/.cache/shardprep."""
    return Path(os.environ.get("SHARDPREP_CACHE") or Path.home() / ".cache" / "shardprep")


def tiny_folder_name(name: str) -> str:
    """Return the folder name of a tiny model: its version is part of it."""
    return f"{name}-{TINY_VERSION}"


def resolve(name: str) -> Path | HubWeights | OpenClipTag:
    """Return where weights lie, without fetching them; RecipeError where the name leads nowhere."""
    if name.startswith(_TINY):
        return _tiny_path(name.removeprefix(_TINY))
    if name.startswith(_OPEN_CLIP):
        architecture, _, tag = name.removeprefix(_OPEN_CLIP).partition("/")
        return OpenClipTag(architecture, tag)
    path = Path(name).expanduser()
    if name and path.exists():
        return path
    match = _HUB_NAME.fullmatch(name)
    if match is None or name.startswith((".", "/", "~")):
        raise RecipeError(f"weights {name!r}: no such path, and no hub id; expected OWNER/REPO[/FOLDER][@REVISION], a path or tiny:NAME")
    return HubWeights(match["repo"], match["path"] or "", match["revision"])


def local_path(name: str, tiny: str) -> Path | None:
    """Return where weights of the user's own lie; None for those of the hub, of open_clip and tiny ones. Raises as `resolve` does.

    RecipeError where a tiny model is named that is not `tiny`, the one that is wanted: a tiny model need not be made yet.
    """
    if name.startswith(_TINY) and name != f"{_TINY}{tiny}":
        is_known = name.removeprefix(_TINY) in TINY_MODELS
        what = "a tiny model of another kind" if is_known else "there is no such tiny model"
        raise RecipeError(f"weights {name!r}: {what}; expected {_TINY}{tiny}")
    found = None if name.startswith(_TINY) else resolve(name)
    return found if isinstance(found, Path) else None


def fetch(name: str) -> Path:
    """Return the local folder or file of weights, downloaded from the hub where they are not here."""
    found = resolve(name)
    if isinstance(found, OpenClipTag):
        raise RecipeError(f"weights {name!r}: only embed_clip reads open_clip's own tags")
    return found if isinstance(found, Path) else fetch_files(found.repo, found.path, found.revision)


def digest_weights(name: str) -> str:
    """Return what identifies the bytes of weights: a hub commit, or the sha256 of a local file or of a folder's files."""
    found = resolve(name)
    if isinstance(found, OpenClipTag):
        return name
    if isinstance(found, HubWeights):
        return find_commit(found.repo, found.revision)
    return _digest_file(found) if found.is_file() else _digest_folder(found)


def is_digest_of_files(digest: str) -> bool:
    """Whether a digest is that of files on this machine, and not a commit of the hub or a tag."""
    return re.fullmatch(r"[0-9a-f]{64}", digest) is not None


def describe(name: str) -> str:
    """Return `NAME@REVISION` for records, without machine paths; random weights are called RANDOM MODEL."""
    found = resolve(name)
    if isinstance(found, OpenClipTag):
        return f"{found.architecture}/{found.tag}"
    if isinstance(found, HubWeights):
        return f"{name.partition('@')[0]}@{digest_weights(name)[:12]}"
    title = name if name.startswith(_TINY) else found.name
    text = f"{title}@{digest_weights(name)[:12]}"
    return f"{text} {RANDOM_WORDS}" if is_random(found) else text


def is_random(path: Path) -> bool:
    """Whether a folder, or the folder of a file, is marked as random weights."""
    return ((path if path.is_dir() else path.parent) / RANDOM_MARKER).exists()


def _tiny_path(name: str) -> Path:
    if name not in TINY_MODELS:
        raise RecipeError(f"weights tiny:{name}: there is no such tiny model; there are {', '.join(TINY_MODELS)}")
    path = cache_folder() / "tiny" / tiny_folder_name(name)
    if not path.is_dir():
        raise RecipeError(f"weights tiny:{name}: not in {path.parent}; make the tiny models with `shardprep models tiny`")
    return path


def _digest_folder(folder: Path) -> str:
    files = sorted(path.relative_to(folder) for path in _files_in(folder, ()))
    lines = [f"{_digest_file(folder / file)}  {file.as_posix()}\n" for file in files]
    if not lines:
        raise RecipeError(f"weights {folder}: the folder holds no files")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files_in(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files that a loader can open in a folder and those in it, hidden ones left out; links are followed, but not in a circle."""
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_in(path, (*above, here))
        elif path.is_file():
            yield path


def _digest_file(path: Path) -> str:
    """Return a file's sha256; what was read once is remembered until the file is another one, or was written to.

    The size and mtime alone can be those of before: unpacking and copying restore them. Nobody can set the ctime.
    """
    stat = path.stat()
    identity = "\n".join(map(str, (path.resolve(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino)))
    note = cache_folder() / "digests" / hashlib.sha256(identity.encode()).hexdigest()
    if note.is_file() and is_digest_of_files(known := note.read_text(encoding="ascii")):
        return known
    digest = _read_digest(path, identity)
    _remember(note, digest)
    return digest


@lru_cache(maxsize=1024)  # where no cache can be written, a worker still reads a file once and not for every shard
def _read_digest(path: Path, _identity: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(note: Path, digest: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False, encoding="ascii") as file:
            file.write(digest)
        os.replace(file.name, note)
    except OSError:
        # A cache that cannot be written costs time, nothing else.
        return
