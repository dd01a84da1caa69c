"""Tasks that are no shards, so that the executor is tested alone; workers import this file."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardprep.core.outcome import Failed
from shardprep.errors import MissingExtra, RecipeError, ShardError, StoreError, Unavailable
from shardprep.runtime.journal import Journal
from shardprep.runtime.worker import OPENING, StageNotOpened
from tests.misbehaving import MISDEEDS


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Work on some keys, one call each (`a+b`: one call for both); `how` says what happens at a key, or before all of them."""

    shard: str
    step: str = "errand"
    journal: str | None = None
    verdicts: Mapping[str, Failed] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    how: str = ""
    at: tuple[str, ...] = ()
    keys: tuple[str, ...] = ("a", "b", "c")
    folder: str = ""
    """Where pids are noted, one file per attempt."""
    extra: Any = None


@dataclass(frozen=True)
class Report:
    """What a worker answers."""

    shard: str
    failed: Mapping[str, Failed]
    pid: int
    tmp: str
    gpu: str


class Unspeakable(Exception):
    """Cannot be made again from its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


ERRORS = {
    "unavailable": Unavailable("the server is down"),
    "store": StoreError("no space left"),
    "damaged": ShardError("the tar is cut short"),
    "missing": MissingExtra("score_x", "torch", "models"),
    "recipe": RecipeError("a setting is wrong"),
    "unspeakable": Unspeakable(1, 2),
    "stage": StageNotOpened("score_x could not be opened"),
}


_kept: list[bytearray] = []


def _hold(errand: Errand) -> None:
    """Take as many MiB as `extra` says for a while, and keep them where the errand says so."""
    if errand.how in ("hold", "keep"):
        # Of ones: a page of zeros that nobody wrote is no memory.
        held = bytearray(b"\1") * (errand.extra << 20)
        if errand.how == "keep":
            _kept.append(held)
        time.sleep(1.5)


def run_errand(errand: Errand) -> Report:
    _hold(errand)
    if errand.folder:
        (Path(errand.folder) / f"{errand.shard}-{time.monotonic_ns()}").write_text(str(os.getpid()))
    journal = Journal(errand.journal)
    if not errand.at and errand.how in ERRORS:
        raise ERRORS[errand.how]
    if not errand.at and errand.how in MISDEEDS:
        MISDEEDS[errand.how]()
    if errand.how == "stop once" and len(list(Path(errand.folder).iterdir())) == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    if errand.at == (OPENING,):
        with journal.call(f"{OPENING} score_x", [], None):
            MISDEEDS[errand.how]()
    for key in errand.keys:
        together = key.split("+")
        if errand.verdicts.keys() >= set(together):
            continue
        with journal.call("score_x", together, 0.5):
            if key in errand.at:
                MISDEEDS[errand.how]()
            if errand.how == "linger":
                time.sleep(0.2)
    return Report(errand.shard, errand.verdicts, os.getpid(), tempfile.gettempdir(), os.environ["CUDA_VISIBLE_DEVICES"])
