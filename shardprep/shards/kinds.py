"""Kinds of stores: which URLs are understood, and what must be installed for each."""

from __future__ import annotations

import re

from fsspec.registry import known_implementations, registry

from shardprep.errors import UnknownStore
from shardprep.redaction import without_password

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "web", "https": "web", "memory": "", "file": ""}
"""The extra that brings what a kind of store needs, by the scheme of its URLs; empty where the core suffices."""
_PACKAGES = {"az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
"""Kinds that fsspec knows with a package of its own; they are not tested here."""

URL = re.compile(r"(?!file://)([a-z][a-z0-9+.-]*)(?:://|::)")
"""What a URL begins with, its scheme as group 1; anything else is a local path, whatever colons it holds."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


def check_kind(url: str) -> None:
    """Raise UnknownStore where a URL names no kind of store that is understood, chains several, or names no bucket or host."""
    scheme = _SCHEME.match(url)
    name = scheme[0] if scheme else ""
    if "::" in url.partition("://")[0]:
        raise UnknownStore(f"{url}: chained URLs (a::b) are not read; name the file itself, or copy it first. {_known()}")
    if name not in EXTRAS and name not in _PACKAGES and not _is_plugged_in(name):
        raise UnknownStore(f"{url}: {name}:// is no kind of store that is read here; copy the files first. {_known()}")
    if name not in ("http", "https") and without_password(url) != url:
        raise UnknownStore(
            f"{url}: credentials in the address are not read; give them by {name}'s own environment variables, or storage_options"
        )
    if not url.partition("://")[2].strip("/") and name != "memory":
        raise UnknownStore(f"{url}: it names no bucket or host; expected {name}://NAME/PATH")


def missing_package(url: str, error: Exception) -> UnknownStore:
    """Return the error for a store whose package cannot be imported, with the command that installs it."""
    scheme = _SCHEME.match(url)
    name = scheme[0] if scheme else ""
    if extra := EXTRAS.get(name):
        return UnknownStore(f'{url}: {name}:// needs the extra {extra}. Install it with: pip install "shardprep[{extra}]"')
    if package := _PACKAGES.get(name):
        return UnknownStore(f"{url}: {name}:// needs {package}. Install it with: pip install {package}")
    return UnknownStore(f"{url}: {error}. {_known()}")


def _is_plugged_in(scheme: str) -> bool:
    """Whether somebody registered a filesystem of their own under this name in this process."""
    return scheme in registry and scheme not in known_implementations


def _known() -> str:
    return f"Known kinds of stores: local paths, {', '.join(f'{scheme}://' for scheme in (*EXTRAS, *_PACKAGES) if scheme != 'file')}"
