"""What nobody counts on in an output, said in one line with the command that removes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shardprep.core.quantity import counted
from shardprep.driver.clean import OLDER, find_leftovers
from shardprep.driver.output import output_sets
from shardprep.errors import ShardError
from shardprep.packed.clean import older_packings
from shardprep.packed.packing import current_packing
from shardprep.shards.lineage import RECIPE_FILE
from shardprep.shards.names import set_name
from shardprep.shards.store import Store


@dataclass(frozen=True, kw_only=True)
class Left:
    """What nobody counts on in an output."""

    output: str
    former: tuple[str, ...] = ()
    """Steps that the recipe no longer has, whose sets lie there."""
    num_packings: int = 0
    """Packings that no longer count."""
    num_files: int = 0
    """Superseded files of the other sets."""

    def __bool__(self) -> bool:
        return bool(self.former or self.num_packings or self.num_files)

    def __str__(self) -> str:
        return self.said()

    def said(self, recipe: str | None = None, more: Sequence[str] = ()) -> str:
        """Say it, with the command for this recipe file and what `more` that command needs."""
        parts = [f"the sets of steps that the recipe no longer has: {', '.join(self.former)}"] if self.former else []
        parts += [counted(self.num_packings, "older packing")] if self.num_packings else []
        parts += [counted(self.num_files, "superseded file")] if self.num_files else []
        return f"left behind: {'; '.join(parts)}. Remove with: {self._command(recipe, more)}"

    def not_checked(self, more: Sequence[str] = ()) -> str:
        """Say that the sets of former steps were passed over."""
        return (
            f"not checked: the sets of steps that the recipe no longer has: {', '.join(self.former)}. "
            f"Remove with: {self._command(None, more)}"
        )

    def _command(self, recipe: str | None, more: Sequence[str]) -> str:
        named = ["--recipe", recipe or "RECIPE"] if self.former else []
        command = shlex.join(["shardprep", "clean", self.output, *named, *more])
        return f"{command} {RECIPE_FILE}" if self.former and recipe is None else command


def what_is_left(url: str, storage_options: Mapping[str, Any] | None = None) -> Left:
    """Look at all sets of an output, or at one set, for what nobody counts on."""
    sets = output_sets(url, storage_options)
    found = [leftover for leftover in find_leftovers(url, storage_options).leftovers if leftover.home in sets.live]
    return Left(
        output=url,
        former=tuple(sorted(map(set_name, sets.left))),
        num_packings=sum(_num_packings(Store(home, storage_options)) for home in {one.home for one in found if one.why == OLDER}),
        num_files=sum(one.why != OLDER for one in found),
    )


def _num_packings(store: Store) -> int:
    with suppress(ShardError):
        return len(older_packings(store, current_packing(store)))
    return 0
