"""What a source is: the `source:` of a recipe as typed settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shardprep.errors import RecipeError

FOLDER = "folder"
"""The `group_by` that keeps the files of one folder together."""

LIST_SUFFIXES = ("csv", "tsv", "json", "jsonl", "parquet")
"""What the file of a list ends in."""

_ONLY_LISTS = ("path_column", "start_column", "end_column", "root")


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Where videos come from, one of `videos`, `list` and `shards`, and how they are put into raw shards."""

    videos: str | None = None
    """A folder, a glob (`videos/**/*.mp4`, braces too), one file, or a URL of any of them; hidden files are left out."""
    list: str | None = None
    """A CSV, TSV, JSON, JSONL or Parquet file with a row per video."""
    shards: str | tuple[str, ...] | None = None
    """WebDataset tars of any origin: names or URLs, braces and globs too."""
    path_column: str = "path"
    """The list's column of paths or URLs; a nested one by its path, such as `files.0.name`."""
    text_column: str | None = None
    """The column of captions (`conversations.1.value` where nested); by default `text` or `caption` where there is one."""
    columns: Mapping[str, str] | None = None
    """Metadata to carry, as new name: column of the list; by default all columns under their own names."""
    start_column: str | None = None
    """The list's column of where a clip begins in its file, in seconds or as H:MM:SS.mmm; with it, a file may have a row for each clip."""
    end_column: str | None = None
    """The list's column of where a clip ends."""
    root: str | None = None
    """The folder that a list's relative paths start from; by default the list's own."""
    captions: Literal["beside", "none"] = "beside"
    """`beside`: `a.txt`, or where it holds no text the text or caption of `a.json`, beside `a.mp4` is its caption, and the fields of
    the JSON become `meta.*`; `none`: neither."""
    images: bool = False
    """Whether images in folders are samples too, of one frame (an animated WebP: a video); one beside a video of the same name never is."""
    group_by: str | None = None
    """`folder`, or a metadata column: sources with equal values stay in one shard."""
    samples_per_shard: int | Literal["auto"] = "auto"
    """Most samples of a shard; auto: a 16th of the sources that come together, 64 at most, but of very many the root of their number."""
    shard_mib: int = 512
    """Most MiB of a shard; a larger video gets its own."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the fsspec filesystem, such as an endpoint; no part of any fingerprint."""

    def __post_init__(self) -> None:
        given = [name for name in ("videos", "list", "shards") if getattr(self, name) is not None]
        if len(given) != 1:
            came = f"{' and '.join(given)} are given" if given else "nothing is given"
            raise RecipeError(f"a source is one of videos, list and shards; {came}")
        if any(not place.strip() for place in self.locations):
            raise RecipeError(f"source.{given[0]} is empty; expected a folder, a file, a glob or a URL")
        if pipes := [place for place in self.locations if place.lower().startswith("pipe:")]:
            raise RecipeError(f"source.{given[0]}: {pipes[0]!r} would start a shell, which shardprep never does; give the URL itself")
        for name in ("samples_per_shard", "shard_mib"):
            if getattr(self, name) != "auto" and getattr(self, name) < 1:
                raise RecipeError(f"source.{name} is {getattr(self, name)}; expected 1 or more")
        self._check_columns()

    @property
    def locations(self) -> tuple[str, ...]:
        """What `videos`, `list` or `shards` says, as a tuple."""
        given = next(value for value in (self.videos, self.list, self.shards) if value is not None)
        return (given,) if isinstance(given, str) else tuple(given)

    @property
    def shard_bytes(self) -> int:
        return self.shard_mib << 20

    def _check_columns(self) -> None:
        misplaced = [name for name in _ONLY_LISTS if getattr(self, name) != getattr(type(self), name)] if self.list is None else []
        if self.videos is not None:
            misplaced += [name for name in ("text_column", "columns") if getattr(self, name) is not None]
        if (self.start_column is None) != (self.end_column is None):
            raise RecipeError("source.start_column and source.end_column are given together; a clip has both")
        if self.videos is None and self.images:
            raise RecipeError("source.images is about folders; a list and tars say themselves what is a sample")
        if self.videos is None and self.captions != type(self).captions:
            raise RecipeError(f"source.captions is {self.captions}, which is about files beside videos; leave it out")
        if misplaced:
            raise RecipeError(f"source.{misplaced[0]} is about the columns of a list; this source has none")
        if self.videos is not None and self.group_by not in (None, FOLDER):
            raise RecipeError(f"source.group_by is {self.group_by!r}, but videos have no columns; expected {FOLDER}, or give a list")
        if not self.locations:
            raise RecipeError("source.shards is an empty list; expected names or URLs of tars")
