"""Wrong sources are refused with what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from shardprep.errors import RecipeError
from shardprep.sources.spec import SourceSpec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "one of videos, list and shards; nothing is given"),
        ({"videos": "a", "list": "b.csv"}, "videos and list are given"),
        ({"videos": " "}, "source.videos is empty"),
        ({"shards": ()}, "source.shards is an empty list"),
        ({"shards": "pipe:curl http://x/a.tar"}, "never does"),
        ({"shards": ("a.tar", "PIPE:cat a.tar")}, "never does"),
        ({"videos": "a", "samples_per_shard": 0}, "samples_per_shard is 0"),
        ({"videos": "a", "shard_mib": -1}, "shard_mib is -1"),
        ({"videos": "a", "path_column": "x"}, "path_column is about the columns of a list"),
        ({"videos": "a", "text_column": "x"}, "text_column is about"),
        ({"list": "a.csv", "captions": "none"}, "source.captions is none, which is about files beside videos"),
        ({"shards": "a.tar", "root": "x"}, "root is about"),
        ({"videos": "a", "group_by": "episode"}, "expected folder"),
    ],
)
def test_wrong_sources(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SourceSpec(**settings)


def test_right_sources() -> None:
    assert SourceSpec(videos="v", group_by="folder").shard_bytes == 512 << 20
    assert SourceSpec(shards=("a.tar", "b.tar"), text_column="x", group_by="episode").locations == ("a.tar", "b.tar")
    assert SourceSpec(list="a.csv", root="x", columns={"a": "b"}).locations == ("a.csv",)
