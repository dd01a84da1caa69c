"""A shard on its way, and what is learnt from workers that die or hang on it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from shardprep.core.address_space import address_space_limit, limit_words
from shardprep.core.outcome import Failed
from shardprep.errors import RunFailed, ShardprepError
from shardprep.executors.fetch import Fetched
from shardprep.runtime.held_memory import forget_base, held_bytes, read_base
from shardprep.runtime.inputs import RemoteFile
from shardprep.runtime.journal import COMMITTING, Call, Noted, read_journal
from shardprep.runtime.worker import OPENING

ATTEMPTS = 3
"""How often a worker may die without teaching anything before its shard is given up."""

_MAX_DEATHS = 4
_GRACE_SECONDS = 1.0
_COMMIT_QUIET = 2
"""How many quiet limits a commit may take beside the time for its bytes: it writes the tar and then the ledger."""


class Task(Protocol):
    """What an executor knows of a task: a frozen dataclass with these fields, that pickles."""

    @property
    def step(self) -> str: ...
    @property
    def shard(self) -> str: ...
    @property
    def journal(self) -> str | None: ...
    @property
    def verdicts(self) -> Mapping[str, Failed]: ...
    @property
    def alone(self) -> frozenset[str]: ...


T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class ShardFailure:
    """A shard that could not be made."""

    shard: str
    error: ShardprepError


@dataclass
class Job(Generic[T]):
    """A shard on its way, with what is known of its earlier attempts."""

    task: T
    journal: str
    deaths: int = 0
    """Deaths of workers that taught nothing."""
    refusals: int = 0
    """How often the surroundings failed."""
    not_before: float = 0.0
    suspected: Counter[str] = field(default_factory=Counter)
    """How often each sample was in work when a worker died."""
    hung: Call | None = None
    """The call for which the worker was killed."""
    is_quiet: bool = False
    """Whether the worker was killed because it did nothing for long, outside of any call."""
    allowed_bytes: int | None = None
    """What its worker may take beside what it held when its stages were loaded."""
    is_too_large: bool = False
    """Whether the worker was killed because it took more."""
    begun: float = field(default_factory=time.monotonic)
    """When the attempt was handed to a worker."""
    gone_since: float | None = None
    """When the worker's process was first found to be gone."""
    remote: list[RemoteFile] = field(default_factory=list)
    """What it reads from afar and is fetched beforehand."""
    fetched: Fetched | None = None

    @property
    def is_fetched(self) -> bool:
        """Whether nothing that it reads is still on its way."""
        return not self.remote or (self.fetched is not None and (self.fetched.done.is_set() or self.fetched.is_late))

    def forget_notes(self) -> None:
        """Remove what the worker of an attempt noted."""
        Path(self.journal).unlink(missing_ok=True)
        forget_base(self.journal)

    def is_lost(self, open_limit_seconds: float, quiet_limit_seconds: float) -> bool:
        """Whether nothing will come of this attempt: a call takes longer than it may, or the process has left without a word.

        Outside of calls a worker that gets on shows it; one that does not for `quiet_limit_seconds` reads or writes where
        nothing answers, or is stopped.
        """
        noted = read_journal(self.journal)
        now = time.monotonic()
        self._look_at_memory(noted)
        # On a busy machine a process may take as long to start as either limit allows.
        slowest = max(open_limit_seconds, quiet_limit_seconds)
        quiet = now - self.begun > slowest if noted.pid is None else now - noted.beat > quiet_limit_seconds
        overdue = [call for call in noted.calls if now - call.since > _limit_of(call, open_limit_seconds, quiet_limit_seconds)]
        # A store that does not answer is nobody's call.
        self.is_quiet = (quiet and not noted.calls) or any(call.stage == COMMITTING for call in overdue)
        self.hung = next((call for call in overdue if call.stage != COMMITTING), None)
        if noted.pid is None or _is_there(noted.pid):
            self.gone_since = None
        elif self.gone_since is None:
            self.gone_since = now
        # Any other end than exit code 0 the pool tells by itself, and soon.
        return (
            self.hung is not None
            or self.is_quiet
            or self.is_too_large
            or (self.gone_since is not None and now - self.gone_since > _GRACE_SECONDS)
        )

    def _look_at_memory(self, noted: Noted) -> None:
        if noted.pid is None or self.allowed_bytes is None:
            return
        base = read_base(self.journal)
        self.is_too_large = base is not None and held_bytes(noted.pid) > base + self.allowed_bytes

    def died(self, exit_code: int | None) -> ShardFailure | None:
        """Take from the journal what the worker was at when it died; return the failure where the shard is given up.

        Raises RunFailed where no shard can be made: a stage cannot be opened, or workers do not even start.
        """
        # Other samples were in work besides the one that hung.
        calls = read_journal(self.journal).calls if self.hung is None else (self.hung,)
        if exit_code is None and self.gone_since is not None:
            exit_code = 0
        how = f"the worker process died ({_exit_words(exit_code)})"
        if self.is_too_large:
            how = (
                f"the worker process took more than the {(self.allowed_bytes or 0) >> 20} MiB that it may (`memory`), so that it was ended"
            )
        elif self.is_quiet:
            how = "the worker process read or wrote nothing for too long, so that it was ended; see whether its disk or store answers,"
        opening = next((call for call in calls if call.stage.startswith(OPENING)), None)
        if opening is not None and self.hung is not None:
            raise RunFailed(f"{opening.stage}: gave no answer for {_seconds(opening)}; see what it loads, and from where")
        if self._teaches(calls, "out-of-memory" if self.is_too_large else "worker-died", how):
            return None
        if opening is not None and self.deaths + 1 == ATTEMPTS:
            raise RunFailed(f"{opening.stage}: {how.rstrip(',')}, {ATTEMPTS} times")
        if not Path(self.journal).exists() and self.deaths + 1 == ATTEMPTS:
            limit = address_space_limit()
            if limit is not None:
                raise RunFailed(
                    f"worker processes end before they begin ({_exit_words(exit_code)}), and {limit_words(limit)}. "
                    "Raise it, or lift it with `ulimit -v unlimited`; their own words are above"
                )
            raise RunFailed(
                f"worker processes end before they begin ({_exit_words(exit_code)}); their own words are above. A script runs recipes "
                'under `if __name__ == "__main__":`, and its stages are classes at the top of the script or of a module'
            )
        return self._taught_nothing(how)

    def lost_device(self, call: Call, words: str) -> ShardFailure | None:
        """Take note of the call that left the worker without its device; return the failure where the shard is given up."""
        how = f"the device was lost ({words})"
        return None if self._teaches([call], "device-lost", how) else self._taught_nothing(how)

    def _taught_nothing(self, how: str) -> ShardFailure | None:
        self.deaths += 1
        if self.deaths < ATTEMPTS:
            return None
        words = f"{how} {ATTEMPTS} times, and no sample can be blamed"
        if self.is_too_large:
            words += "; give it more `memory`, or make its shards smaller"
        return ShardFailure(self.task.shard, RunFailed(f"shard {self.task.shard} of {self.task.step}: {words}"))

    def _teaches(self, calls: Sequence[Call], reason: str, how: str) -> bool:
        """Find suspects in the calls in progress, or the one sample that is to blame.

        First the shard is tried again as it was, only one call at a time: a death that came from outside changes no batch.
        Then the batch that died twice is divided. A sample that dies again by itself, or a group, which is always together, is it.
        """
        keys = {key for call in calls for key in call.keys} - self.task.verdicts.keys()
        if not keys:
            return False
        again = len(calls) == 1 and keys <= self.suspected.keys()
        self.suspected.update(keys)
        if again and (len(keys) == 1 or keys <= self.task.alone):
            verdict = self._verdict(calls[0], reason, how)
            self.task = with_fields(self.task, verdicts={**self.task.verdicts, **dict.fromkeys(keys, verdict)})
            return True
        if again or self.hung is not None:
            self.task = with_fields(self.task, alone=self.task.alone | keys)
        return max(self.suspected[key] for key in keys) <= _MAX_DEATHS

    def _verdict(self, call: Call, reason: str, how: str) -> Failed:
        if self.hung is not None:
            return Failed("timed-out", f"{call.stage}: gave no answer within {_seconds(call)}")
        return Failed(reason, f"{call.stage}: {how}, again, while it had nothing else in work")


def _limit_of(call: Call, open_limit_seconds: float, quiet_limit_seconds: float) -> float:
    if call.limit_seconds is None:
        return open_limit_seconds
    return call.limit_seconds + (_COMMIT_QUIET * quiet_limit_seconds if call.stage == COMMITTING else 0)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def with_fields(task: T, **changes: Any) -> T:
    """Return a changed copy of a task."""
    return replace(task, **changes)  # type: ignore[type-var]  # every task is a dataclass, which a protocol cannot say


def _seconds(call: Call) -> str:
    return f"{call.limit_seconds:g} s" if call.limit_seconds is not None else f"{time.monotonic() - call.since:.0f} s"


def _exit_words(exit_code: int | None) -> str:
    if exit_code is None:
        return "of what is unknown"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    name = {known.value: known.name for known in signal.Signals}.get(-exit_code, str(-exit_code))
    return f"signal {name}, perhaps for want of memory" if -exit_code == signal.SIGKILL else f"signal {name}"
