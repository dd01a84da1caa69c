"""The sound of a file as it is decoded, every sample at its place on the file's clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av.error
import numpy as np
from av.audio.resampler import AudioResampler

from shardprep.core.blob import Blob
from shardprep.core.progress import gets_on
from shardprep.media.container import DecodeError, decoder_words, open_container
from shardprep.media.timeline import OnCorrupt, codec_name

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from numpy.typing import NDArray

_LEAD_SECONDS = 0.1
"""What lies this much before the wanted time is converted as well, for the resampler to settle."""
_MAX_SLACK = Fraction(1, 50)
"""Sound and picture are never further apart than 20 ms; ITU-R BT.1359 puts the threshold of notice at 45 ms."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Samples float32 [channels, num] of which the first sounds at `position` / rate seconds of the source."""

    position: int
    samples: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SoundForm:
    """What sound is turned into."""

    rate: int
    layout: str


class SampleClock:
    """Says when each frame of sound begins: samples are counted, because a time stamp says no more than its tick.

    The count starts anew where the stamp is off by at least half a frame (or 20 ms): there sound is missing or doubled. A
    smaller difference that is more than 1.5 ticks is the clock of a recorder that jitters; no sound is missing there, so none
    is invented or cut. The idea is that of ffmpeg's `av_rescale_delta`.
    """

    def __init__(self) -> None:
        self._next: Fraction | None = None

    def place(self, stamp: Fraction | None, length: Fraction, tick: Fraction) -> Fraction:
        """Return when a frame of this length begins, in seconds; `stamp` is what the container says, in whole ticks."""
        begin = self._next if self._next is not None else stamp if stamp is not None else Fraction(0)
        if stamp is not None and abs(stamp - begin) > max(tick * 3 / 2, min(length / 2, _MAX_SLACK)):
            begin = stamp
        self._next = begin + length
        return begin


def read_sound(blob: Blob, first: float, last: float, form: SoundForm, on_corrupt: OnCorrupt = "fail") -> Iterator[Heard]:
    """Yield the sound of the first audio stream that lies in [first, last) seconds, and some around it, in order, without its gaps.

    It is decoded from the beginning of the file on: a count that began after a seek would begin at a rounded stamp.
    Raises DecodeError `audio-error` at damage after `first`; with `on_corrupt="keep"` the damaged packets are a gap.
    """
    clock, stretch = SampleClock(), None
    for frame in _frames(blob, first, on_corrupt):
        length = Fraction(frame.samples, frame.sample_rate)
        tick = Fraction(frame.time_base or Fraction(1, frame.sample_rate))
        begin = clock.place(None if frame.pts is None else frame.pts * tick, length, tick)
        if begin + length < first - _LEAD_SECONDS:
            continue
        if begin >= last:
            break
        if stretch is None or not stretch.goes_on(frame, begin):
            if stretch is not None:
                yield from stretch.take(None)
            stretch = _Stretch(frame, begin, form)
        yield from stretch.take(frame)
    if stretch is not None:
        yield from stretch.take(None)


class _Stretch:
    """Sound without a gap and of one kind: it is counted in samples of the wanted rate from its beginning on."""

    def __init__(self, first: AudioFrame, begin: Fraction, form: SoundForm) -> None:
        self._kind = _kind(first)
        self._resampler = AudioResampler(format="fltp", layout=form.layout, rate=form.rate)
        self._is_unchanged = self._kind == ("fltp", form.layout, form.rate)
        self._position = round(begin * form.rate)
        self.end = begin

    def goes_on(self, frame: AudioFrame, begin: Fraction) -> bool:
        return begin == self.end and _kind(frame) == self._kind

    def take(self, frame: AudioFrame | None) -> Iterator[Heard]:
        """Yield what is ready after `frame`; None yields the rest."""
        if frame is not None:
            self.end += Fraction(frame.samples, frame.sample_rate)
            frame.pts = None
        elif self._is_unchanged:
            return
        for piece in self._resampler.resample(frame):
            samples = np.asarray(piece.to_ndarray(), np.float32)
            yield Heard(self._position, samples)
            self._position += samples.shape[1]


def _kind(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _frames(blob: Blob, first: float, on_corrupt: OnCorrupt) -> Iterator[AudioFrame]:
    with open_container(blob) as container:
        stream = container.streams.audio[0]
        try:
            for packet in container.demux(stream):
                gets_on()
                yield from _decoded(packet, first, on_corrupt)
        except av.error.FFmpegError as error:
            if on_corrupt == "fail":
                words = f"{codec_name(stream)}: {decoder_words(error)}; keep_audio: false leaves the sound out"
                raise DecodeError("audio-error", words) from error


def _decoded(packet: Packet[AudioStream], first: float, on_corrupt: OnCorrupt) -> Sequence[AudioFrame]:
    try:
        return packet.decode()
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError:
        is_before = packet.pts is not None and packet.pts * (packet.time_base or 0) < first - _LEAD_SECONDS
        if not is_before and on_corrupt == "fail":
            raise
        return ()
