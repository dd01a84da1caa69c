"""JSON documents that carry a digest of their own content, so that a changed byte is noticed wherever it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from shardprep.core.fingerprint import FORMAT_VERSION, digest
from shardprep.errors import Damaged, ShardError
from shardprep.shards.store import Store

FORMAT_FIELD = "format"
DIGEST_FIELD = "digest"

T = TypeVar("T")


def seal(values: Mapping[str, Any]) -> bytes:
    """Return the document: the values, the format version, and under `digest` the sha256 of the canonical JSON of both."""
    assert not values.keys() & {FORMAT_FIELD, DIGEST_FIELD}, "the seal's own fields"
    whole = {**values, FORMAT_FIELD: FORMAT_VERSION}
    return (json.dumps(whole | {DIGEST_FIELD: digest(whole)}, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def unseal(data: bytes, where: str, remedy: str, read: Callable[[dict[str, Any]], T]) -> T:
    """Return what `read` makes of a document's values, without the seal's own fields; Damaged, which ends with `remedy`, where a byte
    was changed, or where `read` finds that a document of another kind has taken its place.

    ShardError where it has another format.
    """
    values = _unsealed(data, where, remedy)
    try:
        return read(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise _damaged(where, f"another document lies in its place: {why}", remedy) from error


def _unsealed(data: bytes, where: str, remedy: str) -> dict[str, Any]:
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise _damaged(where, f"it holds a {type(values).__name__}, expected an object", remedy)
        said = values.pop(DIGEST_FIELD, None)
        version = values.pop(FORMAT_FIELD, None)
        is_whole = said is not None and said == digest(values | {FORMAT_FIELD: version})
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"{type(error).__name__}: {error}", remedy) from error
    if version != FORMAT_VERSION and (is_whole or (said is None and isinstance(version, int))):
        raise ShardError(f"{where} has format {version}; this version of shardprep reads {FORMAT_VERSION}. Make the set again")
    # The digest covers what the bytes say; that they say it in these very bytes finds a changed space as well.
    if not is_whole or seal(values) != data:
        raise _damaged(where, "it was changed after it was written", remedy)
    return values


def read_sealed(store: Store, name: str, remedy: str, read: Callable[[dict[str, Any]], T]) -> T | None:
    """Return what `read` makes of a document's values, or None where there is none; raises what `unseal` does."""
    data = store.read_if_there(name)
    return None if data is None else unseal(data, f"{store.url}/{name}", remedy, read)


def write_sealed(store: Store, name: str, values: Mapping[str, Any]) -> None:
    """Write a document in one piece, in the place of an earlier one."""
    store.replace_bytes(name, seal(values))


def create_sealed(store: Store, name: str, values: Mapping[str, Any]) -> bool:
    """Write a document that must not exist yet; False where it does."""
    return store.create_bytes(name, seal(values))


def _damaged(where: str, what: str, remedy: str) -> Damaged:
    return Damaged(f"{where} cannot be read ({what[:300]}). {remedy}")
