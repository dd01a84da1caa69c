"""What can be known before a run is said before it, with exit code 2 and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shardprep.cli.commands import app
from shardprep.stages.embed_clip import EmbedClip
from shardprep.stages.embed_t5 import EmbedT5
from shardprep.stages.encode_vae import EncodeVae
from shardprep.stages.score_aesthetic import ScoreAesthetic
from tests.plugins.distribution import shardprep

RECIPE = "source: {{videos: videos}}\nsteps:\n  - clips: [cut_clips: {settings}]\n"


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{preset: bogus}", "preset 'bogus': libx264 has the presets ultrafast"),
        (
            "{encoder: nosuch}",
            "cut_clips: encoder 'nosuch' is none that clips can be made with; there is libx264, libx265, libsvtav1, h264_nvenc",
        ),
        ("{encoder: libsvtav1, preset: veryfast}", "libsvtav1 has the presets 13"),
        ("{encoder: mpeg4}", "MPEG-4 part 2 takes no times finer than 1/65535 s"),
        ("{crf: 60}", "with libx264 it is 0 to 51"),
        ("{encoder: h264_nvenc}", "cut_clips: encoder h264_nvenc cannot be opened on this machine: it needs an NVIDIA GPU"),
    ],
)
def test_an_encoder_that_cannot_be_is_said(tmp_path: Path, command: str, settings: str, words: str) -> None:
    if "nvenc" in settings and os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a GPU")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    (tmp_path / "r.yaml").write_text(RECIPE.format(settings=settings))
    result = CliRunner().invoke(
        app, [command, str(tmp_path / "r.yaml"), "--input", str(tmp_path / "videos"), "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert f"{tmp_path / 'r.yaml'}:3: " in result.stderr
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_tiny_models_may_be_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe is read before they are made."""
    monkeypatch.setenv("SHARDPREP_CACHE", str(tmp_path / "cache"))
    EmbedT5(model="tiny:t5").check()
    EmbedClip(model="tiny:clip").check()
    EncodeVae(model="tiny:wan-vae").check()
    ScoreAesthetic(model="tiny:aesthetic").check()


MODELS = """source: {{videos: videos}}
output: out
workers: 1
steps:
  - features: [{stage}: {settings}]
"""


EMPTY = "\x02" + "\0" * 7 + "{}"
"""A safetensors file without tensors."""


def model_folder(place: Path, files: dict[str, str]) -> None:
    (place / "model").mkdir()
    for name, text in files.items():
        (place / "model" / name).write_text(text)


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("stage", "settings", "files", "words"),
    [
        ("encode_vae", "{model: ./model}", {"a.safetensors": "x"}, "no config.json; expected the diffusers folder of a VAE"),
        ("encode_vae", "{model: ./model}", {"config.json": "{", "a.safetensors": "x"}, "config.json is no JSON"),
        (
            "encode_vae",
            "{model: ./model}",
            {"config.json": '{"_class_name": "AutoencoderKL"}'},
            "holds AutoencoderKL, expected AutoencoderKLWan",
        ),
        ("encode_vae", "{model: ./model}", {"config.json": '{"_class_name": "AutoencoderKLWan"}'}, "holds no weights file (.safetensors)"),
        ("embed_t5", "{model: ./model}", {"model.safetensors": "x"}, "holds no config.json"),
        (
            "embed_t5",
            "{model: ./model}",
            {"config.json": '{"model_type": "bert"}', "m.safetensors": "x"},
            "a bert model, expected t5 or umt5",
        ),
        ("embed_t5", "{model: ./model}", {"config.json": '{"model_type": "t5"}'}, "holds no weights file (.safetensors, .bin)"),
        (
            "embed_t5",
            "{model: ./model}",
            {"config.json": '{"model_type": "t5"}', "i.index.json": '{"weight_map": {"a": "m2.safetensors"}}', "m1.safetensors": EMPTY},
            "lacks m2.safetensors, which its index names",
        ),
        ("embed_t5", "{model: ./model}", {"config.json": '{"model_type": "t5"}', "m.safetensors": EMPTY}, "holds none of tokenizer.json"),
        ("embed_t5", "{model: ./model}", {"config.json": '{"model_type": "t5"}', "m.safetensors": ""}, "m.safetensors is empty"),
        ("embed_clip", "{model: ./model}", {"model.safetensors": "x"}, "holds no open_clip_config.json"),
        ("embed_clip", "{model: ./model}", {"open_clip_config.json": "{}"}, "holds no weights file"),
        ("embed_clip", "{model: ViT-L-41}", {}, "open_clip knows no architecture 'ViT-L-41'; did you mean "),
        ("embed_clip", "{pretrained: opanai}", {}, "open_clip has no such tag for ViT-L-14; there are openai"),
        ("embed_clip", "{pretrained: ./gone.pt}", {}, "pretrained './gone.pt': no such weights file"),
        ("score_aesthetic", "{model: ./model}", {}, "0 weights files in the folder, expected one"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, stage: str, settings: str, files: dict[str, str], words: str
) -> None:
    pytest.importorskip("open_clip")
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path, files)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    text = MODELS.format(stage=stage, settings=settings)
    if stage == "score_aesthetic":
        text = text.replace("[score", "[embed_clip: {pretrained: null}, score")
    if stage == "embed_t5":
        text = text.replace("{model", "{column: source.name, model")
    (tmp_path / "r.yaml").write_text(text)
    result = CliRunner().invoke(app, [command, "r.yaml"])
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert "r.yaml:5: " in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{list: gone.csv}", "source.list 'gone.csv': there is no file"),
        ("{list: empty.csv}", "is empty; its first line names the columns"),
        ("{list: headed.csv}", "has no rows"),
        ("gone", "there is no such folder; check the path, or give --input"),
        ("empty", "the folder holds no files"),
        ("headed.csv", "a list is written as source: {list: "),
        ("'empty/*.mp4'", "the folder holds no files"),
        ("'*.mkv'", "nothing matches; there are"),
        ("{shards: gone}", "there is no .tar file; check the path, or give --input"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_source_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "headed.csv").write_text("path\n")
    (tmp_path / "r.yaml").write_text(f"name: r\nsource: {source}\nsteps:\n  - facts: [probe_media]\n")
    result = CliRunner().invoke(app, [command, "r.yaml", "--output", "out"])
    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_tmp_that_is_no_folder_is_one_message_with_its_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"x")
    (tmp_path / "file").write_text("kept")
    (tmp_path / "r.yaml").write_text("source: videos\noutput: out\ntmp: file\nsteps:\n  - a: [probe_media]\n")
    done = shardprep(command, "r.yaml", env=dict(os.environ), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: r.yaml:3: tmp is file, which is no folder to write in (")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "r.yaml", "videos"]
