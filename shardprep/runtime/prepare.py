"""Decoding ahead: the frames that a segment's stages want, made in a thread while the models work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace

from shardprep.core.blob import Blob
from shardprep.core.frames import Frames, FramesWanted, Size
from shardprep.core.outcome import Outcome
from shardprep.core.plan import watches
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage, stage_name
from shardprep.media.decode import decode_frames, estimate_bytes
from shardprep.media.timeline import Timeline, read_timeline
from shardprep.runtime.byte_budget import ByteBudget
from shardprep.runtime.call import RAISED, failure_of
from shardprep.runtime.item import Item, Prepared, Work, applies
from shardprep.runtime.watch import Watch

NO_SIZES: Mapping[int, Size] = {}
DECODING = "decode"
"""What stands for the decoder where a stage's name would."""


def prepare(
    segment: Sequence[Stage], items: Iterable[Item], work: Work, budget: ByteBudget, sizes: Mapping[int, Size] = NO_SIZES
) -> Iterator[Item]:
    """Yield the items in order, each with the frames of its segment; a video is decoded once for all of them.

    `sizes` are those that a loaded model wants, by the place of its stage.
    """
    if not decodes(segment):
        yield from items
        return
    pending: deque[tuple[int, Future[Item]]] = deque()
    thread = work.decoding_thread(budget)
    for ticket, item in enumerate(items):
        pending.append((ticket, thread.submit(_prepared, segment, item, work, budget, ticket, sizes)))
        if len(pending) > work.settings.decode_ahead:
            yield _delivered(pending, budget)
    while pending:
        yield _delivered(pending, budget)


def decodes(segment: Sequence[Stage]) -> bool:
    """Whether a stage of the segment wants frames."""
    return any(stage.frames for stage in segment)


def _delivered(pending: deque[tuple[int, Future[Item]]], budget: ByteBudget) -> Item:
    ticket, future = pending.popleft()
    budget.wants(ticket)
    return future.result()


def _prepared(segment: Sequence[Stage], item: Item, work: Work, budget: ByteBudget, ticket: int, sizes: Mapping[int, Size]) -> Item:
    if item.outcome is not None:
        return item
    frames: dict[int, Frames] = {}
    outcomes: dict[int, Outcome] = {}
    held = 0
    try:
        wishes = {place: wish for place, stage in enumerate(segment) if (wish := _wish(stage, item.sample, sizes.get(place)))}
        for role in dict.fromkeys(wish.role for wish in wishes.values()):
            own = {place: wish for place, wish in wishes.items() if wish.role == role}
            blob = item.sample.members[role].blob
            with _noted(segment, own, item.sample, work):
                timeline = read_timeline(blob, on_corrupt=work.settings.on_corrupt)
            needed = estimate_bytes(timeline, list(own.values()))
            # Waiting for room is no work, so it stands in no journal and against no limit.
            budget.acquire(needed, ticket)
            held += needed
            with _noted(segment, own, item.sample, work):
                watchers = {place: Watch(segment[place], item.sample, work) for place in own if watches(segment[place])}
                made = _decode(blob, timeline, own, watchers, work)
                outcomes |= {place: watcher.finish() for place, watcher in watchers.items()}
            frames |= made
            kept = sum(one.images.nbytes for one in made.values() if one.images is not None)
            budget.release(needed - kept)
            held -= needed - kept
    except RAISED as error:
        budget.release(held)
        return replace(item, prepared=Prepared(failure=work.note(DECODING, item.sample.key, error, failure_of(error))))
    return replace(item, prepared=Prepared(frames, outcomes, num_bytes=held))


def _noted(segment: Sequence[Stage], places: Iterable[int], sample: Sample, work: Work) -> AbstractContextManager[None]:
    """Note a call that decodes, with the stages that watch: they run inside it."""
    watching = ", ".join(stage_name(segment[place]) for place in places if watches(segment[place]))
    limit = max(work.limit_of(segment[place]) for place in places)
    return work.journal.call(f"{DECODING} for {watching}" if watching else DECODING, [sample.key], limit)


def _wish(stage: Stage, sample: Sample, size: Size | None) -> FramesWanted | None:
    """Return what the stage wants of this sample; a picture stands in for the video that is not there."""
    if stage.frames is None or not applies(stage, sample):
        return None
    wish = replace(stage.frames, size=size) if size else stage.frames
    if wish.role == "video" and "video" not in sample.members and "image" in sample.members:
        return replace(wish, role="image")
    if wish.role not in sample.members:
        raise ValueError(f"{sample.key} has no {wish.role}, of which {stage_name(stage)} wants frames")
    return wish


def _decode(
    blob: Blob, timeline: Timeline, wishes: Mapping[int, FramesWanted], watchers: Mapping[int, Watch], work: Work
) -> dict[int, Frames]:
    places = list(wishes)
    settings = work.settings
    with work.timed(DECODING):
        result = decode_frames(
            blob,
            [wishes[place] for place in places],
            {places.index(place): watcher.see for place, watcher in watchers.items()},
            timeline=timeline,
            decoder=settings.decoder,
            threads=settings.threads,
            on_corrupt=settings.on_corrupt,
        )
    work.count_decodes(result.num_decodes)
    made = {place: frames for place, frames in zip(places, result.frames, strict=True) if frames is not None}
    for frames in made.values():
        # A call that is asked again in parts gets the same frames.
        if frames.images is not None:
            frames.images.setflags(write=False)
    return made
