"""A list of addresses on web servers: one that is dead, refuses or breaks off costs its own samples and no others."""

from __future__ import annotations

import functools
import http.server
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from shardprep.errors import SourceError, StoreError, Unavailable
from shardprep.executors.local import LocalExecutor
from shardprep.recipe.model import Recipe, RunSettings
from shardprep.sources.listing import list_source
from shardprep.sources.spec import SourceSpec
from tests.fates import fates


@dataclass
class WebServer:
    """A server on loopback that refuses some files, and answers for others only when it is asked what they are."""

    url: str = ""
    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, server: WebServer, *args: object, **named: object) -> None:
        self.of = server
        super().__init__(*args, **named)  # type: ignore[arg-type] # as the server calls it

    def send_head(self):  # type: ignore[no-untyped-def] # as the class above has it
        if self.path in self.of.refused:
            return self.send_error(403)
        if self.path in self.of.broken and self.command == "GET":
            return self.send_error(503)
        return super().send_head()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    folder = tmp_path / "web"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.mp4").write_bytes(b"video %d" % number)
    web = WebServer()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, web, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web.url = f"http://127.0.0.1:{server.server_port}"
        yield web
        server.shutdown()


@pytest.fixture
def dead() -> str:
    """The address of a server that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def recipe_of(tmp_path: Path, *urls: str) -> Recipe:
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(urls) + "\n")
    source = SourceSpec(list=str(tmp_path / "list.csv"), samples_per_shard=8)
    return Recipe(name="web", source=source, output=str(tmp_path / "out"), settings=RunSettings(workers=1, max_failed=100), steps=())


def reasons(tmp_path: Path) -> dict[str, str | None]:
    """Return why each source failed, None where it did not, by the last letter of its slug: its number."""
    return {key.rpartition("-")[0]: fate.reason for key, fate in fates(tmp_path / "out", "raw").items()}


def test_a_server_that_is_dead_refuses_or_breaks_off_costs_its_own_samples(
    tmp_path: Path, web: WebServer, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LocalExecutor.__init__.__kwdefaults__, "back_off_seconds", 0.02)
    web.refused.add("/1.mp4")
    web.broken.add("/2.mp4")
    recipe = recipe_of(tmp_path, *(f"{web.url}/{number}.mp4" for number in range(4)), f"{dead}/gone.mp4")
    run(recipe)
    assert reasons(tmp_path) == {"0": None, "1": "unreachable", "2": "unreadable", "3": None, "gone": "unreachable"}

    # Both come back: what had no version so far is taken in by itself, what has failed is asked for again by retry.
    web.refused.clear()
    web.broken.clear()
    [raw] = run(recipe, RunOptions(retry=True)).steps
    assert (raw.failed, raw.samples_out) == ({"unreachable": 1}, 4)
    assert reasons(tmp_path) == {"0": None, "1": None, "2": None, "3": None, "gone": "unreachable"}


def test_what_was_made_stays_while_its_server_is_away(tmp_path: Path, web: WebServer) -> None:
    recipe = recipe_of(tmp_path, *(f"{web.url}/{number}.mp4" for number in range(4)))
    run(recipe)
    web.refused.add("/1.mp4")
    [raw] = run(recipe).steps
    assert (raw.shards_made, raw.samples_out, raw.failed) == (0, 4, {})
    next((tmp_path / "out" / "raw").glob("0*.parquet")).unlink()
    [raw] = run(recipe).steps
    assert (raw.shards_made, raw.samples_out, raw.failed) == (1, 3, {"unreadable": 1}), "nothing is left of it to be used again"


def test_an_option_that_no_web_address_knows_is_said(tmp_path: Path, web: WebServer) -> None:
    recipe = recipe_of(tmp_path, f"{web.url}/0.mp4")
    wrong = replace(recipe, source=replace(recipe.source, storage_options={"nonsense": "x"}))
    with pytest.raises(
        StoreError, match=r"asking for .*/0\.mp4: storage_options hold what web addresses do not know \(.*nonsense.*\). Take it out"
    ):
        run(wrong)


def test_an_address_that_is_signed_anew_is_the_same_source(tmp_path: Path, web: WebServer) -> None:
    first = recipe_of(tmp_path, *(f"{web.url}/{number}.mp4?X-Amz-Signature=hush{number}" for number in range(4)))
    run(first)
    again = recipe_of(
        tmp_path, *(f"{web.url}/{number}.mp4?X-Amz-Signature=whisper{number}" for number in range(4)), f"{web.url}/gone.mp4?sig=hush"
    )
    [raw] = run(again).steps
    assert (raw.worked_on, raw.samples_out, raw.failed) == (1, 4, {"missing-file": 1})
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for path in (tmp_path / "out").rglob("*.parquet"):
        written += str(pq.read_table(path).to_pylist()).encode()
    assert b"source" in written
    # no hexadecimal letters, which digests are full of
    assert b"hush" not in written
    assert b"whisper" not in written
    twice = list_source(recipe_of(tmp_path, f"{web.url}/0.mp4?sig=1", f"{web.url}/0.mp4?sig=2").source)
    assert sorted(entry.failure.reason if entry.failure else "" for entry in twice) == ["", "duplicate-path"]


def test_a_row_that_names_a_file_again_stays_one_while_the_server_is_away(tmp_path: Path, web: WebServer) -> None:
    recipe = recipe_of(tmp_path, *(f"{web.url}/{number}.mp4" for number in (0, 1, 1)))
    [raw] = run(recipe).steps
    assert (raw.samples_out, raw.failed) == (2, {"duplicate-path": 1})
    web.refused.add("/1.mp4")
    # The second row is asked for again as any file whose version changed, and is what it was.
    [raw] = run(recipe).steps
    assert (raw.samples_out, raw.failed) == (2, {"duplicate-path": 1})


def test_tars_on_a_web_server(tmp_path: Path, web: WebServer, dead: str) -> None:
    with tarfile.open(tmp_path / "web" / "a.tar", "w") as tar:
        for name in ("one.mp4", "two.mp4"):
            tar.add(tmp_path / "web" / "0.mp4", name)
    entries = list_source(SourceSpec(shards=f"{web.url}/a.tar?X-Amz-Signature=hush"))
    assert [(entry.path, entry.members[0].size, entry.problem) for entry in entries] == [
        ("a.tar!one", 7, None),
        ("a.tar!two", 7, None),
    ]
    web.refused.add("/b.tar")
    with pytest.raises(SourceError, match=r"1 of 2 tars is not there, e\.g\. http://127\.0\.0\.1:\d+/b\.tar; check the names") as caught:
        list_source(SourceSpec(shards=(f"{web.url}/a.tar", f"{web.url}/b.tar?sig=hush")))
    assert "hush" not in str(caught.value)


def test_where_no_server_answers_nothing_is_blamed_on_the_samples(tmp_path: Path, dead: str) -> None:
    recipe = recipe_of(tmp_path, f"{dead}/a.mp4", f"{dead}/b.mp4")
    with pytest.raises(Unavailable, match=r"asking for http://127\.0\.0\.1:\d+/a\.mp4: the store does not answer"):
        list_source(recipe.source)
    with pytest.raises(Unavailable):
        run(recipe)
    assert not list((tmp_path / "out").rglob("*.parquet"))
