"""What of a source goes to every clip of it, and what to none: said before a run, because clips do not show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from shardprep.core.quantity import counted, was
from shardprep.core.sample import is_label, role_of
from shardprep.core.stage import Stage, stage_name
from shardprep.sources.entry import SourceEntry


def split_notes(stages: Sequence[Stage], entries: Sequence[SourceEntry]) -> Iterator[str]:
    """Yield what a person should know of the children that these stages make of a source's samples."""
    splits = [stage for stage in stages if stage.splits]
    good = [entry for entry in entries if entry.problem is None] if splits else []
    if any(stage.keeps is not None and "caption" in stage.keeps for stage in splits):
        with_caption = sum(_has_caption(entry) for entry in good)
        if with_caption:
            yield (
                f"{counted(with_caption, 'caption')} of whole videos {was(with_caption)} copied to all of their clips; "
                "a list with start_column and end_column gives each clip its own"
            )
    if splits and splits[0].keeps_labels is not None:
        yield from _members(splits[0], good)


def _has_caption(entry: SourceEntry) -> bool:
    """Whether a caption is said of an entry; an empty file is none. The files are not opened here."""
    said = entry.columns.get("caption")
    values = said.values() if isinstance(said, Mapping) else ()
    return any(file.size for file in entry.captions) or any(value is not None for value in values)


def _members(stage: Stage, entries: Sequence[SourceEntry]) -> Iterator[str]:
    """Yield which members besides the one that is split go to the children, and which do not."""
    others: Counter[str] = Counter()
    for entry in entries:
        if len(entry.members) > 1:
            roles = {role_of(member.suffix) for member in entry.members}
            if not stage.accepts or roles.intersection(stage.accepts):
                others.update(member.suffix for member in entry.members if role_of(member.suffix) not in stage.writes)
    copied = {suffix: number for suffix, number in others.items() if stage.keeps_labels and is_label(suffix)}
    lost = {suffix: number for suffix, number in others.items() if suffix not in copied}
    if copied:
        yield f"labels of whole videos are copied to all of their clips: {_counted(copied)}"
    if lost:
        yield f"NOT CARRIED to clips, as they hold for the whole video: {_counted(lost)}; {stage_name(stage)} leaves them in raw/"


def _counted(suffixes: dict[str, int]) -> str:
    return ", ".join(f"{number} .{suffix}" for suffix, number in sorted(suffixes.items()))
