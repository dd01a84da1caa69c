"""The sound of a clip is cut to the sample, and stays beside its picture."""

from __future__ import annotations

import av
import numpy as np
import pytest

from shardprep.core.blob import Blob, BytesBlob
from shardprep.media.container import DecodeError
from shardprep.media.cut import cut_exact
from shardprep.media.encode import EncodeSettings
from shardprep.media.sound import cut_sound
from shardprep.testing import videos


def samples_in(blob: Blob) -> tuple[np.ndarray, float]:
    """Return mono samples and the time of the first."""
    with av.open(blob.open()) as container:
        frames = list(container.decode(audio=0))
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]), float(frames[0].time)


def beeping(seconds: float = 4) -> bytes:
    """A video whose sound is silent but for [1, 1.5) s."""
    return videos.encode(videos.draw([videos.Shot(seconds=seconds)]), sound_seconds=seconds, beep=(1.0, 1.5))


def loud_span(samples: np.ndarray, rate: int = 16000) -> tuple[float, float]:
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    return loud[0] / rate, loud[-1] / rate


def test_sound_is_cut_at_the_sample() -> None:
    sound = cut_sound(BytesBlob(beeping()), [[(0.8, 2.0)]])[0]
    samples, start = samples_in(sound)
    assert start == pytest.approx(0, abs=1e-3)
    assert loud_span(samples) == (pytest.approx(0.2, abs=0.01), pytest.approx(0.7, abs=0.01))


def test_intervals_are_joined() -> None:
    sound = cut_sound(BytesBlob(beeping()), [[(1.1, 1.2), (1.4, 1.6), (3.0, 3.2)]])[0]
    samples, _ = samples_in(sound)
    assert loud_span(samples) == (pytest.approx(0, abs=0.02), pytest.approx(0.2, abs=0.02))
    assert len(samples) / 16000 == pytest.approx(0.5, abs=0.07)


def test_sound_stays_beside_its_picture() -> None:
    clip = cut_exact(BytesBlob(beeping()), [[(0.9, 2.0)]], EncodeSettings(preset="ultrafast", keep_audio=True))[0]
    samples, start = samples_in(clip.blob)
    assert loud_span(samples)[0] + start == pytest.approx(0.1 - (22 / 24 - 0.9), abs=0.01)


def test_a_video_without_sound_has_none() -> None:
    assert cut_sound(BytesBlob(videos.still()), [[(0, 1)], [(1, 2)]]) == [None, None]


def test_sound_that_ends_early_is_filled_with_silence() -> None:
    data = videos.encode(videos.draw([videos.Shot(seconds=3)]), sound_seconds=1)
    samples, _ = samples_in(cut_sound(BytesBlob(data), [[(0.5, 3)]])[0])
    assert len(samples) / 16000 == pytest.approx(2.5, abs=0.07)
    assert loud_span(samples)[1] == pytest.approx(0.5, abs=0.07)


def test_no_container_is_an_error() -> None:
    with pytest.raises(DecodeError):
        cut_sound(BytesBlob(b"no video"), [[(0, 1)]])
