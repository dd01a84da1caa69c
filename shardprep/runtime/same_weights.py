"""Whether weights are still those that a pass began with: what a stage loads must be what the fingerprint of its results says."""

from __future__ import annotations

from collections.abc import Mapping

from shardprep.errors import RecipeError, ShardprepError, Unavailable
from shardprep.models.weights import digest_weights, is_digest_of_files

_NEXT = "Leave them as they are while a run uses them, and run again"


class WeightsChanged(ShardprepError):
    """Weights are no longer those whose digest entered the fingerprint."""


def check_weights(digests: Mapping[str, str], *, local_only: bool = False) -> None:
    """Raise WeightsChanged where weights have another digest than that given by name, or are gone.

    With `local_only` those of the hub are not asked for: a commit is its bytes, and those that were loaded stay what they were.
    """
    for name, known in digests.items():
        if local_only and not is_digest_of_files(known):
            continue
        try:
            found = digest_weights(name)
        except Unavailable:
            raise
        except (RecipeError, OSError) as error:
            raise WeightsChanged(f"{_changed(name)}: they cannot be read any more ({error}). {_NEXT}") from error
        if found != known:
            raise WeightsChanged(
                f"{_changed(name)}, from {known[:12]} to {found[:12]}. Nothing was made with the new ones; {_NEXT.lower()}"
            )


def _changed(name: str) -> str:
    return f"weights {name!r} changed since the run began"
