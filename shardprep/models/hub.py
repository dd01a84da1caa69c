"""Fetching weights from the Hugging Face hub, and its errors in our words."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardprep.errors import MissingExtra, RecipeError, Unavailable

_TRUE = frozenset({"1", "on", "yes", "true"})
_ASK_SECONDS = 10
_CONFIGS = ("*.json", "*.txt", "*.model", "RANDOM_MODEL")
FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""How a name ends that leads to a file of a repository, and not to a folder."""
_WEIGHTS_SUFFIXES = (".safetensors", ".bin")
"""Formats of the weights in a folder; files of the first one that it has are taken."""
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model")


class NotHere(RecipeError):
    """Weights that the local cache lacks, where the hub may not be asked."""


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE asks for the local cache only."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def find_commit(repo: str, revision: str | None) -> str:
    """Return the commit that the hub (offline: the cache) has for a revision; a commit is returned as it is."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    return _snapshot(repo, revision, ["config.json", "open_clip_config.json", "model_index.json"]).name


def fetch_files(repo: str, path: str, revision: str | None) -> Path:
    """Return the local folder (or file) of `path` in a repository, downloaded where it is not cached.

    Of a folder: its configs and its safetensors, not the folders in it; weights in torch's own format only where there are no safetensors.
    """
    commit = find_commit(repo, revision)
    prefix = f"{path}/" if path else ""
    is_file = path.endswith(FILE_SUFFIXES)
    patterns = [path] if is_file else [prefix + pattern for pattern in (*_CONFIGS, "*.safetensors")]
    found = _snapshot(repo, commit, patterns, below=f"{prefix}*/*") / path
    if not is_file and not any(found.glob("*.safetensors")):
        found = _snapshot(repo, commit, [f"{prefix}*.bin"], below=f"{prefix}*/*") / path
    if not found.exists():
        raise RecipeError(f"weights {repo}: revision {commit[:12]} holds no {path}; look at https://huggingface.co/{repo}/tree/{commit}")
    return found


def is_fetched(repo: str, path: str, commit: str) -> bool:
    """Whether weights lie in the local cache, all that an index names, or a tokenizer without weights; nothing is asked of the hub."""
    from huggingface_hub import constants

    found = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots" / commit / path
    if not found.is_dir():
        return found.is_file()
    there = {file.name for file in found.iterdir() if file.is_file()}
    for suffix in _WEIGHTS_SUFFIXES:
        if any(name.endswith(suffix) for name in there):
            return all(_files_of_index(found / name) <= there for name in there if name.endswith(f"{suffix}.index.json"))
    return "config.json" not in there and not there.isdisjoint(_TOKENIZER_FILES)


def _files_of_index(index: Path) -> set[str]:
    """Return the files that the index of a model in several files names; none where it cannot be read."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError, OSError):
        return set()


def size_of(repo: str, path: str, revision: str | None) -> int | None:
    """Return the bytes of weights as the hub says them; None where it is not to be asked, or gives no answer."""
    from huggingface_hub import HfApi, errors

    if is_offline():
        return None
    try:
        files = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_ASK_SECONDS).siblings or []
    except (errors.HTTPError, OSError):
        # Its own errors are those of its HTTP library, which raises others where there is no network.
        return None
    inside = [file for file in files if file.rfilename == path or file.rfilename.rpartition("/")[0] == path]
    by_kind = ([file for file in inside if file.rfilename.endswith(suffix)] for suffix in _WEIGHTS_SUFFIXES)
    return sum(file.size or 0 for file in next(filter(None, by_kind), inside)) or None


def _snapshot(repo: str, revision: str | None, patterns: list[str], below: str | None = None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra(f"fetching {repo}", "huggingface_hub", "models") from error
    with _our_words(repo, revision):
        return Path(
            snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=below, local_files_only=is_offline())
        )


@contextmanager
def _our_words(repo: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub import errors

    what = f"weights {repo}@{revision or 'main'}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise RecipeError(f"{what}: gated; accept the terms at https://huggingface.co/{repo} and run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise RecipeError(
            f"{what}: neither a local folder nor a public repository of the hub; a name is OWNER/REPO[/FOLDER][@REVISION] or a path. "
            "For a private repository run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RecipeError(f"{what}: the repository has no such revision; look at https://huggingface.co/{repo}/commits/main") from error
    except errors.HFValidationError as error:
        raise RecipeError(f"{what}: {error}") from error
    except errors.LocalEntryNotFoundError as error:
        if is_offline():
            raise NotHere(
                f"{what}: not in the local cache, and HF_HUB_OFFLINE is set; unset it, or run `hf download {repo}` where there is a network"
            ) from error
        raise Unavailable(f"{what}: the hub cannot be reached and the local cache lacks files: {error}") from error
    except OSError as error:
        raise Unavailable(f"{what}: {error}") from error
