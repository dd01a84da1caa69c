"""Fetching from a hub: the real client against a small server that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": b"weights of the vae",
    "old/config.json": b"{}",
    "old/pytorch_model.bin": b"weights in the old format",
    "transformer/huge.safetensors": b"never wanted",
    "model.safetensors": b"weights at the top",
    "head.pth": b"one file",
    "words/tokenizer.json": b"{}",
    "parts/model.safetensors.index.json": b'{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}',
    "parts/a.safetensors": b"one half",
    "parts/b.safetensors": b"the other",
}
ERRORS = {"no/such": (404, "RepoNotFound"), "is/gated": (403, "GatedRepo")}


class Hub(BaseHTTPRequestHandler):
    """Knows one repository, `own/er`, and counts what is downloaded."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        for repo, (status, code) in ERRORS.items():
            if path.startswith(f"api/models/{repo}"):
                return self.answer(status, b"{}", {"X-Error-Code": code})
        if path.startswith("api/models/down/"):
            return self.answer(503, b"{}", {})
        if path == "api/models/own/er/revision/none":
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path == "api/models/own/er" or path.startswith("api/models/own/er/revision/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            return self.answer(200, json.dumps({"id": "own/er", "sha": COMMIT, "siblings": siblings}).encode(), {})
        if path == f"api/models/own/er/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()} for name, data in FILES.items()
            ]
            return self.answer(200, json.dumps(entries).encode(), {})
        prefix = f"own/er/resolve/{COMMIT}/"
        if path.startswith(prefix) and (data := FILES.get(path.removeprefix(prefix))) is not None:
            if self.command == "GET":
                self.server.downloads.append(path.removeprefix(prefix))
            return self.answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT})
        return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.downloads = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(server: ThreadingHTTPServer, home: Path, code: str, offline: bool = False) -> str:
    """Run an expression in a process that takes the server for the hub; return what it prints, or the error."""
    script = (
        "from shardprep.models.weights import *\nfrom shardprep.errors import *\n"
        f"try: print({code})\nexcept ShardprepError as e: print(type(e).__name__ + ': ' + str(e))"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_a_folder_is_fetched_and_nothing_beside_it(hub, tmp_path):
    path = Path(ask(hub, tmp_path, "fetch('own/er/vae@v1')"))
    assert path.name == "vae"
    assert (path / "diffusion_pytorch_model.safetensors").read_bytes() == FILES["vae/diffusion_pytorch_model.safetensors"]
    assert sorted(hub.downloads) == ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]


def test_the_top_of_a_repository_is_fetched_without_its_folders(hub, tmp_path):
    assert (Path(ask(hub, tmp_path, "fetch('own/er')")) / "model.safetensors").is_file()
    assert hub.downloads == ["model.safetensors"]


def test_one_file_is_fetched(hub, tmp_path):
    assert Path(ask(hub, tmp_path, "fetch('own/er/head.pth')")).read_bytes() == b"one file"
    assert hub.downloads == ["head.pth"]


def test_weights_in_the_old_format_are_fetched_where_there_are_no_others(hub, tmp_path):
    assert (Path(ask(hub, tmp_path, "fetch('own/er/old')")) / "pytorch_model.bin").is_file()


def test_the_digest_is_the_commit_and_downloads_no_weights(hub, tmp_path):
    assert ask(hub, tmp_path, "digest_weights('own/er/vae@v1')") == COMMIT
    assert ask(hub, tmp_path, f"digest_weights('own/er/vae@{COMMIT}')") == COMMIT
    assert ask(hub, tmp_path, "describe('own/er/vae@v1')") == f"own/er/vae@{COMMIT[:12]}"
    assert not any(name.endswith(".safetensors") for name in hub.downloads)


def test_offline_the_cache_answers_and_the_server_is_not_asked(hub, tmp_path):
    online = ask(hub, tmp_path, "fetch('own/er/vae')")
    hub.downloads.clear()
    hub.shutdown()
    assert ask(hub, tmp_path, "fetch('own/er/vae')", offline=True) == online
    assert ask(hub, tmp_path, "digest_weights('own/er/vae')", offline=True) == COMMIT


@pytest.mark.parametrize(
    ("name", "offline", "words"),
    [
        ("no/such", False, "RecipeError: weights no/such@main: neither a local folder nor a public repository"),
        ("is/gated", False, "RecipeError: weights is/gated@main: gated; accept the terms"),
        ("own/er@none", False, "RecipeError: weights own/er@none: the repository has no such revision"),
        ("own/er/nothing", False, f"RecipeError: weights own/er: revision {COMMIT[:12]} holds no nothing"),
        ("own/er", True, "NotHere: weights own/er@main: not in the local cache, and HF_HUB_OFFLINE is set"),
        ("down/now", False, "Unavailable: weights down/now@main: the hub cannot be reached"),
    ],
)
def test_errors_say_what_to_do(hub, tmp_path, name, offline, words):
    assert ask(hub, tmp_path, f"fetch({name!r})", offline).startswith(words)


def test_a_hub_that_does_not_answer_is_no_sample_s_fault(hub, tmp_path):
    hub.shutdown()
    hub.server_close()
    assert ask(hub, tmp_path, "fetch('own/er')").startswith("Unavailable: weights own/er@main")
