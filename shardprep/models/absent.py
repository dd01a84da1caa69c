"""Weights that are not on this machine: how large they are, whether they can be fetched now, and by which command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shardprep.core.quantity import size_words
from shardprep.errors import Unavailable
from shardprep.models.hub import FILE_SUFFIXES, NotHere, find_commit, is_fetched, is_offline, size_of
from shardprep.models.open_clip_tags import TagPlace, place_of
from shardprep.models.weights import HubWeights, OpenClipTag, digest_weights, resolve

KNOWN_BYTES: Mapping[str, int] = {
    # The files of commit 0fad780a534b of the repository.
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/text_encoder": 22_723_671_744,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/tokenizer": 21_454_609,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers/vae": 507_591_892,
    # Their numbers of parameters, 927,969 and 427,616,513, in fp32.
    "trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth": 3_711_876,
    "open_clip:ViT-L-14/openai": 1_710_466_052,
}
"""Sizes of the weights that our recipes and the stages' defaults name, about: what a plan says where the hub cannot be asked."""
OFFLINE, NO_ANSWER = "HF_HUB_OFFLINE is set", "the hub gives no answer"


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Weights that are not on this machine."""

    name: str
    num_bytes: int | None
    """None: unknown until the hub can be asked."""
    is_estimate: bool
    """Whether the size is what is known of these weights, and not what the hub says now."""
    obstacle: str | None
    """Why they cannot be fetched now; None: a run fetches them."""
    command: str
    """What fetches them where there is a network."""

    @property
    def size(self) -> str:
        """The size in words."""
        if self.num_bytes is None:
            return "size unknown until the hub can be asked"
        return f"{'about ' if self.is_estimate else ''}{size_words(self.num_bytes)}"


def look_for(name: str) -> tuple[str | None, Absent | None]:
    """Return the digest of weights, None where the hub cannot be asked for it; and, where they are not on this machine, what is absent.

    Raises RecipeError where the name leads nowhere. Nothing is fetched but configs, of which the hub tells the commit.
    """
    found = resolve(name)
    if isinstance(found, OpenClipTag):
        return name, _absent_tag(name, found)
    if not isinstance(found, HubWeights):
        return digest_weights(name), None
    command = _command(found)
    try:
        commit = find_commit(found.repo, found.revision)
    except (NotHere, Unavailable):
        return None, _absent(name, None, command, OFFLINE if is_offline() else NO_ANSWER)
    if is_fetched(found.repo, found.path, commit):
        return commit, None
    return commit, _absent(name, size_of(found.repo, found.path, found.revision), command)


def _absent_tag(name: str, tag: OpenClipTag) -> Absent | None:
    place = place_of(tag.architecture, tag.tag)
    if place is None or place.is_here():
        return None
    if place.repo is None:
        return _absent(name, None, _command_of_address(place), OFFLINE if is_offline() else None)
    sizes = (size_of(place.repo, file, None) for file in place.files)
    return _absent(name, next(filter(None, sizes), None), shlex.join(["hf", "download", place.repo, place.files[0]]))


def _absent(name: str, num_bytes: int | None, command: str, obstacle: str | None = None) -> Absent:
    """Describe absent weights; with neither a size nor an obstacle the hub gave no answer."""
    if num_bytes is None and obstacle is None:
        obstacle = OFFLINE if is_offline() else NO_ANSWER
    known = KNOWN_BYTES.get(name.partition("@")[0])
    is_estimate = num_bytes is None and known is not None
    return Absent(name=name, num_bytes=known if is_estimate else num_bytes, is_estimate=is_estimate, obstacle=obstacle, command=command)


def _command(found: HubWeights) -> str:
    """Return the command that fetches just these weights; of a whole repository not the folders in it."""
    words = ["hf", "download", found.repo]
    if found.path.endswith(FILE_SUFFIXES):
        words.append(found.path)
    else:
        words += ["--include", f"{found.path}/*"] if found.path else ["--exclude", "*/*"]
    return shlex.join([*words, *(["--revision", found.revision] if found.revision else [])])


def _command_of_address(place: TagPlace) -> str:
    target = Path.home() / ".cache" / "clip" / place.files[0]
    return shlex.join(["curl", "--create-dirs", "-o", str(target), place.url or ""])
