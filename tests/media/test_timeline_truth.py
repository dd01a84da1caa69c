"""The timeline against sources of its own: what the writer was told, what ffmpeg decodes, and the number in each picture."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

from shardprep.core.blob import BytesBlob
from shardprep.core.frames import AllFrames, FramesWanted
from shardprep.media.decode import decode_frames
from shardprep.media.timeline import read_timeline
from shardprep.testing import videos

CONTAINERS = ["mp4", "mov", "matroska", "webm", "mpegts", "flv", "asf", "avi", "nut"]
CODECS = {"webm": "libvpx", "asf": "mpeg4"}


def made(container: str, times: list[float]) -> bytes:
    frames = videos.draw([videos.Shot(seconds=len(times) / 25, px_per_second=50, seed=1)], fps=25)
    return videos.encode(
        frames, fps=25, times=times, container=container, codec=CODECS.get(container, "libx264"), key_every=12, options={"threads": "1"}
    )


def decoded(data: bytes) -> list[float]:
    """Return when ffmpeg shows each frame."""
    with av.open(BytesBlob(data).open()) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize("container", [name for name in CONTAINERS if name != "avi"])
@pytest.mark.parametrize("start", [0.0, 0.02, 0.04, 1.075])
def test_times_are_those_of_the_decoded_frames_and_of_the_writer(container: str, start: float) -> None:
    times = [start + k / 25 for k in range(40)]
    data = made(container, times)
    timeline = read_timeline(BytesBlob(data))
    assert timeline.seconds == pytest.approx(decoded(data), abs=1e-9)
    # Some muxers move everything so that no decoding time is below 0.
    offset = decoded(data)[0] - start if container in {"mpegts", "webm", "flv", "nut"} else 0
    assert timeline.seconds == pytest.approx([time + offset for time in times], abs=1.1e-3)
    assert timeline.end_seconds == pytest.approx(times[-1] + offset + 0.04, abs=2.1e-3)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "flv"])
def test_key_frames_are_those_of_the_decoder(container: str) -> None:
    data = made(container, [k / 25 for k in range(40)])
    with av.open(BytesBlob(data).open()) as opened:
        expected = tuple(index for index, frame in enumerate(opened.decode(video=0)) if frame.key_frame)
    assert read_timeline(BytesBlob(data)).keyframes == expected == (0, 12, 24, 36)


@pytest.mark.parametrize("container", CONTAINERS)
def test_each_picture_is_given_with_its_own_time(container: str) -> None:
    codec = CODECS.get(container, "libx264")
    data = videos.numbered(60, container=container, codec=codec, key_every=20)
    seen: list[tuple[int, float]] = []
    watch = {0: lambda frame: seen.append((videos.number_in(frame.image), frame.seconds))}
    decode_frames(BytesBlob(data), [FramesWanted(AllFrames())], watch)
    assert [number for number, _ in seen] == list(range(60))
    first = seen[0][1]
    assert [seconds - first for _, seconds in seen] == pytest.approx([k / 24 for k in range(60)], abs=1.1e-3)


WRITTEN = {
    "plain.avi": "-c:v libx264 -bf 0",
    "b-frames.avi": "-c:v libx264 -bf 2",
    "pyramid.avi": "-c:v libx264 -bf 4 -x264-params b-pyramid=normal",
    "xvid.avi": "-c:v mpeg4 -vtag XVID -bf 2",
    "dropped.avi": "-vf select='not(eq(mod(n\\,7)\\,3))' -fps_mode vfr -c:v mpeg4",
    "dropped-b-frames.avi": "-vf select='not(eq(mod(n\\,7)\\,3))' -fps_mode vfr -c:v libx264 -bf 2",
    "b-frames.mkv": "-c:v libx264 -bf 3",
    "edited.mp4": "-ss 0.3 -c:v libx264 -bf 3",
    "mpeg2.mpg": "-c:v mpeg2video -bf 2",
    "mpeg2.ts": "-c:v mpeg2video -bf 2",
    "wmv.wmv": "-c:v wmv2",
    "theora.ogv": "-c:v libtheora",
    "moving.gif": "",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_times_are_those_at_which_ffmpeg_shows_the_frames(name: str, tmp_path: Path) -> None:
    path, program = tmp_path / name, imageio_ffmpeg.get_ffmpeg_exe()
    options = WRITTEN[name].replace("'", "")
    command = f"{program} -v error -f lavfi -i testsrc2=s=160x120:r=25:d=2 {options} {path}"
    subprocess.run(command.split(), check=True, timeout=60)
    show = f"{program} -hide_banner -nostdin -copyts -i {path} -vf showinfo -fps_mode passthrough -f null -"
    words = subprocess.run(show.split(), capture_output=True, text=True, timeout=60, check=True).stderr
    times = [float(time) for time in re.findall(r"pts_time:([-0-9.]+)", words)]
    assert len(times) > 30
    assert read_timeline(BytesBlob(path.read_bytes())).seconds == pytest.approx(times, abs=1.1e-3)
