"""Videos and images in folders become entries, with the caption files beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shardprep.core.sample import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from shardprep.errors import SourceError
from shardprep.shards.local import ABSENT
from shardprep.shards.store import StoredFile
from shardprep.sources.captions import CAPTION_SUFFIXES
from shardprep.sources.entry import SourceEntry, SourceMember
from shardprep.sources.find import UNREACHABLE, Files, find, stat_files
from shardprep.sources.keys import printable, source_key
from shardprep.sources.places import WEB, public, relative, scheme_of, suffix_of
from shardprep.sources.spec import SourceSpec

MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES


def list_videos(spec: SourceSpec, exclude: Sequence[str] = ()) -> list[SourceEntry]:
    """Return an entry per video or image file; SourceError where there is none, or none of those that are named."""
    found = find(spec.locations, MEDIA_SUFFIXES, exclude, spec.storage_options)
    if found.files and found.files.keys() <= found.named and all(file.version == ABSENT for file in found.files.values()):
        raise SourceError(f"source {', '.join(spec.locations)!r}: there is no file {printable(public(min(found.files)))}; check the path")
    if not any(suffix_of(url) in MEDIA_SUFFIXES for url in found.files):
        known = ", ".join(sorted(MEDIA_SUFFIXES))
        what = f"none of the {len(found.around)} files there is a video or an image" if found.around else "there are no files"
        raise SourceError(f"source {', '.join(spec.locations)!r} (looked in {found.root}): {what}; known suffixes are {known}")
    around: Files = {}
    if spec.captions == "beside":
        # a web server is not asked for a neighbour of each file: most have none, and addresses hold queries
        named = sorted(url for url in found.named if scheme_of(url) not in WEB)
        around = {**stat_files((beside for url in named for beside in _beside(url)), spec.storage_options), **found.around}
    return [file_entry(url, relative(public(url), found.root), file, around) for url, file in found.files.items()]


def file_entry(url: str, path: str, file: StoredFile, around: Mapping[str, StoredFile]) -> SourceEntry:
    """Return the entry of a file that is a whole sample."""
    captions = [(candidate, around[candidate]) for candidate in _beside(url) if candidate in around]
    captions = [(candidate, beside) for candidate, beside in captions if beside.version != ABSENT]
    return SourceEntry(
        key=source_key(path),
        path=printable(path),
        size=file.size,
        version="+".join([file.version, *(beside.version for _, beside in captions)]),
        members=(SourceMember(suffix_of(url), url, 0, file.size),),
        captions=tuple(SourceMember(suffix_of(candidate), candidate, 0, beside.size) for candidate, beside in captions),
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
    stem = url.rpartition(".")[0]
    return [f"{stem}.{suffix}" for suffix in CAPTION_SUFFIXES]
