"""Keys of sources: readable, unique, and the same on every machine."""

from __future__ import annotations

import hashlib
import posixpath
import re

SLUG_CHARS = 40
HASH_CHARS = 16
"""64 bits: among a hundred million names with one slug, two are equal with a chance of 1 in 3,700."""
_OTHER = re.compile(r"[^a-z0-9_]+")


def source_key(path: str, name: str | None = None) -> str:
    """Return `slug-hash16` for a path relative to the source root.

    The slug is made of the ASCII letters of `name` (the path's last part without its suffix); it is for people. The hash
    is over the exact bytes of the path: two names that look alike but differ in case, or in Unicode normalisation, are
    two files on most disks and so have two keys. Nothing here depends on a version of Unicode.
    """
    if name is None:
        name = posixpath.splitext(posixpath.basename(path))[0]
    slug = _OTHER.sub("-", _ascii_lower(name)).strip("-_")[:SLUG_CHARS].rstrip("-_")
    return f"{slug or 'sample'}-{_digest(path)[:HASH_CHARS]}"


def longer_key(key: str, path: str) -> str:
    """Return a key for a path whose own one belongs to another path too; no other path has it."""
    return f"{key}-{_digest(path)[HASH_CHARS : HASH_CHARS + 16]}"


def printable(path: str) -> str:
    r"""Return a path as text that JSON and Arrow can hold: bytes that are no UTF-8 are written `\xff`."""
    # the same text, not a copy: there is one for every source
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _digest(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()


def _ascii_lower(name: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)
