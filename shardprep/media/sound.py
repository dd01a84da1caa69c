"""The sound of clips: the first audio stream, cut to the sample and encoded as AAC."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec.context import Flags

from shardprep.core.blob import Blob, BytesBlob
from shardprep.media.container import DecodeError, decoder_words, open_container
from shardprep.media.scratch import muxing

if TYPE_CHECKING:
    from av.packet import Packet
    from numpy.typing import NDArray

Intervals = Sequence[tuple[float, float]]
"""Half-open (start, end) in presentation seconds of the source."""

_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_FALLBACK_RATE = 48000
_LEAD_SECONDS = 0.5


def cut_sound(blob: Blob, clips: Sequence[Intervals]) -> list[Blob | None]:
    """Return the sound of each clip as an m4a, exactly as long as its intervals; None where the file has no audio stream.

    One pass over the audio for all clips. Where it is silent, late or has gaps, silence fills in. Raises DecodeError.
    """
    with open_container(blob) as container, ExitStack() as stack:
        if not container.streams.audio or not any(clips):
            return [None] * len(clips)
        stream = container.streams.audio[0]
        rate = stream.rate if stream.rate in _RATES else _FALLBACK_RATE
        layout = "mono" if stream.channels == 1 else "stereo"
        sounds = [_ClipSound(intervals, rate, layout, stack) for intervals in clips]
        first = min(start for intervals in clips for start, _ in intervals)
        last = max(end for intervals in clips for _, end in intervals)
        resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
        try:
            container.seek(max(0, round((first - _LEAD_SECONDS) / (stream.time_base or 1))), stream=stream)
            for frame in container.decode(stream):
                for piece in resampler.resample(frame):
                    samples = np.asarray(piece.to_ndarray(), np.float32)
                    for sound in sounds:
                        sound.hear(piece.time or 0.0, samples)
                if (frame.time or 0.0) > last:
                    break
        except av.error.FFmpegError as error:
            words = f"{stream.codec_context.name}: {decoder_words(error)}; keep_audio: false leaves the sound out"
            raise DecodeError("audio-error", words) from error
        return [sound.finish() for sound in sounds]


@contextmanager
def sound_packets(sound: Blob | None) -> Iterator[Iterator[Packet[Any]] | None]:
    """Yield the packets of an m4a in order, None for None."""
    if sound is None:
        yield None
        return
    with open_container(sound) as container:
        yield (packet for packet in container.demux(audio=0) if packet.size)


@dataclass(frozen=True)
class _Span:
    """Samples `[start, end)` of the source, which lie at `offset` of the clip."""

    start: int
    end: int
    offset: int


class _ClipSound:
    """Collects the samples of one clip and encodes them as they come."""

    def __init__(self, intervals: Intervals, rate: int, layout: str, stack: ExitStack) -> None:
        self._spans: list[_Span] = []
        self._length = 0
        for start, end in intervals:
            span = _Span(round(start * rate), round(end * rate), self._length)
            self._spans.append(span)
            self._length += span.end - span.start
        self._rate, self._layout, self._written = rate, layout, 0
        self._file = io.BytesIO()
        self._container = stack.enter_context(muxing(self._file, "ipod"))
        self._stream = self._container.add_stream("aac", rate=rate, layout=layout)
        self._stream.codec_context.flags |= Flags.bitexact

    def hear(self, seconds: float, samples: NDArray[np.float32]) -> None:
        """Take samples [channels, num] that begin at `seconds` of the source."""
        begin = round(seconds * self._rate)
        for span in self._spans:
            start, end = max(span.start, begin), min(span.end, begin + samples.shape[1])
            if start < end:
                self._write_at(span.offset + start - span.start, samples[:, start - begin : end - begin])

    def finish(self) -> Blob:
        """Fill up with silence and return the file."""
        self._silence_up_to(self._length)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return BytesBlob(self._file.getvalue())

    def _write_at(self, position: int, samples: NDArray[np.float32]) -> None:
        self._silence_up_to(position)
        fresh = samples[:, max(0, self._written - position) :]
        if fresh.shape[1]:
            self._encode(fresh)

    def _silence_up_to(self, position: int) -> None:
        channels = 1 if self._layout == "mono" else 2
        while self._written < position:
            self._encode(np.zeros((channels, min(self._rate, position - self._written)), np.float32))

    def _encode(self, samples: NDArray[np.float32]) -> None:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._written
        self._written += samples.shape[1]
        self._container.mux(self._stream.encode(frame))
