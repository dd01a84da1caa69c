"""An S3 server on loopback that counts what it is asked, refuses what it is told to, and breaks bodies off."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.moto_api._internal.models import moto_api_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "bucket"


@dataclass(frozen=True)
class Request:
    """One request, as the server got it."""

    method: str
    path: str
    """`/bucket/folder/name`."""
    query: str
    part: str
    """The range that was asked for."""


@dataclass
class Held:
    """Requests that wait for their answer."""

    reached: threading.Event = field(default_factory=threading.Event)
    """Set as soon as one waits."""
    let_go: threading.Event = field(default_factory=threading.Event)
    is_answered: bool = False

    def answer(self) -> None:
        """Answer what waits, and all that comes."""
        self.is_answered = True
        self.let_go.set()


@dataclass
class S3Server:
    """A server with one bucket; what a test sets holds from then on."""

    options: Mapping[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    refuse: Callable[[Request], str | None] = lambda request: None
    """Return S3's word for why a request is refused (`AccessDenied`), None where it is not."""
    short: Counter[str] = field(default_factory=Counter)
    """How often the body of an object (by path) comes with half of its bytes, its length as if that were all."""

    def reset(self) -> None:
        self.requests.clear()
        self.short.clear()
        self.refuse = lambda request: None

    def put(self, name: str, data: bytes, bucket: str = BUCKET) -> str:
        """Store an object and return its URL."""
        self.client().put_object(Bucket=bucket, Key=name, Body=data)
        return f"s3://{bucket}/{name}"

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of the objects."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def client(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.options["endpoint_url"], aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
        )

    @contextmanager
    def holding(self, picks: Callable[[Request], bool]) -> Iterator[Held]:
        """Keep requests that `picks` chooses without an answer while the context lasts; what waits at its end is refused."""
        held = Held()

        def hold(request: Request) -> str | None:
            if held.let_go.is_set() or not picks(request):
                return None
            held.reached.set()
            held.let_go.wait()
            return None if held.is_answered else "SlowDown"

        self.refuse = hold
        try:
            yield held
        finally:
            held.let_go.set()
            self.refuse = lambda request: None

    def answer(self, moto: Callable[..., Any], environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), environ.get("HTTP_RANGE", ""))
        self.requests.append(request)
        if code := self.refuse(request):
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused: {code}</Message></Error>".encode()
            start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [] if request.method == "HEAD" else [body]
        if request.method == "GET" and self.short[request.path] > 0:
            self.short[request.path] -= 1
            return _halved(moto, environ, start_response)
        return moto(environ, start_response)  # type: ignore[no-any-return] # moto has no types


def _halved(moto: Callable[..., Any], environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    told: list[Any] = []
    body = b"".join(moto(environ, lambda status, headers, *rest: told.extend((status, headers))))
    body = body[: len(body) // 2]
    status, headers = told
    start_response(status, [(name, str(len(body)) if name.lower() == "content-length" else value) for name, value in headers])
    return [body]


@contextmanager
def serving() -> Iterator[S3Server]:
    """Run a server while the context lasts; it starts with an empty bucket, whatever another server of this process holds."""
    server = S3Server()
    moto_api_backend.reset()
    moto = DomainDispatcherApplication(create_backend_app)
    http = make_server("127.0.0.1", 0, lambda environ, start: server.answer(moto, environ, start), threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    server.options = {"key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{http.server_port}"}
    try:
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
