"""Paths and URLs, joined and split."""

from __future__ import annotations

import os

import pytest

from shardprep.sources.places import absolute, common_folder, join, relative, split_url, suffix_of


@pytest.mark.parametrize(
    ("folder", "name", "place"),
    [
        ("/data", "a.mp4", "/data/a.mp4"),
        ("/data", "./x/../a.mp4", "/data/a.mp4"),
        ("/data", "../b/a.mp4", "/b/a.mp4"),
        ("/data", "/other/a.mp4", "/other/a.mp4"),
        ("/data", "//other//a.mp4", "/other/a.mp4"),
        ("/data", "file:///other/a.mp4", "/other/a.mp4"),
        ("/data", "s3://b/a.mp4", "s3://b/a.mp4"),
        ("s3://b/x", "y/./a.mp4", "s3://b/x/y/a.mp4"),
        ("s3://b/x", "../../../../a.mp4", "s3://a.mp4"),
        ("memory://x", "a.mp4", "memory://x/a.mp4"),
        ("/data", "C:a.mp4", "/data/C:a.mp4"),
    ],
)
def test_join(folder: str, name: str, place: str) -> None:
    assert join(folder, name) == place


def test_relative_and_split() -> None:
    assert relative("/data/x/a.mp4", "/data") == "x/a.mp4"
    assert relative("/database/a.mp4", "/data") == "/database/a.mp4"
    assert relative("/a.mp4", "/") == "a.mp4"
    assert split_url("s3://b/x/a.mp4") == ("s3://b/x", "a.mp4")
    assert split_url("/a.mp4") == ("/", "a.mp4")
    assert absolute("x") == os.path.abspath("x")
    assert absolute("s3://b/x/") == "s3://b/x"


def test_common_folder() -> None:
    assert common_folder(["/d/x/y", "/d/x/z", "/d/xy"]) == "/d"
    assert common_folder(["/d", "/e"]) == "/"
    assert common_folder(["s3://b/x", "s3://b/y"]) == "s3://b"
    assert common_folder(["s3://b/x", "/b/x"]) == ""


def test_suffix_of() -> None:
    assert suffix_of("/a.b/c.MP4") == "mp4"
    assert suffix_of("/a.b/c") == ""
    assert suffix_of("/a/.mp4") == ""
    assert suffix_of("https://host/v/a.mp4?X-Amz-Credential=K/2026.11/aws4") == "mp4"
    assert suffix_of("https://host/get?url=https://other/v/a.webm&t=1.5") == "webm"
    assert suffix_of("https://host/v/a?t=1") == ""
    assert suffix_of("https://host/v/a.mp4?token=1") == "mp4"
    assert suffix_of("/a?b.mp4") == "mp4"
    assert suffix_of("https://host/v;x=1/a.mp4;jsessionid=0A1B.node1?t=1") == "mp4"
    assert suffix_of("https://host/v/a;id=7.mp4") == "mp4"
    assert suffix_of("/a;b=c.mp4") == "mp4"
