"""cut_clips makes one clip per scene, each with facts and a lineage of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from shardprep.core.blob import BytesBlob, read_blob
from shardprep.core.frames import AllFrames, FramesWanted, Times
from shardprep.core.outcome import Dropped, Failed, Kept, Split
from shardprep.core.plan import Available, check_pass
from shardprep.core.sample import Member, Sample, role_of
from shardprep.core.stage import Worker
from shardprep.errors import RecipeError
from shardprep.media.container import DecodeError
from shardprep.media.decode import decode_frames
from shardprep.media.probe import probe
from shardprep.stages.cut_clips import CutClips
from shardprep.stages.detect_scenes import DetectScenes
from shardprep.stages.probe_media import MEDIA_COLUMNS, ProbeMedia
from shardprep.testing import videos
from tests.media.test_deinterlace import combing, woven
from tests.media.test_tonemap import hdr_video
from tests.running import run_stage, run_stages, sample_of

RECORD = {"source": {"path": "a.mp4"}, "meta": {"licence": "x"}, "caption": {"text": "hello"}, "scores": {"flow": 1.0}}


def cut(sample: Sample, **settings: object) -> Split:
    quick = {} if settings.get("mode") == "copy" else {"preset": "ultrafast"}
    outcome = run_stage(CutClips(**{**quick, **settings}), sample)
    assert isinstance(outcome, Split)
    return outcome


def detected(data: bytes | Path) -> Sample:
    return run_stages([ProbeMedia(), DetectScenes()], sample_of(data, record=RECORD))


def clips_of(split: Split) -> list[Sample]:
    return [outcome.sample for _, outcome in split.children if isinstance(outcome, Kept)]


def test_one_clip_per_scene_with_its_lineage() -> None:
    clips = clips_of(cut(detected(videos.three_shots())))
    assert [clip.key for clip in clips] == ["key-00000", "key-00001", "key-00002"]
    assert [clip.get("clip.index") for clip in clips] == [0, 1, 2]
    assert [clip.get("clip.starts") for clip in clips] == [[0], [1.5], [2.5]]
    assert [clip.get("clip.ends") for clip in clips] == [[1.5], [2.5], [4]]
    assert [clip.get("clip.seconds") for clip in clips] == [1.5, 1.0, 1.5]
    assert {clip.get("clip.source_key") for clip in clips} == {"key"}
    assert [clip.get("media.num_frames") for clip in clips] == [36, 24, 36]


def test_a_clip_inherits_what_holds_for_it_and_nothing_else() -> None:
    parent = detected(videos.three_shots())
    clip = clips_of(cut(parent))[0]
    assert set(clip.record) == {"source", "meta", "caption", "clip", "media"}
    assert clip.get("caption.text") == "hello"
    assert set(clip.members) == {"video"}
    assert clip.get("media.bytes") == clip.members["video"].blob.size != parent.get("media.bytes")
    assert clip.record["media"] == {
        name.removeprefix("media."): value for name, value in probe(clip.members["video"].blob, num_sizes=1).columns().items()
    }


def test_a_clip_has_the_labels_of_its_video_and_not_what_was_measured_along_it() -> None:
    parent = detected(videos.three_shots())
    suffixes = ("cls", "licence.txt", "objects.json", "flow.npy", "latent.safetensors", "thumb.jpg", "wav")
    members = {role_of(suffix): Member(suffix, BytesBlob(b"7"), crc32=5) for suffix in suffixes}
    clips = clips_of(cut(replace(parent, members={**parent.members, **members})))
    assert [sorted(clip.members) for clip in clips] == [["cls", "licence", "objects", "video"]] * 3
    assert clips[0].members["cls"] is members["cls"], "with its checksums"


def spanned(*spans: tuple[float, float]) -> Sample:
    starts, ends = zip(*spans, strict=True)
    columns = {"starts": list(starts), "ends": list(ends), "texts": ["words"] * len(spans), "rows": ["{}"] * len(spans)}
    return sample_of(videos.three_shots(), record={"spans": columns})


def test_a_given_clip_that_lies_beyond_its_video_fails_and_says_where_the_video_ends() -> None:
    sample = spanned((0.0, 1.0), (2.0, 9.0), (5.0, 6.0), (3.0, 4.4), (4.1, 4.3))
    outcomes = [outcome for _, outcome in cut(sample).children]
    assert [type(outcome) for outcome in outcomes] == [Kept, Failed, Failed, Kept, Failed]
    assert outcomes[1] == Failed(
        "bad-times", "its end 9 s lies beyond the video, which is shown from 0 s to 4 s; are the times of the list in seconds?"
    )
    assert outcomes[2].detail.startswith("its start 5 s lies beyond the video")
    assert outcomes[4].detail.startswith("its start 4.1 s lies beyond the video")
    kept = clips_of(cut(sample))[1]
    assert (kept.get("clip.starts"), kept.get("clip.ends")) == ([3.0], [4.0]), "durations are rounded in lists"


def test_how_far_a_given_clip_may_lie_beyond_its_video_is_a_setting() -> None:
    sample = spanned((2.0, 9.0), (3.5, 4.4))
    assert [type(outcome) for _, outcome in cut(sample, max_beyond_seconds=0.1).children] == [Failed, Failed]
    assert [clip.get("clip.ends") for clip in clips_of(cut(sample, max_beyond_seconds=60))] == [[4.0], [4.0]]
    pieces = [outcome for _, outcome in cut(spanned((3.0, 4.4)), max_seconds=1).children]
    assert [type(outcome) for outcome in pieces] == [Kept], "no piece is made of what lies beyond"


def test_a_given_clip_that_ends_before_the_first_frame_fails_and_one_that_begins_before_it_begins_with_it() -> None:
    late = videos.encode(videos.draw(videos.THREE_SHOTS), times=[10 + k / 24 for k in range(96)], container="matroska")
    columns = {"starts": [0.0, 0.0, 10.5], "ends": [2.0, 11.0, 11.0], "texts": [""] * 3, "rows": ["{}"] * 3}
    outcomes = [outcome for _, outcome in cut(sample_of(late, "mkv", record={"spans": columns})).children]
    assert [type(outcome) for outcome in outcomes] == [Failed, Kept, Kept]
    assert outcomes[0].detail.startswith("its end 2 s lies before the video, which is shown from 10 s to 13.999 s")
    assert outcomes[1].sample.get("clip.starts") == [10.0]


def test_without_scenes_the_whole_video_is_one_clip() -> None:
    clips = clips_of(cut(sample_of(videos.three_shots())))
    assert [clip.get("media.num_frames") for clip in clips] == [96]


def test_short_clips_are_dropped_and_long_scenes_are_cut_up() -> None:
    sample = detected(videos.three_shots())
    outcomes = [outcome for _, outcome in cut(sample, min_seconds=1.2).children]
    assert [type(outcome) for outcome in outcomes] == [Kept, Dropped, Kept]
    assert outcomes[1] == Dropped("too-short", "it would be 1.000 s long; min_seconds is 1.2")
    clips = clips_of(cut(sample, max_seconds=1))
    assert [clip.get("media.num_frames") for clip in clips] == [24, 12, 24, 24, 12]
    rest = [outcome for _, outcome in cut(sample, max_seconds=1, min_seconds=0.6).children]
    assert sum(isinstance(outcome, Dropped) for outcome in rest) == 2


def test_copying_takes_key_frames_and_says_where_there_is_none() -> None:
    sample = detected(videos.encode(videos.draw(videos.THREE_SHOTS), key_every=36))
    outcomes = [outcome for _, outcome in cut(sample, mode="copy").children]
    assert [type(outcome) for outcome in outcomes] == [Kept, Kept, Kept]
    sample = detected(videos.encode(videos.draw(videos.THREE_SHOTS)))
    outcomes = [outcome for _, outcome in cut(sample, mode="copy").children]
    assert isinstance(outcomes[0], Kept)
    assert [outcome.reason for outcome in outcomes[1:]] == ["no-key-frame-inside"] * 2


def test_damage_fails_only_the_clips_that_it_touches() -> None:
    moving = videos.draw([videos.Shot(seconds=3, px_per_second=100, seed=1)], height=240, width=320)
    data = videos.damage(videos.encode(moving, key_every=24), 30, 31, 32)
    sample = sample_of(data).with_columns({"scenes.starts": [0.0, 1.0, 2.0], "scenes.ends": [1.0, 2.0, 3.0]})
    outcomes = [outcome for _, outcome in cut(sample).children]
    assert [type(outcome) for outcome in outcomes] == [Kept, Failed, Kept]
    assert outcomes[1].reason == "decode-error"
    assert "h264" in outcomes[1].detail


def frames_shown(clip: Sample) -> list[int]:
    seen: list[int] = []
    watchers = {0: lambda frame: seen.append(videos.number_in(frame.image))}
    decode_frames(clip.members["video"].blob, [FramesWanted(AllFrames())], watchers)
    return seen


@pytest.mark.parametrize("mode", ["exact", "copy"])
def test_a_torn_video_is_kept_up_to_its_end_where_it_is_so_set(mode: str) -> None:
    data = videos.numbered(96, container="matroska", key_every=12)
    torn = sample_of(data[: len(data) * 7 // 10], "mkv").with_columns(
        {"scenes.starts": [0.0, 1.0, 2.0, 3.0], "scenes.ends": [1.0, 2.0, 3.0, 4.0]}
    )
    with pytest.raises(DecodeError, match="ends at byte"):
        cut(torn, mode=mode)
    outcomes = [outcome for _, outcome in run_stage(CutClips(mode=mode, min_seconds=0.9), torn, Worker(on_corrupt="keep")).children]
    assert [type(outcome) for outcome in outcomes] == [Kept, Kept, Dropped, Dropped]
    assert frames_shown(outcomes[1].sample) == list(range(24, 48))
    assert {outcome.reason for outcome in outcomes[2:]} <= {"too-short", "no-frames-inside", "no-key-frame-inside"}


def test_a_damaged_video_is_kept_up_to_its_last_good_frame_where_it_is_so_set() -> None:
    sample = sample_of(videos.damaged())
    whole = run_stage(CutClips(), sample, Worker(on_corrupt="keep", threads=3)).children[0][1].sample
    seen: list[int] = []
    blob = sample.members["video"].blob
    decode_frames(blob, [FramesWanted(AllFrames(), colour="none")], {0: lambda f: seen.append(f.index)}, on_corrupt="keep")
    assert 0 < len(seen) < 96
    assert whole.get("media.num_frames") == len(seen)
    assert whole.get("clip.ends") == [pytest.approx(len(seen) / 24, abs=1e-3)]


def test_settings_reach_the_encoder() -> None:
    sample = sample_of(videos.three_shots())
    clip = clips_of(cut(sample, fps=12.0, short_side_px=60, keep_audio=True))[0]
    assert (clip.get("media.fps"), clip.get("media.height"), clip.get("media.width")) == (12.0, 60, 80)
    assert clip.get("media.num_audio_streams") == 1
    sizes = [clips_of(cut(sample, crf=crf))[0].get("media.bytes") for crf in (10, 40)]
    assert sizes[0] > 2 * sizes[1]


def test_key_frames_come_as_often_as_set() -> None:
    sample = sample_of(videos.moving(60, seconds=6))
    for settings, most in (({}, 1.0), ({"gop_seconds": 0.25}, 0.25), ({"gop_seconds": 100.0}, 6.0)):
        blob = clips_of(cut(sample, **settings))[0].members["video"].blob
        with av.open(blob.open()) as container:
            keys = [frame.time for frame in container.decode(video=0) if frame.key_frame]
        gaps = [after - before for before, after in pairwise([*keys, 6.0])]
        assert max(gaps) == pytest.approx(most, abs=1e-3)


def test_interlaced_and_hdr_sources_become_what_is_set() -> None:
    fields = sample_of(woven(8))
    assert fields.members
    shown = {how: clips_of(cut(fields, deinterlace=how))[0] for how in ("auto", "never")}
    assert not any(clip.get("media.interlaced") for clip in shown.values())
    images = {
        how: decode_frames(clip.members["video"].blob, [FramesWanted(Times((0.1,)))]).frames[0].images[0] for how, clip in shown.items()
    }
    assert combing(images["never"][..., 0]) > 20 > 5 > combing(images["auto"][..., 0])
    hdr = sample_of(hdr_video("smpte2084", np.linspace(0, 1, 8)))
    assert [clips_of(cut(hdr, tonemap=how))[0].get("media.hdr") for how in ("bt2390", "none")] == [False, True]


def test_threads_of_the_worker_are_the_encoders() -> None:
    sample = sample_of(videos.moving(50, height=240, width=320))
    one, two = (read_blob(clips_of(run_stage(CutClips(), sample, Worker(threads=threads)))[0].members["video"].blob) for threads in (1, 2))
    assert b"threads=1 " in one
    assert b"threads=2 " in two


def test_an_unknown_encoder_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="libx263"):
        cut(sample_of(videos.still()), encoder="libx263")


@pytest.mark.parametrize("settings", [{"mode": "copy", "fps": 8.0}, {"crf": 99}, {"fps": 0.0}, {"max_seconds": 0.0}, {"short_side_px": 1}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="cut_clips"):
        CutClips(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"crf": 99}, "crf is 99; expected 0 to 51, with libsvtav1 1 to 63"),
        ({"fps": 1.0e9}, "fps is 1000000000.0; expected above 0 and at most 1000"),
        ({"max_seconds": 1e-9}, "max_seconds is 1e-09; expected at least 0.01"),
        ({"max_beyond_seconds": -1.0}, "max_beyond_seconds is -1.0; expected at least 0"),
        ({"min_seconds": 3.0, "max_seconds": 2.0}, "min_seconds is 3, above max_seconds 2"),
        ({"mode": "copy", "crf": 3}, "crf is 3, which mode: copy does not look at; leave it out, or say mode: exact"),
        ({"mode": "copy", "gop_seconds": 0.5}, "gop_seconds is 0.5, which mode: copy does not look at"),
        ({"mode": "copy", "encoder": "libx265"}, "encoder is libx265, which mode: copy does not look at"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_with_what_came(settings: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        CutClips(**settings)
    assert str(caught.value).startswith(f"cut_clips: {said}")


def test_it_may_follow_probe_media_in_a_pass() -> None:
    available = check_pass("clips", [ProbeMedia(), DetectScenes(), CutClips()], Available.of({"video": "member", "source.path": "string"}))
    assert {"clip.starts", *MEDIA_COLUMNS} <= set(available.names)


@pytest.mark.parametrize("name", ["one-pixel.mkv", "one-frame.mp4", "zero-duration.mkv", "odd-size.mp4"])
def test_odd_files_have_a_clear_fate(name: str) -> None:
    outcome = cut(sample_of((videos.HOSTILE | videos.ORDINARY)[name]())).children[0][1]
    if name == "one-pixel.mkv":
        assert outcome == Failed("too-small", outcome.detail)
    else:
        assert isinstance(outcome, Kept)


def test_every_real_video_goes_through(shared: Path) -> None:
    paths = sorted(path for path in (shared / "videos").iterdir() if path.suffix != ".md")
    assert len(paths) == 24
    fates = {}
    for path in paths:
        try:
            sample = detected(path)
        except DecodeError as error:
            fates[path.name] = error.reason
            continue
        clips = clips_of(cut(sample, short_side_px=64))
        assert len(clips) == len(sample.record["scenes"]["starts"]), path.name
        assert sum(clip.get("media.num_frames") for clip in clips) == sample.get("media.num_frames"), path.name
        assert sum(clip.get("clip.seconds") for clip in clips) == pytest.approx(sample.get("media.seconds")), path.name
        for clip in clips:
            facts = (clip.get("media.codec"), clip.get("media.pixel_format"), clip.get("media.rotation"), clip.get("media.colour_range"))
            assert facts == ("h264", "yuv420p", 0, "limited"), path.name
            is_portrait = sample.get("media.height") > sample.get("media.width")
            assert (clip.get("media.height") > clip.get("media.width")) == is_portrait, path.name
        fates[path.name] = "kept"
    assert fates.pop("corrupted-after-start.mp4") == "decode-error"
    assert set(fates.values()) == {"kept"}
