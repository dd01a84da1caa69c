"""Sound from every container and codec is what ffmpeg itself decodes, each sample at its place."""

from __future__ import annotations

import io
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from shardprep.core.blob import Blob, BytesBlob, FileBlob, read_blob
from shardprep.media.container import DecodeError
from shardprep.media.cut import cut_exact
from shardprep.media.encode import EncodeSettings
from shardprep.media.sound import cut_sound
from shardprep.media.sound_source import SampleClock, SoundForm, read_sound

RATE = 44100
SECONDS = 6.0

# Every pair that the container allows; Opus knows no 44.1 kHz.
CODECS = {
    "mkv": ["aac", "libmp3lame", "ac3", "libvorbis", "libopus", "pcm_s16le"],
    "webm": ["libvorbis", "libopus"],
    "flv": ["aac", "libmp3lame", "pcm_s16le"],
    "ts": ["aac", "libmp3lame", "ac3", "libopus"],
    "wmv": ["wmav2", "aac", "libmp3lame", "ac3", "pcm_s16le"],
    "mp4": ["aac", "libmp3lame", "ac3", "libopus", "pcm_s16le"],
    "mov": ["aac", "pcm_s16le"],
    "avi": ["aac", "libmp3lame", "ac3", "pcm_s16le"],
}
PAIRS = [(container, codec) for container, codecs in CODECS.items() for codec in codecs]
# Where frames begin, at 25 fps.
SPANS = [(0.0, 1.52), (2.24, 4.76)]


def run(*arguments: object) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout


def rate_of(codec: str) -> int:
    return 48000 if codec == "libopus" else RATE


@cache
def tone_and_noise(rate: int) -> NDArray[np.float32]:
    """A tone of 1 kHz on the left, noise below 4 kHz on the right."""
    num = round(SECONDS * rate)
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(num))
    spectrum[round(4000 * SECONDS) :] = 0
    noise = np.fft.irfft(spectrum, num)
    return np.stack([0.4 * np.sin(2 * np.pi * 1000 * np.arange(num) / rate), 0.15 * noise / noise.std()]).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for rate in (44100, 48000):
        (folder / f"{rate}.f32").write_bytes(tone_and_noise(rate).T.tobytes())
    return folder


def made(folder: Path, container: str, codec: str) -> Path:
    """Return the tone and the noise beside a picture in this container."""
    path = folder / f"{codec}.{container}"
    if not path.exists():
        video = {"webm": "libvpx", "flv": "flv", "wmv": "msmpeg4", "ts": "mpeg2video"}.get(container, "mpeg4")
        picture = ["-f", "lavfi", "-i", f"color=gray:s=64x48:r=25:d={SECONDS}"]
        sound = ["-f", "f32le", "-ar", rate_of(codec), "-ac", 2, "-i", folder / f"{rate_of(codec)}.f32"]
        bits = [] if codec.startswith("pcm") else ["-b:a", "192k"]
        run(*picture, *sound, "-c:v", video, "-c:a", codec, *bits, "-strict", "-2", path)
    return path


def blob_of(path: Path) -> Blob:
    return FileBlob(str(path), 0, path.stat().st_size)


def heard(blob: Blob, start: float, end: float, rate: int = RATE) -> NDArray[np.float32]:
    """Return the samples of [start, end) with zeros where nothing was heard."""
    first, stop = round(start * rate), round(end * rate)
    samples = np.zeros((2, stop - first), np.float32)
    for piece in read_sound(blob, start, end, SoundForm(rate=rate, layout="stereo")):
        begin = piece.position - first
        a, b = max(0, begin), min(stop - first, begin + piece.samples.shape[1])
        if a < b:
            samples[:, a:b] = piece.samples[:, a - begin : b - begin]
    return samples


def decoded_by_ffmpeg(path: Path) -> NDArray[np.float32]:
    return np.frombuffer(run("-i", path, "-map", "0:a:0", "-f", "f32le", "-ac", 2, "-"), np.float32).reshape(-1, 2).T


def span_by_ffmpeg(path: Path, start: float, end: float, rate: int) -> NDArray[np.float32]:
    """Return the samples of [start, end) by the container's clock, counted in ffmpeg's decode of the whole file."""
    with av.open(str(path)) as container:
        zero = next(frame.time for frame in container.decode(audio=0))
    return decoded_by_ffmpeg(path)[:, max(0, round((start - zero) * rate)) : round((end - zero) * rate)]


def tone_sinad(samples: NDArray[np.float32], rate: int = RATE) -> float:
    """Return the power of the 1 kHz tone over everything else, in dB."""
    times = np.arange(len(samples)) / rate
    waves = np.stack([np.sin(2 * np.pi * 1000 * times), np.cos(2 * np.pi * 1000 * times)], axis=1)
    fit = waves @ np.linalg.lstsq(waves, samples, rcond=None)[0]
    return float(10 * np.log10((fit**2).mean() / ((samples - fit) ** 2).mean()))


def noise_sinad(samples: NDArray[np.float32], start: float, rate: int = RATE) -> tuple[float, float]:
    """Return the power of the noise over the difference, in dB, at the best alignment; and how late that is, in seconds."""
    first, reach = round(start * rate), rate // 10
    padded = np.pad(tone_and_noise(rate)[1], reach)[first : first + len(samples) + 2 * reach]
    size = 1 << (len(padded) + len(samples)).bit_length()
    match = np.fft.irfft(np.fft.rfft(padded, size) * np.conj(np.fft.rfft(samples, size)), size)[: 2 * reach]
    shift = int(np.argmax(match))
    truth = padded[shift : shift + len(samples)]
    gain = (truth @ samples) / (truth @ truth)
    return float(10 * np.log10(((gain * truth) ** 2).mean() / ((samples - gain * truth) ** 2).mean())), (reach - shift) / rate


def source_start(path: Path) -> float:
    """Return the time by the container's clock at which the source's first sample sounds: its video's first time."""
    with av.open(str(path)) as container:
        return min(float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.pts is not None)


@pytest.mark.parametrize(("container", "codec"), PAIRS)
def test_sound_is_as_good_as_ffmpegs_own_decode_and_in_time(container: str, codec: str, folder: Path) -> None:
    path, rate = made(folder, container, codec), rate_of(codec)
    zero = source_start(path)
    for start, end in SPANS:
        # ffmpeg's decoder gives nothing for the first packet of wmav2.
        start += 0.05 if (codec, start) == ("wmav2", 0) else 0
        ours = heard(blob_of(path), zero + start, zero + end, rate)
        theirs = span_by_ffmpeg(path, zero + start, zero + end, rate)
        assert tone_sinad(ours[0], rate) > tone_sinad(theirs[0], rate) - 0.1, (start, end)
        power, late = noise_sinad(ours[1], start, rate)
        assert power > noise_sinad(theirs[1], start, rate)[0] - 0.1, (start, end)
        # An AVI cannot say that its sound begins early, by the encoder's delay.
        assert abs(late) < (0.03 if container == "avi" else 0.001)


@pytest.mark.parametrize(("container", "codec"), PAIRS)
def test_sound_of_a_clip_is_as_good_as_ffmpegs_own_encode(container: str, codec: str, folder: Path) -> None:
    path, rate = made(folder, container, codec), rate_of(codec)
    zero, (start, end) = source_start(path), SPANS[1]
    clip = cut_exact(blob_of(path), [[(zero + start, zero + end)]], EncodeSettings(preset="ultrafast", keep_audio=True))[0]
    ours, theirs, span = folder / "clip.mp4", folder / "theirs.m4a", folder / "span.f32"
    ours.write_bytes(read_blob(clip.blob))
    span.write_bytes(span_by_ffmpeg(path, zero + start, zero + end, rate).T.tobytes())
    run("-f", "f32le", "-ar", rate, "-ac", 2, "-i", span, "-c:a", "aac", theirs)
    # Within the edges, where the encoder starts and ends.
    inner = slice(round(0.1 * rate), round(2.3 * rate))
    mine, its = (decoded_by_ffmpeg(file)[:, inner] for file in (ours, theirs))
    assert tone_sinad(mine[0], rate) > tone_sinad(its[0], rate) - 1
    power, late = noise_sinad(mine[1], start + 0.1, rate)
    assert power > noise_sinad(its[1], start + 0.1, rate)[0] - 1
    assert abs(late) < (0.03 if container == "avi" else 0.002)


def test_a_real_matroska_sounds_as_ffmpeg_decodes_it(shared: Path) -> None:
    path = shared / "videos" / "clock-h264.mkv"
    for start, end in [(0.0, 9.0), (30.5, 33.0)]:
        ours, theirs = heard(blob_of(path), start, end, 48000), span_by_ffmpeg(path, start, end, 48000)
        assert np.corrcoef(ours[0], theirs[0])[0, 1] > 0.9999


def test_the_sound_of_a_clip_does_not_depend_on_the_others(folder: Path) -> None:
    blob = blob_of(made(folder, "mkv", "libmp3lame"))
    alone = cut_sound(blob, [[(3.0, 4.0)]])[0]
    assert read_blob(alone) == read_blob(cut_sound(blob, [[(0.3, 1.0)], [(3.0, 4.0)]])[1])


def with_sound(frames: dict[float, NDArray[np.float32]], *, container: str = "matroska", rate: int = RATE) -> bytes:
    """Return a file whose stereo PCM frames are stamped with these times, with a picture of 25 fps beside them."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=rate, layout="stereo")
        for k in range(100):
            picture = VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
            picture.pts = k
            out.mux(video.encode(picture))
        for time, samples in frames.items():
            packed = np.ascontiguousarray((samples.T * 32767).astype("<i2"))
            packet = Packet(packed.tobytes())
            packet.stream, packet.time_base = sound, Fraction(1, 1000)
            packet.pts = packet.dts = round(time * 1000)
            out.mux(packet)
    return file.getvalue()


def tone(start: float, num: int, rate: int = RATE) -> NDArray[np.float32]:
    wave = 0.4 * np.sin(2 * np.pi * 1000 * (start + np.arange(num) / rate))
    return np.stack([wave, wave]).astype(np.float32)


@pytest.mark.parametrize("lost", [range(40, 41), range(40, 70)])
def test_a_gap_is_silent_and_what_follows_comes_at_its_time(lost: range) -> None:
    # 882 samples are 20 ms: the stamps are exact.
    frames = {k / 50: tone(k / 50, 882) for k in range(180) if k not in lost}
    ours = heard(BytesBlob(with_sound(frames)), 0, 3)[0]
    truth = tone(0, 3 * RATE)[0]
    truth[lost.start * 882 : lost.stop * 882] = 0
    assert np.abs(ours - truth).max() < 1e-3


def test_a_gap_is_as_long_in_the_clip_as_in_the_source() -> None:
    frames = {k / 50: tone(k / 50, 882) for k in range(180) if not 50 <= k < 75}
    sound = cut_sound(BytesBlob(with_sound(frames)), [[(0.5, 2.5)]])[0]
    with av.open(sound.open()) as container:
        ours = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(ours) > 0.1) / RATE
    assert loud[loud < 0.75][-1] == pytest.approx(0.5, abs=0.03)
    assert loud[loud > 0.75][0] == pytest.approx(1.0, abs=0.03)
    assert tone_sinad(ours[round(1.1 * RATE) : round(1.9 * RATE)]) > 40


def test_damaged_sound_fails_or_is_silent(folder: Path) -> None:
    data = bytearray(made(folder, "mp4", "aac").read_bytes())
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    for position, size in packets[100:110]:
        data[position : position + size] = b"\xff" * size
    blob = BytesBlob(bytes(data))
    with pytest.raises(DecodeError, match="aac: .*keep_audio: false"):
        cut_sound(blob, [[(2.0, 4.0)]])
    assert cut_sound(blob, [[(3.0, 4.0)]])[0] is not None
    with av.open(cut_sound(blob, [[(0.0, 6.0)]], on_corrupt="keep")[0].open()) as container:
        ours = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert not np.abs(ours[round(2.4 * RATE) : round(2.48 * RATE)]).max() > 0.05
    assert tone_sinad(ours[round(3.0 * RATE) : round(5.0 * RATE)]) > 25


def test_a_recorder_that_jitters_leaves_the_sound_whole() -> None:
    jitter = np.random.default_rng(1).uniform(-0.006, 0.006, 150)
    frames = {max(0, k * 1024 / RATE + jitter[k]): tone(k * 1024 / RATE, 1024) for k in range(150)}
    ours = heard(BytesBlob(with_sound(frames)), 1, 3)[0]
    assert tone_sinad(ours) > 60


def test_sound_before_time_0_is_heard(folder: Path) -> None:
    path, early = made(folder, "mp4", "aac"), folder / "early.mkv"
    run("-itsoffset", "-1", "-i", path, "-c", "copy", "-avoid_negative_ts", "disabled", "-copyts", early)
    assert source_start(early) == pytest.approx(-1)
    for start, end in [(-0.9, 0.5), (-0.2, 1.0), (0.3, 1.0)]:
        ours = heard(blob_of(early), start, end)
        assert tone_sinad(ours[0]) > tone_sinad(span_by_ffmpeg(path, start + 1, end + 1, RATE)[0]) - 1
        # The stamps before 0 of this file are themselves up to 9 ms late.
        assert noise_sinad(ours[1], start + 1)[1] == pytest.approx(0, abs=0.01)


def test_a_clip_that_ends_before_time_0_has_its_sound(folder: Path) -> None:
    early = folder / "early.mkv"
    run("-itsoffset", "-1", "-i", made(folder, "mp4", "aac"), "-c", "copy", "-avoid_negative_ts", "disabled", "-copyts", early)
    clips = cut_sound(blob_of(early), [[(-0.9, -0.1)], [(-0.5, 0.0)]])
    for clip in clips:
        with av.open(clip.open()) as container:
            ours = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert tone_sinad(ours[2000:20000]) > 25


def test_sound_that_changes_its_rate_goes_on(folder: Path) -> None:
    parts = []
    for k, rate in enumerate((44100, 48000)):
        part = folder / f"part{k}.ts"
        picture = ["-f", "lavfi", "-i", "color=gray:s=64x48:r=25:d=2"]
        audio = ["-f", "lavfi", "-i", f"sine=1000:r={rate}:d=2", "-output_ts_offset", 2 * k]
        run(*picture, *audio, "-c:v", "mpeg2video", "-c:a", "libmp3lame", "-ac", 2, "-muxdelay", 0, "-muxpreload", 0, part)
        parts.append(part.read_bytes())
    ours = heard(BytesBlob(b"".join(parts)), 0.5, 3.5)[0]
    assert tone_sinad(ours[:RATE]) > 40
    assert tone_sinad(ours[-RATE:]) > 40


TICK = Fraction(1, 1000)
FRAME = Fraction(1024, RATE)


def placed(stamps: list[Fraction | None], *, length: Fraction = FRAME) -> list[Fraction]:
    clock = SampleClock()
    return [clock.place(stamp, length, TICK) for stamp in stamps]


def test_rounded_stamps_do_not_move_the_count() -> None:
    rounded = [Fraction(round(k * FRAME / TICK)) * TICK for k in range(1000)]
    assert placed(rounded) == [k * FRAME for k in range(1000)]


def test_frames_without_stamps_follow_each_other() -> None:
    assert placed([Fraction(5), None, None]) == [5, 5 + FRAME, 5 + 2 * FRAME]


@pytest.mark.parametrize("gap", [FRAME, Fraction(1, 5), -FRAME, Fraction(3, 5) * FRAME])
def test_missing_and_doubled_sound_moves_the_count(gap: Fraction) -> None:
    assert placed([Fraction(0), FRAME + gap]) == [0, FRAME + gap]


def test_the_count_is_never_off_by_more_than_20_ms_however_long_the_frames() -> None:
    late = Fraction(21, 1000)
    assert placed([Fraction(0), 1 + late], length=Fraction(1)) == [0, 1 + late]
