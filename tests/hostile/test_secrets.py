"""No credential leaves a run: not on its output, in its files, or in the arguments of its workers."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.hostile.commands import Place
from tests.s3_server import BUCKET, S3Server, serving

# No hexadecimal letters, which digests are full of.
CANARIES = ("HUSH-KEY-ONE", "HUSH-SECRET-TWO", "HUSH-WORD-THREE", "HUSH-SIGN-FOUR")
KEY, SECRET, WORD, SIGN = CANARIES


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with serving() as started:
        for number in range(3):
            started.put(f"sources/{number}.mp4", b"video %d" % number)
        yield started


class Refusing(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        if self.path.startswith("/1.mp4"):
            self.send_error(403)
        else:
            super().do_GET()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    for number in range(3):
        (tmp_path / "web" / f"{number}.mp4").write_bytes(b"video %d" % number)
    handler = functools.partial(Refusing, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def ran(place: Place, *arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it said, and what its descendants were called with."""
    command = [sys.executable, "-m", "shardprep.cli", *arguments]
    environment = {**os.environ, "TMPDIR": str(place.tmp)}
    process = subprocess.Popen(command, cwd=place.work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen: set[str] = set()

    def watch() -> None:
        while process.poll() is None:
            # Between fork and exec a child has the arguments of its parent, which the user wrote.
            seen.update(arguments for arguments in _descendants(process.pid) if arguments.rstrip("\0").split("\0") != command)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = process.communicate(timeout=120)[0].decode()
    watcher.join()
    return process.returncode, said + "".join(seen)


def _descendants(pid: int) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == pid:
                yield (path / "cmdline").read_text()
                yield from _descendants(int(path.name))
        except OSError:
            continue


def written(place: Place) -> str:
    """Return all that lies in the output, also what is compressed."""
    found = []
    for path in place.out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found.append(data.decode("latin-1"))
            if path.suffix == ".z":  # behind its sha256
                found.append(zlib.decompress(data[32:]).decode())
            if path.suffix == ".parquet":
                found += [str(pq.read_table(path).to_pylist()), str(pq.read_schema(path).metadata)]
    assert len(found) > 2
    return "".join(found)


def check(text: str) -> None:
    assert [canary for canary in CANARIES if canary in text] == [], text[-3000:]


@pytest.mark.parametrize("log", ["lines", "json"])
def test_options_of_a_store(tmp_path: Path, s3: S3Server, log: str) -> None:
    s3.reset()
    place = Place.make(tmp_path)
    place.out.mkdir()
    rows = [*(f"s3://{BUCKET}/sources/{number}.mp4" for number in range(3)), f"s3://{KEY}:{SECRET}@{BUCKET}/sources/0.mp4"]
    (place.work / "list.csv").write_text(
        "path,thumb\n" + "".join(f"{row},https://u:{WORD}@host/a.jpg?X-Amz-Signature={SIGN}\n" for row in rows)
    )
    recipe = place.recipe({"list": "list.csv"}, [{"facts": ["probe_media"]}], workers=1)
    options = {"key": KEY, "secret": SECRET, "endpoint_url": s3.options["endpoint_url"], "client_kwargs": {"aws_session_token": WORD}}
    changes = [f"source.storage_options.{name}={json.dumps(value)}" for name, value in options.items() if name != "client_kwargs"]
    changes.append(f"source.storage_options.client_kwargs={json.dumps(options['client_kwargs'])}")
    s3.refuse = lambda request: "AccessDenied" if request.path.endswith("2.mp4") else None
    code, said = ran(
        place, "run", str(recipe), "--max-failed", "100", "--log", log, *(word for change in changes for word in ("--set", change))
    )
    assert "shardprep retry" in said, said
    assert "credentials-in-address" in written(place)
    check(said + written(place))
    for command in (
        ("table", f"{place.out}/raw", "--fate", "failed"),
        ("show", "0", "--output", str(place.out)),
        ("verify", str(place.out)),
    ):
        check(ran(place, *command)[1])
    s3.refuse = lambda request: "InvalidAccessKeyId"
    code, said = ran(place, "run", str(recipe), "--debug", "--output", str(tmp_path / "other"), *(w for c in changes for w in ("--set", c)))
    assert code == 1
    check(said)


def test_addresses_on_web_servers(tmp_path: Path, web: str) -> None:
    place = Place.make(tmp_path)
    rows = [f"http://user:{WORD}@{web}/{number}.mp4?X-Amz-Signature={SIGN}&id=7" for number in range(3)]
    (place.work / "list.csv").write_text("path\n" + "\n".join(rows) + "\n")
    recipe = place.recipe({"list": "list.csv"}, [{"facts": ["probe_media"]}], workers=1)
    _, said = ran(place, "run", str(recipe), "--max-failed", "100")
    assert "unreadable" in said
    check(said + written(place))


QUERIES = (
    f"key={KEY}&id=7",
    f"auth={SECRET}&k%65y={KEY}&session_id={WORD}&sig={SIGN}",
    f"id=7#access_token={SIGN}&key={KEY}",
    f"back=http%3A%2F%2Fhost%2Fx.mp4%3Ftoken%3D{WORD}",
    f"back=http://host/x.mp4?key={WORD}",
)


def test_parameters_of_addresses(tmp_path: Path, web: str) -> None:
    place = Place.make(tmp_path)
    addresses = [f"http://{web}/{name}.mp4?{query}" for query in QUERIES for name in ("0", "1", "gone")]
    (place.work / "list.jsonl").write_text("".join(json.dumps({"path": one, "thumb": one}) + "\n" for one in addresses))
    recipe = place.recipe({"list": "list.jsonl"}, [{"facts": ["probe_media"]}], workers=1)
    code, said = ran(place, "run", str(recipe), "--max-failed", "100")
    assert code == 1, "none of them is a video"
    assert "unreadable" in said
    check(said + written(place))
    assert "duplicate-path" not in written(place), "each address is a source of its own"
    check(ran(place, "table", f"{place.out}/raw", "--fate", "failed")[1])
    check(ran(place, "plan", str(recipe), "--input", f"http://{web}/{{0,gone}}.mp4?{QUERIES[1]}")[1])
    check(ran(place, "plan", str(recipe), "--input", f"http://{web}/gone.mp4?{QUERIES[0]}")[1])


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "recipe.yaml", "--set", f"source.storage_options.secret=[{SECRET}, 1e999]"),
        ("run", "recipe.yaml", "--set", f"source.storage_optoins.secret={SECRET}"),
        ("run", "recipe.yaml", "--set", f"storage_options={SECRET}"),
        ("plan", "recipe.yaml", "--input", f"s3://{KEY}:{SECRET}@{BUCKET}/x"),
        ("run", "recipe.yaml", "--output", f"s3://{KEY}:{SECRET}@{BUCKET}/x"),
        ("status", f"s3://{KEY}:{SECRET}@{BUCKET}/x"),
        ("table", f"https://user:{WORD}@127.0.0.1:9/x?sig={SIGN}"),
    ],
    ids=str,
)
def test_wrong_commands(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    place = Place.make(tmp_path)
    place.recipe({"videos": str(place.source)}, [{"facts": ["probe_media"]}])
    code, said = ran(place, *arguments)
    assert code in (1, 2)
    assert "Traceback" not in said
    check(said)
