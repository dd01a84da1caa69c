"""Five good videos, two to a shard, and what a run over them makes where nothing disturbs it."""

from __future__ import annotations

from pathlib import Path

from shardprep.driver.verify import verify
from shardprep.sources.keys import source_key
from tests.driver.outputs import check_fates, digests, strays
from tests.hostile.commands import Place
from tests.hostile.files import good

VIDEOS = tuple(f"v{number}.mp4" for number in range(5))


def make_five(root: Path) -> Place:
    """Return a place with the videos and a recipe."""
    place = Place.make(root)
    for name in VIDEOS:
        (place.source / name).write_bytes(good())
    place.recipe({"videos": str(place.source), "samples_per_shard": 2}, workers=1)
    return place


def make_undisturbed(root: Path) -> dict[str, str]:
    """Return the digests of the tars that a run without faults makes."""
    place = make_five(root)
    assert place.shardprep("run", place.work / "recipe.yaml").code == 0
    return digests(place.out, ".tar")


def check_whole(place: Place, undisturbed: dict[str, str]) -> None:
    """Assert that the output is what an undisturbed run makes, and nothing else."""
    check_fates(place.out, [source_key(name) for name in VIDEOS])
    assert digests(place.out, ".tar") == undisturbed
    assert strays(place.out) == []
    assert list(verify(str(place.out))) == []
