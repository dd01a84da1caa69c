"""Finds files: what folders, globs, brace patterns and URLs name, and whether a named file is there."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from braceexpand import braceexpand
from fsspec.utils import glob_translate

from shardprep.core.quantity import counted
from shardprep.core.version import FileVersion
from shardprep.errors import Forbidden, RecipeError, ShardprepError, StoreError, Unavailable, UnknownStore
from shardprep.shards.local import ABSENT
from shardprep.shards.refusal import refusals
from shardprep.shards.remote import version_now
from shardprep.shards.store import Store, StoredFile, open_filesystem
from shardprep.sources.keys import printable
from shardprep.sources.places import (
    WEB,
    absolute,
    common_folder,
    is_public,
    is_url,
    public,
    relative,
    scheme_of,
    split_url,
    store_of,
    suffix_of,
)
from shardprep.sources.refused import everything_refused

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_NUM_REQUESTS = 16
_SHOWN = 6
"""How many suffixes a message counts one by one."""

UNREACHABLE = "unreachable"
"""Version of a file whose web server refuses it or gives no answer."""

Files = dict[str, StoredFile]
"""Files by absolute path or URL."""


@dataclass(frozen=True)
class Found:
    """Files that were asked for, and all that were seen on the way, by absolute path or URL."""

    root: str
    """The folder above all of them; empty where URLs have none in common."""
    files: Files
    around: Files
    named: frozenset[str]
    """Those that were named without a wildcard, so that what lies beside them was not seen."""
    passed_over: Files
    """Those in the folders and globs whose suffix was not asked for."""


@dataclass(frozen=True)
class _Place:
    """One location without braces: a file, a folder, or a folder with a pattern for what is below."""

    folder: str
    file: str | None = None
    pattern: re.Pattern[str] | None = None


def find(
    locations: Sequence[str],
    suffixes: Collection[str],
    exclude: Sequence[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Found:
    """Return the files with one of the suffixes (in any case) that folders, globs, brace patterns and URLs name.

    Hidden files and folders, what lies below `exclude`, and symbolic links to files that are there as well are left out.
    A file named without a wildcard is listed with version `absent` where it is not there.
    """
    places = [_place(pattern, suffixes) for location in locations for pattern in _expand(location)]
    named = [place.file for place in places if place.file is not None]
    files = stat_files(named, storage_options)
    around = dict(files)
    passed_over: Files = {}
    walked: dict[str, Files] = {}
    for place in places:
        if place.file is not None:
            continue
        if place.folder not in walked:
            walked[place.folder] = _walk(place.folder, exclude, storage_options)
            around |= walked[place.folder]
        below = {url: file for url, file in walked[place.folder].items() if _matches(place, url)}
        files |= {url: file for url, file in below.items() if suffix_of(url) in suffixes}
        passed_over |= {url: file for url, file in below.items() if suffix_of(url) not in suffixes}
    return Found(common_folder([place.folder for place in places]), files, around, frozenset(named), passed_over)


def count_suffixes(urls: Iterable[str]) -> str:
    """Return how many files of each suffix there are, the most first, and one of them: `3 .srt, 1 .tar.gz, such as …`."""
    ordered = sorted(urls)
    number = Counter(map(_ending, ordered))
    counts = [f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(number.items(), key=lambda one: (-one[1], one[0]))]
    rest = f" and {counted(len(counts) - _SHOWN, 'other kind')}" if len(counts) > _SHOWN else ""
    return f"{', '.join(counts[:_SHOWN])}{rest}, such as {printable(public(ordered[0]))}"


def _ending(url: str) -> str:
    suffix = suffix_of(url)
    inner = suffix_of(url.removesuffix(url[-len(suffix) - 1 :])) if suffix else ""
    return f".tar.{suffix}" if inner == "tar" else f".{suffix}" if suffix else ""


def stat_files(urls: Iterable[str], storage_options: Mapping[str, Any] | None = None) -> Files:
    """Return size and version of files by their absolute path or URL; version `absent` where one is not there, or `unreachable`.

    Object stores are asked for listings, not file by file.
    """
    found: Files = {}
    remote: list[str] = []
    web: list[str] = []
    for url in dict.fromkeys(urls):
        if not is_url(url):
            found[url] = _stat_local(url)
        else:
            (web if scheme_of(url) in WEB else remote).append(url)
    num_stores = len({store_of(url) for url in (*found, *remote, *web)})
    found |= _stat_listed(remote, num_stores, storage_options)
    return found | _stat_web(web, storage_options)


def _expand(location: str) -> list[str]:
    """Return the patterns that braces stand for; a file or folder that is really called so is itself."""
    if not is_url(location) and os.path.lexists(absolute(location)):
        return [location]
    try:
        return list(braceexpand(location))
    except ValueError as error:
        raise RecipeError(f"source {location!r}: its braces are not balanced ({error}); write {{a,b}} or {{000..127}}") from error


def _place(pattern: str, suffixes: Collection[str]) -> _Place:
    place = absolute(pattern)
    if not is_url(place) and os.path.lexists(place):
        return _Place(place) if os.path.isdir(place) else _Place(split_url(place)[0], file=place)
    # a question mark starts the query of a web address
    wild = re.search(r"[*[]" if scheme_of(place) in WEB else r"[*?[]", place)
    if wild:
        folder = place[: wild.start()].rpartition("/")[0]
        return _Place(folder or "/", pattern=_compile(place, place[len(folder) + 1 :]))
    if suffix_of(place) in suffixes:
        return _Place(split_url(place)[0], file=place)
    return _Place(place)


def _compile(place: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(glob_translate(pattern))
    except ValueError as error:  # `**` inside a name
        raise RecipeError(f"source {place!r}: {error}; write folder/**/*.mp4") from error


def _matches(place: _Place, url: str) -> bool:
    return place.pattern is None or place.pattern.match(relative(url, place.folder)) is not None


def _walk(folder: str, exclude: Sequence[str], storage_options: Mapping[str, Any] | None) -> Files:
    prefix = folder if folder.endswith("/") else f"{folder}/"
    barred = tuple(_below(folder, exclude))
    files = {
        prefix + file.name: file
        for file in Store(folder, storage_options).walk()
        if not file.name.startswith(".") and "/." not in file.name and not file.name.startswith(barred)
    }
    return files if is_url(folder) else dict(_without_aliases(files))


def _below(folder: str, exclude: Sequence[str]) -> Iterator[str]:
    """Yield what is excluded as prefixes of names. If the source itself lies in an excluded folder, exclude nothing."""
    for place in map(absolute, exclude):
        ways = [(folder, place)] if is_url(folder) else [(folder, place), (os.path.realpath(folder), os.path.realpath(place))]
        yield from {f"{relative(below, above)}/" for above, below in ways if relative(below, above) != below}


def _without_aliases(files: Files) -> Iterator[tuple[str, StoredFile]]:
    """Yield all but links to files that are there under their own name, or under the name of an earlier link."""
    links = {path for path in files if os.path.islink(path)}
    seen = {_identity(path) for path in files if path not in links} if links else set()
    for path in sorted(files):
        if path in links and files[path].version != ABSENT:
            identity = _identity(path)
            if identity in seen:
                continue
            seen.add(identity)
        yield path, files[path]


def _identity(path: str) -> tuple[int, int]:
    with refusals(f"listing {path}"):
        status = os.stat(path)
    return status.st_dev, status.st_ino


def _stat_local(path: str) -> StoredFile:
    with refusals(f"reading {path}"):
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return StoredFile(path, 0, ABSENT)
            raise
        except ValueError:  # a NUL in the name
            return StoredFile(path, 0, ABSENT)
    if not stat.S_ISREG(status.st_mode):
        return StoredFile(path, 0, ABSENT)
    return StoredFile.of(path, FileVersion.of(status))


def _stat_listed(urls: Sequence[str], num_stores: int, storage_options: Mapping[str, Any] | None) -> Files:
    """Look files up in listings. A store that refuses is an error, unless one file of several stores' is all that it holds."""
    found: Files = {}
    by_store: dict[str, list[str]] = {}
    for url in urls:
        by_store.setdefault(store_of(url), []).append(url)
    for store, held in by_store.items():
        listed: Files = {}
        version = ABSENT
        try:
            for folder in _top_folders({split_url(url)[0] for url in held}):
                listed |= {f"{folder}/{file.name}": file for file in Store(folder, storage_options).walk()}
        except UnknownStore:
            raise
        except Forbidden as error:
            if num_stores == 1 or len(held) > 1 or error.is_of_credentials:
                raise StoreError(everything_refused(store, error)) from error
            version = UNREACHABLE
        except StoreError:
            if num_stores == 1:
                raise
        found |= {url: listed.get(url, StoredFile(url, 0, version)) for url in held}
    return found


def _stat_web(urls: Sequence[str], storage_options: Mapping[str, Any] | None) -> Files:
    """Ask for each file. Where no server answers at all it is our network that fails, and that is an error.

    So is a server that refuses all of several files whose addresses carry credentials: these can be renewed.
    """

    def one(url: str) -> StoredFile | ShardprepError:
        try:
            with refusals(f"asking for {url}"):
                seen = version_now(*open_filesystem(url, storage_options))
                return StoredFile(url, 0, ABSENT) if seen is None else StoredFile.of(url, seen)
        except TypeError as error:
            # aiohttp's word for an argument that it does not know
            raise StoreError(f"asking for {url}: storage_options hold what web addresses do not know ({error}). Take it out") from error
        except (StoreError, Unavailable) as error:
            return error

    with ThreadPoolExecutor(_NUM_REQUESTS) as pool:
        found = dict(zip(urls, pool.map(one, urls), strict=True))
    errors = {url: answer for url, answer in found.items() if isinstance(answer, ShardprepError)}
    if errors and len(errors) == len(found):
        url, error = next(iter(errors.items()))
        raise StoreError(everything_refused(store_of(url), error)) if isinstance(error, Forbidden) else error
    refused = Counter(store_of(url) for url, error in errors.items() if isinstance(error, Forbidden))
    asked = Counter(map(store_of, urls))
    for url, error in errors.items():
        if asked[store_of(url)] == refused[store_of(url)] > 1 and not is_public([url], storage_options):
            raise StoreError(everything_refused(store_of(url), error)) from error
    return {url: answer if isinstance(answer, StoredFile) else StoredFile(url, 0, UNREACHABLE) for url, answer in found.items()}


def _top_folders(folders: Collection[str]) -> list[str]:
    """Return the folders that lie in no other one of them."""
    top: list[str] = []
    for folder in sorted(folders, key=lambda name: f"{name}/"):
        if not top or not f"{folder}/".startswith(f"{top[-1]}/"):
            top.append(folder)
    return top
