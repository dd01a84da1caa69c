"""An address without what signs it: the same file stays the same, and no credential is written down."""

from __future__ import annotations

import hashlib

import pytest

from shardprep.redaction import redact, remember_secrets, unsigned, unsigned_text
from shardprep.shards.refusal import refusals
from shardprep.shards.store import StoreError

HIDDEN = "*" + hashlib.sha256(b"5ec").hexdigest()[:16]
SIGNED = {
    "https://b.s3.amazonaws.com/v/a.mp4?X-Amz-Algorithm=AWS4&X-Amz-Credential=K%2F2&X-Amz-Signature=5ec&x-id=GetObject": (
        "https://b.s3.amazonaws.com/v/a.mp4?x-id=GetObject"
    ),
    "https://a.blob.core.windows.net/c/a.mp4?sv=2024&se=2026&sr=b&sp=r&sig=5ec%3D": "https://a.blob.core.windows.net/c/a.mp4",
    "https://storage.googleapis.com/b/a.mp4?GoogleAccessId=x&Expires=1&Signature=5ec": "https://storage.googleapis.com/b/a.mp4",
    "https://d.cloudfront.net/a.mp4?Policy=x&Signature=5ec&Key-Pair-Id=K": "https://d.cloudfront.net/a.mp4",
    "https://host/a.mp4?id=7&api_key=5ec&password=5ec&APIKEY=5ec": "https://host/a.mp4?id=7",
    "https://user:5ec@host/a.mp4?id=7&token=5ec": "https://host/a.mp4?id=7",
    "https://host/get?video=a@b.mp4&part=2": "https://host/get?video=a@b.mp4&part=2",
    "https://host/a.mp4?auth=5ec&session_id=5ec&jwt=5ec&sign=5ec&q-sign-time=5ec&x-oss-x=5ec": "https://host/a.mp4",
    "https://host/a.mp4?id=7&k%65y=5ec": f"https://host/a.mp4?id=7&k%65y={HIDDEN}",
    "https://host/get?key=videos/a.mp4&videoKey=5ec": f"https://host/get?key=videos/a.mp4&videoKey={HIDDEN}",
    "https://host/get?key=5ec#t=10&token=5ec": f"https://host/get?key={HIDDEN}#t=10",
    "https://host/get?file=https://h/a.mp4?token=5ec&id=1": "https://host/get?file=https://h/a.mp4&id=1",
    "https://host/get?file=https%3A%2F%2Fh%2Fa.mp4%3Ftoken%3D5ec&id=1": "https://host/get?file=https%3A%2F%2Fh%2Fa.mp4&id=1",
    "https://host/get?file=https%3A%2F%2Fh%2Fa.mp4&id=1": "https://host/get?file=https%3A%2F%2Fh%2Fa.mp4&id=1",
    "https://host/v/a.mp4;jsessionid=5ec5EC.node1?id=7": "https://host/v/a.mp4?id=7",
    "https://host/v;JSESSIONID=5ec/a.mp4;part=2;token=5ec#t=10": "https://host/v/a.mp4;part=2#t=10",
    "https://host/v/a.mp4%3Bjsessionid%3D5ec?id=7": "https://host/v/a.mp4?id=7",
    "https://host/v;shareKey=5ec/a.mp4": f"https://host/v;shareKey={HIDDEN}/a.mp4",
    "https://host/v/key=5/a;b=c.mp4;d": "https://host/v/key=5/a;b=c.mp4;d",
    "http://host/a.mp4?": "http://host/a.mp4",
    "http://host/a.mp4": "http://host/a.mp4",
}


@pytest.mark.parametrize("address", SIGNED)
def test_only_what_signs_an_address_goes(address: str) -> None:
    assert unsigned(address) == SIGNED[address]
    assert unsigned(unsigned(address)) == unsigned(address)
    assert unsigned_text(f"reading '{address}' and {address} again") == f"reading '{SIGNED[address]}' and {SIGNED[address]} again"


def test_a_parameter_that_may_be_a_secret_or_name_the_file_is_told_apart_by_its_digest() -> None:
    one, other = (unsigned(f"https://host/get?key={value}&part=1") for value in ("one-file", "other-file"))
    assert one != other
    assert "file" not in one + other
    assert redact("asking for https://host/get?key=one-file: no answer") == f"asking for {one.removesuffix('&part=1')}: no answer"


def test_a_refusal_names_no_credential() -> None:
    url = "https://user:5ec@host/a.mp4?X-Amz-Signature=5ec"
    with pytest.raises(StoreError) as caught, refusals(f"reading {url}"):
        raise PermissionError(13, f"403 for {url}")
    assert "5ec" not in str(caught.value)
    assert "reading https://host/a.mp4: permission denied" in str(caught.value)


def test_other_text_stays_as_it_is() -> None:
    text = "out/what?token=1 s3://bucket/a?sig=2 a@b.mp4"
    assert unsigned_text(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("s3://AKIAX:5ec@bucket/a.mp4: not found", "s3://***@bucket/a.mp4: not found"),
        ("--set source.storage_options.secret=5ec --until clips", "--set source.storage_options.secret=*** --until clips"),
        ("--set 'storage_options={key: a, secret: 5ec}'", "--set 'storage_options=***'"),
        (
            "--set storage_options.client_kwargs.aws_secret_access_key='5 ec'",
            "--set storage_options.client_kwargs.aws_secret_access_key=***",
        ),
        ("--set storage_options.endpoint_url=http://host:9000", "--set storage_options.endpoint_url=http://host:9000"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("wrote s3://bucket/a@b:c.mp4", "wrote s3://bucket/a@b:c.mp4"),
    ],
)
def test_what_leaves_the_program_has_no_secret(text: str, redacted: str) -> None:
    assert redact(text) == redacted
    assert redact(redacted) == redacted


def test_credentials_of_a_store_are_hidden_wherever_they_come_up() -> None:
    remember_secrets(
        {"key": "AKIA-ENTITY", "client_kwargs": {"headers": {"Authorization": "Bearer 5ec5ec"}}, "endpoint_url": "http://h:9000"}
    )
    assert redact("the key AKIA-ENTITY is unknown at http://h:9000 (Bearer 5ec5ec)") == "the key *** is unknown at http://h:9000 (***)"
    assert str(StoreError("no AKIA-ENTITY here")) == "no *** here"
