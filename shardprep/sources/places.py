"""Places of files: local paths and URLs, joined, split and made relative in one way."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shardprep.redaction import unsigned, without_password
from shardprep.shards.kinds import URL

WEB = ("http", "https")
"""Schemes of web servers."""
_PATH_PARAMETER = re.compile(r";[^;/=]+=[^;/]*")
"""As in `/a.mp4;jsessionid=0A1B.node1`: no part of the file's name."""


def is_url(place: str) -> bool:
    """Whether a place is a URL; anything else is a local path, whatever colons it holds."""
    return URL.match(place) is not None


def scheme_of(place: str) -> str:
    """Return the scheme of a URL, `file` for a local path."""
    match = URL.match(place)
    return match[1] if match else "file"


def absolute(place: str) -> str:
    """Return an absolute path or a URL, without a slash at the end."""
    if is_url(place):
        return place.rstrip("/")
    return os.path.abspath(os.path.expanduser(place.removeprefix("file://")))


def join(folder: str, name: str) -> str:
    """Return what `name` means in a folder: itself where it is absolute or a URL; `.` and `..` resolved, so one file has one place."""
    if is_url(name):
        return name
    name = name.removeprefix("file://")
    if name.startswith("/"):
        return posixpath.normpath("/" + name.lstrip("/"))
    if not is_url(folder):
        return posixpath.normpath(f"{folder}/{name}")
    head, path = _split_scheme(folder)
    return head + re.sub(r"^(\.\./)+", "", posixpath.normpath(f"{path}/{name}"))


def split_url(place: str) -> tuple[str, str]:
    """Return the folder and the name of a file."""
    folder, _, name = place.rpartition("/")
    return folder or "/", name


def relative(place: str, root: str) -> str:
    """Return a place relative to a root with `/`, or the whole of it where it is not below."""
    prefix = root if root.endswith("/") else f"{root}/"
    return place.removeprefix(prefix) if root else place


def common_folder(folders: Sequence[str]) -> str:
    """Return the deepest folder above or equal to all; empty where they lie on several stores."""
    split = [_split_scheme(folder) for folder in folders]
    shared = split[0][1].split("/")
    for head, path in split[1:]:
        if head != split[0][0]:
            return ""
        parts = path.split("/")
        while parts[: len(shared)] != shared:
            shared.pop()
    return split[0][0] + "/".join(shared) if shared != [""] else "/"


def public(place: str) -> str:
    """Return a place as it is recorded: a URL without credentials, so that it is one place however often a web address is signed."""
    if scheme_of(place) in WEB:
        return unsigned(place)
    return without_password(place) if is_url(place) else place


def store_of(place: str) -> str:
    """Return the store that a place lies in: scheme and bucket or host of a URL, `file://` for local paths."""
    head, path = _split_scheme(place)
    return f"{head}{path.partition('/')[0].rpartition('@')[2]}" if head else "file://"


def is_public(places: Iterable[str], storage_options: Mapping[str, Any] | None) -> bool:
    """Whether these are web addresses that carry no credentials, and none are given beside them."""
    return not storage_options and all(scheme_of(place) in WEB and public(place) == place for place in places)


def suffix_of(place: str) -> str:
    """Return what follows the last dot of a name, lower-case, empty where there is none; a query counts where a web address has none."""
    if scheme_of(place) in WEB:
        path, _, query = place.partition("?")
        # `get?file=https://host/a.mp4` has its name in the query
        return _suffix(_PATH_PARAMETER.sub("", path)) or _suffix(path) or _suffix(re.split("[?&]", query)[0])
    return _suffix(place)


def _suffix(path: str) -> str:
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return sys.intern(suffix.lower()) if dot and stem else ""


def _split_scheme(place: str) -> tuple[str, str]:
    match = URL.match(place)
    return (place[: match.end()], place[match.end() :]) if match else ("", place)
