"""A watcher at work: where it fails its own stage fails the sample, and the other stages of the segment go on."""

from __future__ import annotations

from shardprep.core.frames import Frame
from shardprep.core.outcome import Failed, Outcome
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage, Watcher, stage_name
from shardprep.runtime.call import RAISED, failure_of
from shardprep.runtime.contract import broken_promise
from shardprep.runtime.copies import own, own_outcome
from shardprep.runtime.item import Work


class Watch:
    """Shows one sample's frames to one stage's watcher and takes its outcome."""

    def __init__(self, stage: Stage, sample: Sample, work: Work) -> None:
        self._stage, self._sample, self._work = stage, sample, work
        self._watcher: Watcher | None = None
        self._outcome: Outcome | None = None
        try:
            self._watcher = stage.watch(own(sample))
        except RAISED as error:
            self._outcome = self._failure(error)

    def see(self, frame: Frame) -> None:
        """Show the next frame, unless the watcher has failed."""
        if self._watcher is None or self._outcome is not None:
            return
        try:
            self._watcher.see(frame)
        except RAISED as error:
            self._outcome = self._failure(error)

    def finish(self) -> Outcome:
        """Return the watcher's outcome, or why there is none."""
        if self._watcher is None or self._outcome is not None:
            assert self._outcome is not None, "a watcher that could not be made has failed"
            return self._outcome
        try:
            outcome = self._watcher.finish()
            return broken_promise(self._stage, [self._sample], [outcome]) or own_outcome(outcome)
        except RAISED as error:
            return self._failure(error)

    def _failure(self, error: BaseException) -> Failed:
        return self._work.note(stage_name(self._stage), self._sample.key, error, failure_of(error))
