"""Videos and images in folders become entries, with the caption files beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shardprep.core.quantity import are, counted, was
from shardprep.core.sample import IMAGE_SUFFIXES, RECORD_SUFFIX, VIDEO_SUFFIXES
from shardprep.errors import ShardError, SourceChanged, SourceError, WrongSource
from shardprep.shards.local import ABSENT
from shardprep.shards.store import Store, StoredFile
from shardprep.sources.captions import CAPTION_SUFFIXES, caption_of, read_object
from shardprep.sources.columns import caption_and_meta, shape_problem, typed_columns
from shardprep.sources.entry import SourceEntry, SourceMember
from shardprep.sources.find import UNREACHABLE, Files, Found, count_suffixes, find, stat_files
from shardprep.sources.keys import printable, source_key
from shardprep.sources.places import WEB, is_url, public, relative, scheme_of, split_url, suffix_of
from shardprep.sources.safe_names import NameClash
from shardprep.sources.spec import LIST_SUFFIXES, SourceSpec
from shardprep.sources.tar_index import TarIndexes

MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES


def list_videos(
    spec: SourceSpec, exclude: Sequence[str], indexes: TarIndexes | None, say: Callable[[str], None], clashes: Callable[[NameClash], None]
) -> list[SourceEntry]:
    """Return an entry per video, and per image where these are asked for; SourceError where there is none."""
    found = find(spec.locations, MEDIA_SUFFIXES, exclude, spec.storage_options)
    if found.files and found.files.keys() <= found.named and all(file.version == ABSENT for file in found.files.values()):
        missing = printable(public(min(found.files)))
        raise WrongSource(f"source {', '.join(spec.locations)!r}: there is no file {missing}; check the path, or give --input")
    files = _without_companions(found, spec.images, say)
    if not any(suffix_of(url) in MEDIA_SUFFIXES for url in files):
        raise WrongSource(f"source {', '.join(spec.locations)!r} (looked in {found.root}): {_nothing(found)}")
    beside = {one for url in found.files for one in _beside(url)}
    if others := found.passed_over.keys() - beside:
        kinds = "it is no video or image of a known kind" if len(others) == 1 else "they are no videos or images of a known kind"
        say(f"source: {counted(len(others), 'file')} {was(len(others))} left alone, as {kinds}: {count_suffixes(others)}")
    if spec.captions != "beside":
        return [file_entry(url, relative(public(url), found.root), file, {}) for url, file in files.items()]
    # A web server is not asked for a neighbour of each file: most have none, and addresses hold queries.
    named = sorted(url for url in found.named if scheme_of(url) not in WEB)
    around = {**stat_files((beside for url in named for beside in _beside(url)), spec.storage_options), **found.around}
    entries = [file_entry(url, relative(public(url), found.root), file, around) for url, file in files.items()]
    return _with_documents(entries, around, spec, indexes or TarIndexes(), clashes)


def _without_companions(found: Found, with_images: bool, say: Callable[[str], None]) -> Files:
    """Return the files that are samples: all but images nobody asked for, and images beside a video of the same name."""
    videos = {_stem(url) for url in found.files if suffix_of(url) in VIDEO_SUFFIXES}
    images = [url for url in found.files if suffix_of(url) in IMAGE_SUFFIXES and url not in found.named]
    companions = [url for url in images if _stem(url) in videos]
    others = [] if with_images else [url for url in images if _stem(url) not in videos]
    if companions:
        shown = printable(public(min(companions)))
        beside = "beside a video of the same name"
        say(f"source: {counted(len(companions), 'image')} {beside} {was(len(companions))} left alone, such as {shown}")
    if others and videos:
        said = f"{counted(len(others), 'image')} {was(len(others))} left alone, such as {printable(public(min(others)))}"
        say(f"source: {said}; `images: true` makes samples of images")
    left = {*companions, *others}
    return {url: file for url, file in found.files.items() if url not in left}


def _nothing(found: Found) -> str:
    """Say why no file of a source is a sample."""
    known = f"known suffixes are {', '.join(sorted(MEDIA_SUFFIXES))}"
    meant = [*sorted(found.named), *sorted(found.passed_over)]
    if not is_url(found.root) and not os.path.isdir(found.root):
        lists = f"; a list is written as source: {{list: {found.root!r}}}" if suffix_of(found.root) in LIST_SUFFIXES else ""
        return f"there is no such folder{lists}; check the path, or give --input"
    if num_images := sum(suffix_of(url) in IMAGE_SUFFIXES for url in found.files):
        there = f"there {are(num_images)} {counted(num_images, 'image')} and no videos"
        return f"{there}; write `images: true` below source to make samples of images; {known}"
    if found.around and not meant:
        return f"nothing matches; there {are(len(found.around))} {count_suffixes(found.around)}; {known}"
    if tar := next((url for url in meant if suffix_of(url) == "tar"), None):
        tars = repr(printable(public(tar if tar in found.named else f"{split_url(tar)[0]}/*.tar")))
        return f"it holds tars and no videos; write source: {{shards: {tars}}}, or give --input {tars}"
    if listed := next((url for url in meant if suffix_of(url) in LIST_SUFFIXES), None):
        shown = repr(printable(public(listed)))
        return f"there are no videos; a list is written as source: {{list: {shown}}}, or given as --input {shown}; {known}"
    whole = (
        "the only file there is no video or image" if len(meant) == 1 else f"none of the {len(meant)} files there is a video or an image"
    )
    there = f"{whole}: {count_suffixes(meant)}" if meant else "the folder holds no files"
    return f"{there}; {known}"


def _with_documents(
    entries: list[SourceEntry],
    around: Mapping[str, StoredFile],
    spec: SourceSpec,
    indexes: TarIndexes,
    clashes: Callable[[NameClash], None],
) -> list[SourceEntry]:
    """Return the entries with the fields of the JSON files beside them as metadata, and their texts as captions."""
    files = {c.url: around[c.url] for entry in entries for c in entry.captions if c.suffix == RECORD_SUFFIX}
    if not files:
        return entries
    found = indexes.documents(files, lambda url, file: _read_document(url, file, spec.storage_options))
    answers: list[dict[str, Any]] = [next((found[c.url] for c in entry.captions if c.url in files), {}) for entry in entries]
    metas = typed_columns([answer.get("document") or {} for answer in answers], clashes)
    return [_with_document(entry, answer, meta) for entry, answer, meta in zip(entries, answers, metas, strict=True)]


def _read_document(url: str, file: StoredFile, storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    folder, name = split_url(url)
    try:
        document = read_object(Store(folder, storage_options).blob(name, 0, file.size, file.seen), printable(url))
    except SourceChanged as error:
        return {"problem": f"source-changed: {error}"}
    except (SourceError, ShardError) as error:
        return {"problem": f"bad-json: {error}"}
    except OSError as error:
        return {"problem": f"unreadable: {printable(url)}: {error.strerror}"}
    problem = shape_problem(document)
    return {"problem": f"bad-json: {printable(url)}: {problem}; make it smaller"} if problem else {"document": document}


def _with_document(entry: SourceEntry, answer: Mapping[str, Any], meta: Mapping[str, Any]) -> SourceEntry:
    texts = tuple(caption for caption in entry.captions if caption.suffix != RECORD_SUFFIX)
    # As in tars, the text file's caption is put over it when the entry is opened, and one without text leaves it.
    text = caption_of(answer.get("document") or {})
    documents = tuple(caption for caption in entry.captions if caption.suffix == RECORD_SUFFIX)
    problem = entry.problem or answer.get("problem")
    return replace(entry, captions=texts, documents=documents, columns=caption_and_meta(text, meta), problem=problem)


def file_entry(url: str, path: str, file: StoredFile, around: Mapping[str, StoredFile]) -> SourceEntry:
    """Return the entry of a file that is a whole sample."""
    captions = [(candidate, around[candidate]) for candidate in _beside(url) if candidate in around]
    captions = [(candidate, beside) for candidate, beside in captions if beside.version != ABSENT]
    return SourceEntry(
        key=source_key(path),
        path=printable(path),
        size=file.size,
        version="+".join([file.version, *(beside.version for _, beside in captions)]),
        members=(SourceMember(suffix_of(url), url, 0, file.size, file.seen),),
        captions=tuple(SourceMember(suffix_of(candidate), candidate, 0, beside.size, beside.seen) for candidate, beside in captions),
        problem=find_problem(url, file),
    )


def find_problem(url: str, file: StoredFile) -> str | None:
    """Return why a file cannot be a sample, as `reason: detail`."""
    shown = printable(public(url))
    if suffix_of(url) not in MEDIA_SUFFIXES:
        known = ", ".join(sorted(MEDIA_SUFFIXES))
        return f"unknown-suffix: {shown} has the suffix {printable(suffix_of(url))!r}; known are {known}"
    if file.version == ABSENT:
        return f"missing-file: there is no file {shown}; check the path, or the link that leads there"
    if file.version == UNREACHABLE:
        return f"unreachable: the server of {shown} refuses it, or gave no answer; once it does, the next run takes it in"
    return None


def _beside(url: str) -> list[str]:
    return [f"{_stem(url)}.{suffix}" for suffix in CAPTION_SUFFIXES]


def _stem(url: str) -> str:
    return url.rpartition(".")[0]
