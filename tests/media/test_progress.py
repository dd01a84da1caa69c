"""Whatever walks through a video says at each packet that it gets on, so that a film is not taken for a call that hangs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import AllFrames, FramesWanted, PerSecond
from shardprep.core.progress import heard_by
from shardprep.media.copy_cut import cut_copy
from shardprep.media.cut import cut_exact
from shardprep.media.decode import decode_frames
from shardprep.media.encode import EncodeSettings
from shardprep.media.sound import cut_sound
from shardprep.media.timeline import read_timeline
from shardprep.testing import videos

NUM_FRAMES = 48
VIDEO = BytesBlob(videos.numbered(NUM_FRAMES))
TIMELINE = read_timeline(VIDEO)
TONE = BytesBlob(videos.audio_only())
ALL_FRAMES = FramesWanted(AllFrames(), colour="none")

WALKS: dict[str, Callable[[], object]] = {
    "timeline": lambda: read_timeline(VIDEO),
    "picked frames": lambda: decode_frames(VIDEO, [FramesWanted(PerSecond(24), colour="gray")], timeline=TIMELINE),
    "watched frames": lambda: decode_frames(VIDEO, [ALL_FRAMES], {0: lambda frame: None}, timeline=TIMELINE),
    "exact clips": lambda: cut_exact(VIDEO, [[(0.0, 2.0)]], EncodeSettings(preset="ultrafast"), timeline=TIMELINE),
    "copied clips": lambda: cut_copy(VIDEO, [[(0.0, 2.0)]]),
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_each_packet_of_the_pictures_is_told(walk: Callable[[], object]) -> None:
    assert num_told(walk) >= NUM_FRAMES


def test_each_packet_of_the_sound_is_told() -> None:
    assert num_told(lambda: cut_sound(TONE, [[(0.0, 0.5)]])) >= 10


def num_told(walk: Callable[[], object]) -> int:
    told: list[None] = []
    with heard_by(lambda: told.append(None)):
        walk()
    return len(told)
