"""Copied clips begin at a key frame, hold no frame of another shot, and can be decoded whole."""

from __future__ import annotations

import pytest

from shardprep.core.blob import Blob, BytesBlob
from shardprep.core.frames import AllFrames, FramesWanted
from shardprep.media.clips import Clip
from shardprep.media.container import DecodeError
from shardprep.media.copy_cut import cut_copy
from shardprep.media.decode import decode_frames
from shardprep.media.probe import probe
from shardprep.testing import videos
from tests.media.test_cut import decoded_times


def numbers_in(blob: Blob) -> list[int]:
    seen: list[int] = []
    decode_frames(blob, [FramesWanted(AllFrames())], {0: lambda frame: seen.append(videos.number_in(frame.image))})
    return seen


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "flv"])
@pytest.mark.parametrize("open_gop", [False, True])
def test_a_copy_begins_at_a_key_frame_and_never_leaves_the_interval(container: str, open_gop: bool) -> None:
    blob = BytesBlob(videos.numbered(96, container=container, key_every=12, open_gop=open_gop))
    times = decoded_times(blob)
    for start, end in [(5, 40), (12, 24), (13, 60), (0, 96), (50, 95)]:
        clip = cut_copy(blob, [[(times[start], times[end])]])[0]
        assert isinstance(clip, Clip)
        shown = numbers_in(clip.blob)
        key = -(-start // 12) * 12
        assert shown == list(range(key, key + len(shown)))
        assert key + len(shown) <= end
        # At most one group of B-frames is lost at the end.
        assert key + len(shown) >= end - 4
        facts = probe(clip.blob)
        assert facts.seconds == pytest.approx(len(shown) / 24, abs=2e-3)
        assert facts.start_seconds == pytest.approx(0, abs=2e-3)
        assert clip.intervals[0][0] == pytest.approx(times[key], abs=1e-9)


def test_packets_are_not_encoded_anew() -> None:
    data = videos.numbered(48, key_every=12)
    clip = cut_copy(BytesBlob(data), [[(0, 2)]])[0]
    biggest = max(_packets(data), key=len)
    assert biggest in clip.blob.open().read()


def test_without_a_key_frame_inside_there_is_no_clip() -> None:
    results = cut_copy(BytesBlob(videos.numbered(48, key_every=24)), [[(0.1, 0.9)], [(0.9, 2)]])
    assert isinstance(results[0], DecodeError)
    assert results[0].reason == "no-key-frame-inside"
    assert numbers_in(results[1].blob)[0] == 24


def test_several_intervals_follow_each_other() -> None:
    clip = cut_copy(BytesBlob(videos.numbered(96, key_every=12)), [[(0, 0.5), (3, 3.5)]])[0]
    assert numbers_in(clip.blob) == [*range(12), *range(72, 84)]
    assert not probe(clip.blob).is_vfr


def test_clips_may_overlap() -> None:
    clips = cut_copy(BytesBlob(videos.numbered(48, key_every=12)), [[(0, 2)], [(0, 1)], [(0.5, 2)]])
    assert [numbers_in(clip.blob)[0] for clip in clips] == [0, 0, 12]


def test_rotation_stays_in_the_header() -> None:
    clip = cut_copy(BytesBlob(videos.rotated(90)), [[(0, 1)]])[0]
    facts = probe(clip.blob)
    assert (facts.rotation, facts.width, facts.height) == (90, 120, 160)


def test_codecs_that_mp4_does_not_take_go_into_matroska() -> None:
    clip = cut_copy(BytesBlob(videos.one_pixel()), [[(0, 1)]])[0]
    assert (clip.suffix, probe(clip.blob).codec) == ("mkv", "ffv1")


def test_sound_fits_the_clip() -> None:
    clip = cut_copy(BytesBlob(videos.three_shots()), [[(0, 2)]], keep_audio=True)[0]
    assert probe(clip.blob).num_audio_streams == 1


@pytest.mark.parametrize(("container", "codec"), [("gif", "gif"), ("asf", "wmv2"), ("flv", "flv")])
def test_codecs_that_no_container_takes_say_so(container: str, codec: str) -> None:
    pixel_format = "rgb8" if codec == "gif" else "yuv420p"
    images = videos.draw([videos.Shot(seconds=0.5)], height=48, width=64, fps=25)
    data = videos.encode(images, fps=25, container=container, codec=codec, pixel_format=pixel_format)
    with pytest.raises(DecodeError, match="mode: exact") as error:
        cut_copy(BytesBlob(data), [[(0, 1)]])
    assert error.value.reason == "no-container"


def test_an_avi_cannot_be_copied_exactly() -> None:
    with pytest.raises(DecodeError, match="mode: exact"):
        cut_copy(BytesBlob(videos.numbered(24, container="avi")), [[(0, 1)]])


def _packets(data: bytes) -> list[bytes]:
    import av

    with av.open(BytesBlob(data).open()) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]
