"""Recordings joined end to end, each with a clock of its own: refused, as their frames would be shown one between the other."""

from __future__ import annotations

import pytest

from shardprep.core.blob import BytesBlob
from shardprep.media.container import DecodeError
from shardprep.media.timeline import read_timeline
from shardprep.testing.videos import Shot, draw, encode

PICTURES = list(draw([Shot(seconds=2, px_per_second=20, seed=1)], height=64, width=96, fps=25))


@pytest.mark.parametrize("container", ["mpegts", "mpeg"])
def test_a_clock_that_starts_anew_is_said(container: str) -> None:
    data = encode(PICTURES, fps=25, container=container)
    assert read_timeline(BytesBlob(data)).num_frames == 50, "one of them is a video as others"
    with pytest.raises(DecodeError, match=rf"{container}: after frame \d+ the times start anew") as caught:
        read_timeline(BytesBlob(data + data))
    assert caught.value.reason == "times-go-back"
