"""Tracebacks of what stages raised, kept in one file of the output: a ledger holds an error's words only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from shardprep.errors import StoreError
from shardprep.executors.local import WorkerTraceback
from shardprep.redaction import redact
from shardprep.runtime.task import StageError
from shardprep.shards.store import Store

LOGS = "_logs"
"""The folder of an output that holds them; no step can have this name."""

_MOST = 100


@dataclass
class RunLog:
    """What one run has to tell beside its ledgers; nothing is written where there is nothing to tell."""

    store: Store
    name: str = field(default_factory=lambda: time.strftime(f"run-%Y%m%d-%H%M%S-{os.getpid()}.txt", time.gmtime()))
    _texts: list[str] = field(default_factory=list)

    def add(self, step: str, shard: str, errors: Iterable[StageError]) -> list[str]:
        """Take in what a shard's stages raised; return it as text."""
        added = [f"{step} {shard}: {error.stage}, sample {error.key}\n{error.traceback}" for error in errors]
        self._texts += added[: _MOST - len(self._texts)]
        return added

    def add_end(self, error: BaseException) -> None:
        """Take in where in a worker the run's own error came from, where that is known; a store or disk that fails is no stage's fault."""
        if isinstance(error, StoreError):
            return
        causes = (error.__cause__, error.__cause__.__cause__ if error.__cause__ else None)
        self._texts += [f"{error}\n{cause}" for cause in causes if isinstance(cause, WorkerTraceback)]

    def write(self) -> str | None:
        """Write the file and return its URL, or None where there is nothing to tell, or no room to tell it."""
        store = self.store.at(LOGS)
        with suppress(StoreError):
            if self._texts:
                store.replace_bytes(self.name, redact("\n".join(self._texts)).encode(errors="backslashreplace"))
                return f"{store.url}/{self.name}"
        return None
