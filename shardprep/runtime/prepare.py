"""Decoding ahead: the frames that a segment's stages want, made in threads while the models work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from shardprep.core.blob import Blob
from shardprep.core.frames import Frames, FramesWanted
from shardprep.core.outcome import Outcome
from shardprep.core.plan import watches
from shardprep.core.sample import Sample
from shardprep.core.stage import Stage, Watcher, stage_name
from shardprep.media.decode import decode_frames, estimate_bytes
from shardprep.media.timeline import Timeline, read_timeline
from shardprep.runtime.budget import ByteBudget
from shardprep.runtime.call import NOT_THE_SAMPLES_FAULT, failure_of
from shardprep.runtime.item import Item, Prepared, Work, applies


def prepare(segment: Sequence[Stage], items: Iterable[Item], work: Work, budget: ByteBudget) -> Iterator[Item]:
    """Yield the items in order, each with the frames of its segment; a video is decoded once for all of them."""
    if not any(stage.frames for stage in segment):
        yield from items
        return
    pending: deque[tuple[int, Future[Item]]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as threads:
        try:
            for ticket, item in enumerate(items):
                pending.append((ticket, threads.submit(_prepared, segment, item, work, budget, ticket)))
                if len(pending) > (0 if work.alone else work.settings.decode_ahead):
                    yield _delivered(pending, budget)
            while pending:
                yield _delivered(pending, budget)
        finally:
            for _, future in pending:
                future.cancel()


def _delivered(pending: deque[tuple[int, Future[Item]]], budget: ByteBudget) -> Item:
    ticket, future = pending.popleft()
    budget.wants(ticket)
    return future.result()


def _prepared(segment: Sequence[Stage], item: Item, work: Work, budget: ByteBudget, ticket: int) -> Item:
    if item.outcome is not None:
        return item
    frames: dict[int, Frames] = {}
    outcomes: dict[int, Outcome] = {}
    num_bytes = 0
    try:
        wishes = {place: wish for place, stage in enumerate(segment) if (wish := _wish(stage, item.sample))}
        for role in dict.fromkeys(wish.role for wish in wishes.values()):
            blob = item.sample.members[role].blob
            own = {place: wish for place, wish in wishes.items() if wish.role == role}
            timeline = read_timeline(blob)
            needed = estimate_bytes(timeline, list(own.values()))
            budget.acquire(needed, ticket)
            num_bytes += needed
            watchers = {place: segment[place].watch(item.sample) for place in own if watches(segment[place])}
            limit = max(segment[place].timeout_seconds for place in own)
            with work.journal.call("decode", [item.sample.key], limit), work.timed("decode"):
                frames |= _decode(blob, timeline, own, watchers, work)
            outcomes |= {place: watcher.finish() for place, watcher in watchers.items()}
    except NOT_THE_SAMPLES_FAULT:
        raise
    except Exception as error:
        return replace(item, prepared=Prepared(failure=failure_of(error), num_bytes=num_bytes))
    return replace(item, prepared=Prepared(frames, outcomes, num_bytes=num_bytes))


def _wish(stage: Stage, sample: Sample) -> FramesWanted | None:
    """Return what the stage wants of this sample; a picture stands in for the video that is not there."""
    if stage.frames is None or not applies(stage, sample):
        return None
    if stage.frames.role == "video" and "video" not in sample.members and "image" in sample.members:
        return replace(stage.frames, role="image")
    if stage.frames.role not in sample.members:
        raise ValueError(f"{sample.key} has no {stage.frames.role}, of which {stage_name(stage)} wants frames")
    return stage.frames


def _decode(
    blob: Blob, timeline: Timeline, wishes: Mapping[int, FramesWanted], watchers: Mapping[int, Watcher], work: Work
) -> dict[int, Frames]:
    places = list(wishes)
    settings = work.settings
    result = decode_frames(
        blob,
        [wishes[place] for place in places],
        {places.index(place): watcher.see for place, watcher in watchers.items()},
        timeline=timeline,
        decoder=settings.decoder,
        threads=settings.threads,
        on_corrupt=settings.on_corrupt,
    )
    work.decodes += result.num_decodes
    return {place: frames for place, frames in zip(places, result.frames, strict=True) if frames is not None}
