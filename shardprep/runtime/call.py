"""Calling a stage on a batch: one outcome per sample whatever the stage does, short of killing the process."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Sequence
from typing import Any

from shardprep.core.outcome import Failed, Outcome, is_reason
from shardprep.core.sample import Sample
from shardprep.core.stage import Process, Stage, stage_name
from shardprep.errors import ShardError, StoreError, Unavailable
from shardprep.models.memory import is_device_lost, is_out_of_memory
from shardprep.runtime.contract import broken_promise
from shardprep.runtime.copies import own, own_outcome
from shardprep.runtime.item import Work

RAISED = BaseException
"""What a stage may raise: a library that calls `sys.exit`, or whose Rust code panics, fails its sample too.

Whoever catches it hands it to `failure_of`, which lets Ctrl-C pass.
"""

_SURROUNDINGS = (Unavailable, ShardError, StoreError, KeyboardInterrupt)
_FREE_SPACE = "Free some space in the folder for temporary files, or choose another one (`tmp`)"
_MORE_FILES = "Raise the limit of open files (ulimit -n), or take fewer `workers`"
_NO_ROOM = {errno.ENOSPC: _FREE_SPACE, errno.EDQUOT: _FREE_SPACE, errno.EMFILE: _MORE_FILES, errno.ENFILE: _MORE_FILES}
"""What the machine lacks by the number of the error, with the next step."""
_MAX_WORDS = 2000


class DeviceLost(Exception):
    """The process can use its accelerator no more, and whatever it was asked next would fail too."""

    def __init__(self, stage: str, keys: Sequence[str], words: str) -> None:
        super().__init__(f"{stage}: the device is lost: {words}")
        self.stage, self.keys, self.words = stage, tuple(keys), words


def call_stage(stage: Stage, process: Process, batch: Sequence[Sample], work: Work) -> list[Outcome]:
    """Return one outcome per sample, in order.

    A batch that runs out of memory is halved; one that raises, or returns the wrong number of outcomes, is worked on
    sample by sample, so that only the sample at fault fails. The surroundings' errors pass through: Unavailable,
    ShardError, StoreError; and DeviceLost, for which only a new process helps.
    """
    divisible = len(batch) > 1 and stage.group_by is None
    if divisible and any(sample.key in work.alone for sample in batch):
        work.halved += 1
        return _one_by_one(stage, process, batch, work)
    returned = _returned(stage, process, batch, work)
    # Outside of any `except`: what the exception's frames hold, such as tensors, is free again by now.
    if isinstance(returned, list):
        return returned
    if not divisible:
        return [returned] * len(batch)
    if returned.reason == "out-of-memory":
        work.halved += 1
        middle = len(batch) // 2
        return [*call_stage(stage, process, batch[:middle], work), *call_stage(stage, process, batch[middle:], work)]
    return _one_by_one(stage, process, batch, work)


def failure_of(error: BaseException) -> Failed:
    """Return an exception as a sample's failure: its class may name the reason in `reason`.

    Raises it again where no sample is to blame: Unavailable, ShardError, StoreError, and StoreError for a full disk; and
    KeyboardInterrupt, which asks to stop.
    """
    if isinstance(error, _SURROUNDINGS):
        raise error
    if full := _no_room(error):
        remedy = _NO_ROOM[full.errno or 0]
        place = f"; it is {tempfile.gettempdir()}" if remedy == _FREE_SPACE else ""
        raise StoreError(f"{_words(full)}. {remedy}{place}") from error
    if isinstance(error, MemoryError) or (said_by(error) and is_out_of_memory(error)):
        return Failed("out-of-memory", _words(error))
    reason = getattr(error, "reason", None) if isinstance(error, Exception) else None
    return Failed(reason if isinstance(reason, str) and is_reason(reason) else "error", _words(error))


def said_by(error: BaseException) -> str:
    """Return the text of an error, empty where its own `__str__` fails."""
    try:
        return str(error)
    except Exception:
        return ""


def _no_room(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk behind an error: closing what could not be written says it again, in other words."""
    while error is not None and not (isinstance(error, OSError) and error.errno in _NO_ROOM):
        error = error.__cause__ or error.__context__
    return error


def _one_by_one(stage: Stage, process: Process, batch: Sequence[Sample], work: Work) -> list[Outcome]:
    return [outcome for sample in batch for outcome in call_stage(stage, process, [sample], work)]


def _returned(stage: Stage, process: Process, batch: Sequence[Sample], work: Work) -> list[Outcome] | Failed:
    """Return the outcomes, or what is wrong with the call."""
    name = stage_name(stage)
    try:
        with work.journal.call(name, [sample.key for sample in batch], work.limit_of(stage, len(batch))), work.timed(name):
            # Copies, in a tuple: what a stage changes in place is neither what it is judged by nor what a call in parts gets.
            returned: Any = process(tuple(map(own, batch)))
            outcomes = list(returned) if hasattr(returned, "__iter__") else returned
        return broken_promise(stage, batch, outcomes) or list(map(own_outcome, outcomes))
    except RAISED as error:
        if said_by(error) and is_device_lost(error):
            raise DeviceLost(name, [sample.key for sample in batch], _words(error)) from error
        failure = failure_of(error)
        # A batch that is divided raises again for the sample at fault.
        is_last = len(batch) == 1 or stage.group_by is not None
        return work.note(name, batch[0].key, error, failure) if is_last else failure


def _words(error: BaseException) -> str:
    # A file name that is no UTF-8 may be in it, which no ledger holds.
    text = said_by(error).strip().encode(errors="backslashreplace").decode()
    return f"{type(error).__name__}: {text[:_MAX_WORDS]}" if text else type(error).__name__
