"""Settings of gathers are refused where they make no sense, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from shardprep.gather.settings import Pack, Select


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"where": "  "}, "where is empty; leave it out to keep all"),
        ({"limit": -1}, "limit is -1; expected 0 or more samples"),
        ({"sample": -1}, "sample is -1; expected a number of samples, or a share between 0.0 and 1.0"),
        ({"sample": 1.5}, "sample is 1.5; expected a number of samples, or a share between 0.0 and 1.0"),
    ],
)
def test_select(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Select(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shard_mib": 0}, "shard_mib is 0; expected 1 MiB or more"),
        ({"samples_per_shard": 0}, "samples_per_shard is 0; expected 1 or more"),
        ({"roles": ()}, "roles is empty; name the members to pack, or leave it out to pack all"),
    ],
)
def test_pack(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pack(**settings)


def test_one_name_is_a_list_of_one() -> None:
    """A string is a sequence of its letters, each of which would be a column or a member that is not there."""
    settings = Pack(bucket_by="media.codec", roles="video")  # type: ignore[arg-type] # what recipes and Python may write
    assert settings == Pack(bucket_by=("media.codec",), roles=("video",))
    assert (settings.packs("video"), settings.packs("v")) == (True, False)


@pytest.mark.parametrize(
    ("settings", "is_global"),
    [
        ({}, False),
        ({"where": "a.b > 1"}, False),
        ({"sample": 0.5}, False),
        ({"sample": 5}, True),
        ({"limit": 5}, True),
        ({"sort": "a.b"}, False),
    ],
)
def test_what_needs_all_shards(settings: dict[str, Any], is_global: bool) -> None:
    """A sort alone changes nothing: it is the order that a limit counts in."""
    assert Select(**settings).is_global is is_global
