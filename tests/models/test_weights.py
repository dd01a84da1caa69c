"""Names of weights: where they lead, which digest they have and how they are described."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from shardprep.errors import RecipeError
from shardprep.models.weights import HubWeights, OpenClipTag, cache_folder, describe, digest_weights, fetch, resolve, tiny_folder_name
from shardprep.testing.models import make_tiny_models


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHARDPREP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "model.safetensors").write_bytes(b"12345678")
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", HubWeights("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "", None)),
        ("Wan-AI/Wan2.1/vae@0fad780", HubWeights("Wan-AI/Wan2.1", "vae", "0fad780")),
        ("a/b/sub/head.pth@refs/pr/4", HubWeights("a/b", "sub/head.pth", "refs/pr/4")),
        ("open_clip:ViT-L-14/openai", OpenClipTag("ViT-L-14", "openai")),
    ],
)
def test_names_that_are_not_here(name, expected):
    assert resolve(name) == expected


@pytest.mark.parametrize("name", ["nothing", "./nothing", "/no/such/folder", "~/no/such", "a/b@", "a b/c", ""])
def test_a_name_that_leads_nowhere_is_refused(name):
    with pytest.raises(RecipeError, match="no such path, and no hub id"):
        resolve(name)


def test_a_missing_tiny_model_names_the_command_and_an_unknown_one_the_known():
    with pytest.raises(RecipeError, match="`shardprep models tiny`"):
        resolve("tiny:clip")
    with pytest.raises(RecipeError, match="there are clip, aesthetic, t5, wan-vae"):
        resolve("tiny:klip")


def test_the_digest_of_a_folder_is_that_of_its_files(folder, tmp_path):
    before = digest_weights(str(folder))
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    (moved / ".cache").write_text("hidden files are nothing")
    assert digest_weights(str(moved)) == before
    (moved / "config.json").write_text('{"a": 1}')
    changed = digest_weights(str(moved))
    assert changed != before
    (moved / "sub" / "model.safetensors").rename(moved / "sub" / "other.safetensors")
    assert digest_weights(str(moved)) not in (before, changed)


def test_the_digest_of_a_file_is_its_sha256(folder):
    assert digest_weights(str(folder / "sub" / "model.safetensors")) == hashlib.sha256(b"12345678").hexdigest()


def test_a_file_is_read_once_while_nothing_is_written_to_it(folder, own_cache):
    file = folder / "sub" / "model.safetensors"
    digest_weights(str(file))
    (note,) = (own_cache / "digests").iterdir()
    note.write_text("ab" * 32)
    assert digest_weights(str(file)) == "ab" * 32


def test_a_byte_that_changed_under_a_restored_mtime_is_noticed(folder):
    file = folder / "sub" / "model.safetensors"
    stat = file.stat()
    digest_weights(str(file))
    file.write_bytes(b"87654321")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest_weights(str(file)) == hashlib.sha256(b"87654321").hexdigest()


def test_a_file_put_in_place_of_another_is_noticed(folder):
    file, stat = folder / "config.json", (folder / "config.json").stat()
    digest_weights(str(file))
    (folder / "new").write_text("[]")
    os.utime(folder / "new", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "new").replace(file)
    assert digest_weights(str(file)) == hashlib.sha256(b"[]").hexdigest()


def test_what_lies_behind_links_counts(folder, tmp_path):
    """A hub cache links files, `pipe/vae` may be a linked folder: the loader opens both."""
    plain = digest_weights(str(folder))
    linked = tmp_path / "pipe"
    linked.mkdir()
    (linked / "sub").symlink_to(folder / "sub", target_is_directory=True)
    (linked / "config.json").symlink_to(folder / "config.json")
    assert digest_weights(str(linked)) == plain
    (folder / "sub" / "model.safetensors").write_bytes(b"other")
    assert digest_weights(str(linked)) == digest_weights(str(folder)) != plain


def test_links_in_a_circle_end(folder):
    before = digest_weights(str(folder))
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "self").symlink_to(folder / "self")
    assert digest_weights(str(folder)) == before


def test_a_damaged_note_is_ignored_and_a_cache_that_cannot_be_written_does_no_harm(folder, own_cache):
    file = folder / "config.json"
    before = digest_weights(str(file))
    (note,) = (own_cache / "digests").iterdir()
    note.write_text("cut sho")
    assert digest_weights(str(file)) == before
    note.unlink()
    note.parent.rmdir()
    note.parent.write_text("a file where the folder should be")
    assert digest_weights(str(file)) == before


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="holds no files"):
        digest_weights(str(tmp_path))


def test_descriptions_say_what_and_never_where(folder):
    text = describe(str(folder))
    assert text == f"my-model@{digest_weights(str(folder))[:12]}"
    assert describe("open_clip:ViT-L-14/openai") == "ViT-L-14/openai"
    (folder / "RANDOM_MODEL").write_text("")
    assert describe(str(folder)).endswith(" RANDOM MODEL")
    assert describe(str(folder / "config.json")).endswith(" RANDOM MODEL")


def test_tiny_models_are_found_in_the_cache_and_called_random():
    (cache_folder() / "tiny" / tiny_folder_name("t5")).mkdir(parents=True)
    (fetch("tiny:t5") / "config.json").write_text("{}")
    (fetch("tiny:t5") / "RANDOM_MODEL").write_text("")
    assert describe("tiny:t5") == f"tiny:t5@{digest_weights('tiny:t5')[:12]} RANDOM MODEL"


def test_what_exists_already_is_left_alone(own_cache):
    pytest.importorskip("torch")
    for name in ("clip", "aesthetic", "t5", "wan-vae"):
        (own_cache / "tiny" / tiny_folder_name(name)).mkdir(parents=True)
    assert all(not any(folder.iterdir()) for folder in make_tiny_models().values())


def test_open_clip_tags_have_no_folder():
    with pytest.raises(RecipeError, match="only embed_clip"):
        fetch("open_clip:ViT-L-14/openai")
