"""The floor of detect and cut: each video decoded once, PySceneDetect's detector fed, the same frames given to x264, and nothing else."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from scenedetect import AdaptiveDetector, FrameTimecode

from shardprep.media.encoders import reproducible_options
from tests.bench.measure import Cost

# scenedetect 0.7 compares frames whose long side is 256 px.
_LONG_SIDE = 256


@dataclass(frozen=True)
class Span:
    """When a piece of work began and ended, and the processor's seconds between."""

    start: float
    end: float
    cpu: float


@dataclass(frozen=True)
class Encoding:
    """What x264 is told."""

    crf: int
    preset: str
    gop_frames: int
    """A key frame at least every so many frames."""
    threads: int


def run(videos: Sequence[Path], place: Path, num_processes: int, encoding: Encoding | None) -> Cost:
    """Work on the videos, so many at a time; the wall time is that from the first start to the last end.

    The processes and what they import are there before the clock starts: this floor has no fixed costs.
    """
    cuts = {video: cuts_of(video) for video in videos} if encoding else {}
    num_processes = min(num_processes, len(videos))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(num_processes)
    with ProcessPoolExecutor(num_processes, mp_context=context, initializer=_wait, initargs=(barrier,)) as pool:
        spans = list(pool.map(_work, videos, [place] * len(videos), [encoding] * len(videos), [cuts.get(video, ()) for video in videos]))
    return Cost(max(span.end for span in spans) - min(span.start for span in spans), sum(span.cpu for span in spans))


_cuts: dict[Path, tuple[int, ...]] = {}


def cuts_of(video: Path) -> tuple[int, ...]:
    """Return the indices of frames that begin a scene, the first not among them; found once per video and run."""
    if video not in _cuts:
        _cuts[video] = tuple(_sweep(video, lambda index, frame: None))
    return _cuts[video]


def count_packets(path: Path) -> int:
    """Return the number of frames of a video, as its container says."""
    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def _wait(barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]  # multiprocessing's Barrier is a function, not a type


def _work(video: Path, place: Path, encoding: Encoding | None, cuts: Sequence[int]) -> Span:
    started, cpu = time.monotonic(), time.process_time()
    if encoding is None:
        _sweep(video, lambda index, frame: None)
    else:
        clips = _Clips(video.stem, place, encoding, cuts)
        _sweep(video, clips.add)
        clips.close()
    return Span(started, time.monotonic(), time.process_time() - cpu)


def _sweep(video: Path, take: Callable[[int, VideoFrame], None]) -> list[int]:
    """Decode all frames, show them to the detector and to `take`; return the cuts."""
    cv2.setNumThreads(1)
    detector = AdaptiveDetector()
    cuts: list[int] = []
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        rate = stream.average_rate
        for index, frame in enumerate(container.decode(stream)):
            image = frame.to_ndarray(format="bgr24")
            factor = max(image.shape[:2]) / _LONG_SIDE
            if factor > 1:
                image = cv2.resize(image, (round(image.shape[1] / factor), round(image.shape[0] / factor)), interpolation=cv2.INTER_LINEAR)
            cuts += [cut.frame_num for cut in detector.process_frame(FrameTimecode(index, rate), image)]
            take(index, frame)
        cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(index, rate))]
    return cuts


class _Clips:
    """Encodes the frames that it is given, a new file at each cut."""

    def __init__(self, name: str, place: Path, encoding: Encoding, cuts: Sequence[int]) -> None:
        self._name, self._place, self._encoding, self._cuts = name, place, encoding, set(cuts)
        self._number = 0
        self._out: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._start = 0

    def add(self, index: int, frame: VideoFrame) -> None:
        if self._out is None or index in self._cuts:
            self.close()
            self._open(frame)
            self._start = frame.pts
        frame.pts -= self._start
        frame.pict_type = PictureType.NONE
        self._out.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._out is not None:
            self._out.mux(self._stream.encode(None))
            self._out.close()

    def _open(self, frame: VideoFrame) -> None:
        self._out = av.open(str(self._place / f"{self._name}-{self._number:03d}.mp4"), "w")
        self._number += 1
        stream = self._out.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        stream.codec_context.time_base = frame.time_base
        stream.codec_context.thread_count = self._encoding.threads
        stream.codec_context.gop_size = self._encoding.gop_frames
        # The same x264: without its AVX-512 code, whose bytes differ from run to run.
        options = reproducible_options("libx264")
        stream.codec_context.options = {"crf": str(self._encoding.crf), "preset": self._encoding.preset, **options}
        self._stream = stream
