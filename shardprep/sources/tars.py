"""Samples of existing WebDataset tars become entries: members by byte range, JSON as metadata, text as caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from shardprep.core.quantity import are, counted, was
from shardprep.core.sample import RECORD_SUFFIX, VIDEO_SUFFIXES
from shardprep.errors import SourceChanged, WrongSource
from shardprep.shards.local import ABSENT
from shardprep.shards.store import StoredFile
from shardprep.sources.captions import caption_of
from shardprep.sources.columns import as_text, caption_and_meta, look_up, typed_columns
from shardprep.sources.entry import SourceEntry, SourceMember
from shardprep.sources.find import UNREACHABLE, Files, count_suffixes, find, stat_files
from shardprep.sources.keys import printable, source_key
from shardprep.sources.places import public, relative, split_url, suffix_of
from shardprep.sources.safe_names import NameClash
from shardprep.sources.spec import LIST_SUFFIXES, SourceSpec
from shardprep.sources.tar_index import TEXT_SUFFIX, TarContents, TarIndexes, TarSample

_TARS_AT_ONCE = 8
_ATTEMPTS = 3
"""How often a tar that changes while it is listed is read."""


@dataclass(frozen=True)
class _Found:
    """A sample and its tar, by the path that names it."""

    tar: str
    url: str
    file: StoredFile
    sample: TarSample


def list_tars(
    spec: SourceSpec, exclude: Sequence[str], indexes: TarIndexes | None, say: Callable[[str], None], clashes: Callable[[NameClash], None]
) -> list[SourceEntry]:
    """Return an entry per sample; one with a problem where a member of it is refused, and one for the damage that ends a tar."""
    root, files = _find_tars(spec, exclude, say)
    indexes = indexes or TarIndexes()
    tars = {url: relative(public(url), root) for url in files}
    with ThreadPoolExecutor(_TARS_AT_ONCE) as threads:
        held = threads.map(lambda url: _contents(url, files[url], printable(tars[url]), indexes, spec.storage_options), tars)
        by_tar = dict(zip(tars, held, strict=True))
    _tell_of_contents(spec, {url: own for url, (_, own) in by_tar.items()}, tars, say)
    samples = [_Found(tars[url], url, file, one) for url, (file, own) in by_tar.items() for one in own.samples]
    metas = typed_columns([_metadata(spec, one.sample) for one in samples], clashes)
    return [_entry(spec, one, meta) for one, meta in zip(samples, metas, strict=True)]


def _find_tars(spec: SourceSpec, exclude: Sequence[str], say: Callable[[str], None]) -> tuple[str, Files]:
    """Return the folder above all tars, and the tars; WrongSource where one is missing, or a file was named that is no tar."""
    found = find(spec.locations, {"tar"}, exclude, spec.storage_options)
    if not found.files:
        there = f"none of the files there is a .tar: {count_suffixes(found.passed_over)}" if found.passed_over else "there is no .tar file"
        where = f"source.shards {', '.join(spec.locations)!r} (looked in {found.root})"
        raise WrongSource(f"{where}: {there}; check the path, or give --input")
    if missing := [public(url) for url, file in found.files.items() if file.version in (ABSENT, UNREACHABLE)]:
        of_all = f"{len(missing)} of {counted(len(found.files), 'tar')} {are(len(missing))}"
        raise WrongSource(f"{of_all} not there, e.g. {missing[0]}; check the names in source.shards")
    if other := [public(url) for url in found.files if suffix_of(url) != "tar"]:
        raise WrongSource(f"source.shards {other[0]!r} does not end in .tar; {_instead(other[0])}")
    if found.passed_over:
        counts = count_suffixes(found.passed_over)
        number = len(found.passed_over)
        say(f"source: {counted(number, 'file')} {was(number)} left alone, as only .tar is read; unpack what is compressed: {counts}")
    return found.root, found.files


def _tell_of_contents(spec: SourceSpec, contents: Mapping[str, TarContents], tars: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Say which tars hold no sample, and what else in them is left alone; WrongSource where none holds one."""
    if empty := [url for url, own in contents.items() if not own.samples]:
        hold = f"{len(empty)} of {counted(len(contents), 'tar')} {'holds' if len(empty) == 1 else 'hold'}"
        words = f"{hold} no sample, such as {printable(public(empty[0]))}; members are called KEY.SUFFIX"
        if len(empty) == len(contents):
            raise WrongSource(f"source.shards {', '.join(spec.locations)!r}: {words}")
        say(f"source: {words}")
    if left := [(url, own) for url, own in contents.items() if own.num_left and own.samples]:
        number, shown = sum(own.num_left for _, own in left), printable(f"{tars[left[0][0]]}!{left[0][1].first_left}")
        rule = "members are called KEY.SUFFIX, without a dot in front"
        say(f"source: {counted(number, 'file')} in tars {was(number)} left alone, such as {shown}: {rule}")


def _contents(
    url: str, file: StoredFile, name: str, indexes: TarIndexes, storage_options: Mapping[str, Any] | None
) -> tuple[StoredFile, TarContents]:
    """Return what a tar holds, and the tar as it was when it was read; one that keeps changing is one sample with that problem."""
    for attempt in range(_ATTEMPTS):
        try:
            return file, indexes.contents(url, file, name, storage_options)
        except SourceChanged as error:
            problem = f"source-changed: {error}"
            again = stat_files([url], storage_options)[url]
            if again.version in (ABSENT, UNREACHABLE):
                break
            file = again if attempt + 1 < _ATTEMPTS else file
    return file, TarContents([TarSample("", problem=problem)])


def _instead(url: str) -> str:
    """Say what to do with a file that was given as a tar and is none."""
    if suffix_of(url) in LIST_SUFFIXES:
        return f"a list is written as source: {{list: {url!r}}}, or given as --input {url!r}"
    if suffix_of(url) in VIDEO_SUFFIXES:
        return f"a video is written as source: {{videos: {url!r}}}, or given as --input {url!r}"
    return "unpack what is compressed: samples are read from where they lie"


def _metadata(spec: SourceSpec, sample: TarSample) -> Mapping[str, Any]:
    document = sample.document or {}
    return {new: look_up(document, column) for new, column in spec.columns.items()} if spec.columns is not None else document


def _entry(spec: SourceSpec, found: _Found, meta: Mapping[str, Any]) -> SourceEntry:
    sample = found.sample
    path = f"{found.tar}!{sample.key}" if sample.key else found.tar
    name = sample.key.rpartition("/")[2] or split_url(found.tar)[1]
    seen = found.file.seen
    places = [SourceMember(place.suffix, found.url, place.offset, place.size, seen) for place in sample.places]
    members = tuple(place for place in places if place.suffix not in (RECORD_SUFFIX, TEXT_SUFFIX))
    document = sample.document or {}
    text = as_text(look_up(document, spec.text_column)) if spec.text_column else caption_of(document)
    return SourceEntry(
        key=source_key(path, name),
        path=printable(path),
        size=sum(member.size for member in members),
        version=found.file.version,
        members=members,
        captions=tuple(place for place in places if place.suffix == TEXT_SUFFIX and not spec.text_column),
        name=printable(name),
        columns=caption_and_meta(text, meta),
        problem=sample.problem,
    )
