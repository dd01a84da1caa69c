"""Sources that change while `raw` is made: what is kept is of one version, what changed fails as that, and the next run takes it in."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardprep import open_set
from shardprep.core.blob import read_blob
from shardprep.driver.run import run
from shardprep.recipe.model import Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from tests.fates import fates
from tests.s3_server import BUCKET, Held, S3Server, serving

ROOT = Path(__file__).parent.parent
NUM_SAMPLES = 24
STEPS = [{"all": {"select": "source.bytes >= 0"}}]
ROUNDS = 2
PAUSE_SECONDS = 0.004

Content = dict[str, tuple[int, int, str | None, int | None]]
PARTS = re.compile(rb"(\d{6}\.(?:\d\d)?)\1*(?:more\.\.\.)*")


def versioned(version: int, size: int) -> bytes:
    """Return bytes that say in each part which version they are of."""
    return (b"%06d." % version) * (size // 7 + 1)


class Folder:
    """Videos with captions and JSON beside them; one changes as a whole: nothing of two versions is ever there at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for number in range(NUM_SAMPLES):
            self.write(number, 1)

    source = "videos"

    @property
    def location(self) -> str:
        return str(self.folder)

    def write(self, number: int, version: int) -> None:
        stem = self.folder / f"v{number:02}"
        beside = {"txt": f"text of version {version}{'!' * (version % 50)}"} if number % 3 else {"json": json.dumps({"v": version})}
        for suffix in beside:
            stem.with_suffix(f".{suffix}").unlink(missing_ok=True)
        # Half of the time with the size that it had.
        put(stem.with_suffix(".mp4"), versioned(version, 200_000 + 7_000 * (version % 2)))
        for suffix, text in beside.items():
            put(stem.with_suffix(f".{suffix}"), text.encode())

    def change(self, version: int, dice: random.Random) -> None:
        number = dice.randrange(NUM_SAMPLES)
        if dice.random() < 0.1:
            (self.folder / f"v{number:02}.mp4").unlink(missing_ok=True)
        elif dice.random() < 0.2 and (video := self.folder / f"v{number:02}.mp4").exists():
            # in place: it is appended to
            with video.open("ab") as file:
                file.write(b"more...")
        else:
            self.write(number, version)


class Tars:
    """Two tars whose samples change their order from version to version, and keep their sizes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for number in range(2):
            self.write(number, 1)

    source = "shards"

    @property
    def location(self) -> str:
        return str(self.folder / "*.tar")

    def write(self, number: int, version: int) -> None:
        order = list(range(NUM_SAMPLES // 2))
        random.Random(version).shuffle(order)
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for key in order:
                for suffix, data in {
                    "cls": b"%06d.%02d" % (version, key),
                    "txt": b"text of version %d, %02d" % (version, key),
                    "bin": (b"%06d.%02d" % (version, key)) * 10_000,
                    "json": json.dumps({"v": version, "n": key}).encode(),
                }.items():
                    info = tarfile.TarInfo(f"{number}k{key:02}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        put(self.folder / f"{number}.tar", sink.getvalue())

    def change(self, version: int, dice: random.Random) -> None:
        self.write(dice.randrange(2), version)


def put(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    os.replace(new, path)


def recipe_of(files: Folder | Tars, output: Path) -> dict[str, Any]:
    source = {files.source: files.location, "samples_per_shard": 2}
    return {"name": "changing", "source": source, "output": str(output), "workers": 2, "max_failed": 1000, "steps": STEPS}


def command(place: Path, recipe: dict[str, Any]) -> list[str]:
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return [sys.executable, "-m", "shardprep.cli", "run", str(place / "recipe.yaml")]


def run_while_it_changes(files: Folder | Tars, place: Path, recipe: dict[str, Any], seed: int) -> None:
    """Run the recipe as a program of its own; from its start, or from the end of its listing on, the sources change until it ends."""
    dice = random.Random(seed)
    ended = threading.Event()

    def go_on() -> None:
        version = 1000 * (seed + 1)
        while not ended.wait(PAUSE_SECONDS * dice.random() * 4):
            version += 1
            files.change(version, dice)

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command(place, recipe), env=environment, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        changing = threading.Thread(target=go_on)
        said = []
        if seed % 2:
            changing.start()
        for line in program.stderr:
            said.append(line)
            if line.startswith("raw: ") and not changing.ident:
                changing.start()
        code = program.wait()
        ended.set()
        if changing.ident:
            changing.join()
    assert changing.ident, said
    assert code in (0, 1), "".join(said)
    assert "Traceback" not in "".join(said)


def content(output: Path) -> Content:
    """Return the version, the number of bytes, the caption and the metadata of every kept sample: members whole, and of one version."""
    found: Content = {}
    for sample in open_set(str(output / "raw")):
        parts = set()
        for member in sample.members.values():
            data = read_blob(member.blob)
            same = PARTS.fullmatch(data)
            assert same is not None, f"{sample.key}.{member.suffix} is of two versions, or cut"
            parts.add(same[1])
        assert len(parts) == 1, (sample.key, parts)
        number = sum(member.blob.size for member in sample.members.values())
        found[sample.key] = (int(parts.pop()[:6]), number, sample.get("caption.text"), sample.get("meta.v"))
    return found


def check(found: Content) -> None:
    """Captions and metadata are of the version of the bytes."""
    for key, (version, _, text, noted) in found.items():
        if text is not None:
            said = re.fullmatch(r"text of version (\d+)(!*|, \d\d)", text)
            assert said is not None, (key, text)
            assert int(said[1]) == version, (key, version, text)
            assert "," in text or len(said[2]) == version % 50, (key, text)
        assert noted in (None, version), (key, version, noted)


@pytest.mark.parametrize("kind", [Folder, Tars])
def test_what_changes_while_it_is_read_is_never_mixed_and_the_next_run_takes_it_in(
    kind: Callable[[Path], Folder | Tars], tmp_path: Path
) -> None:
    files, output = kind(tmp_path / "files"), tmp_path / "out"
    reasons: Counter[str | None] = Counter()
    for seed in range(ROUNDS):
        run_while_it_changes(files, tmp_path, recipe_of(files, output), seed)
        check(content(output))
        reasons.update(fate.reason for fate in fates(output, "raw").values())
    assert reasons.keys() <= {None, "source-changed"}
    assert reasons["source-changed"], "nothing changed at a moment that mattered"

    subprocess.run(
        command(tmp_path, recipe_of(files, output)), env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True
    )
    fresh = tmp_path / "fresh"
    subprocess.run(command(tmp_path, recipe_of(files, fresh)), env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    assert content(output) == content(fresh)
    assert all(fate.fate == "kept" for fate in fates(output, "raw").values())
    check(content(output))


@pytest.mark.parametrize("name", ["a.mp4", "a.txt"])
def test_an_object_that_is_replaced_while_it_is_read_fails_its_sample(name: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with serving() as s3:
        for stem in "ab":
            s3.put(f"v/{stem}.mp4", b"red  video")
            s3.put(f"v/{stem}.txt", b"red  text")
        source = SourceSpec(videos=f"s3://{BUCKET}/v", storage_options=s3.options)
        recipe = Recipe(name="s3", source=source, output=str(output), settings=RunSettings(workers=1, max_failed=10), steps=())
        with (
            s3.holding(lambda request: request.method == "GET" and request.path.endswith(f"/{name}")) as held,
            ThreadPoolExecutor(1) as aside,
        ):
            replaced = aside.submit(replace_objects, s3, held)
            [raw] = run(recipe).steps
            replaced.result()
        assert (raw.samples_out, raw.failed) == (1, {"source-changed": 1})
        [raw] = run(recipe).steps
        assert (raw.samples_out, raw.failed) == (2, {})
    found = {sample.get("caption.text"): read_blob(sample.members["video"].blob) for sample in open_set(str(output / "raw"))}
    assert found == {"red  text": b"red  video", "blue text": b"blue video"}


def replace_objects(s3: S3Server, held: Held) -> None:
    """Put a blue video with a blue text of equal sizes in the place of the red ones, while a request for one of them waits."""
    assert held.reached.wait(120)
    s3.put("v/a.mp4", b"blue video")
    s3.put("v/a.txt", b"blue text")
    held.answer()
