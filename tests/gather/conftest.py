"""What the tests of packing share: ten clips of two shapes and two images, with features, a selection and captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprep.shards.set import ShardSet
from tests.built_sets import Made, write_base, write_sidecar
from tests.gather.packings import clip, features, image


@pytest.fixture
def sets(tmp_path: Path) -> list[ShardSet]:
    """Ten clips of two shapes and two images in three shards; one clip has no features, one was not selected, two have captions."""
    made = [clip(n, **({"caption": {"text": f"caption {n} é"}} if n < 2 else {})) for n in range(10)] + [image(0), image(1)]
    shards = {f"{s:06d}": made[s * 4 : s * 4 + 4] for s in range(3)}
    base = write_base(tmp_path / "clips", shards)
    with_features = {
        shard: [features(one, int(one.key[-2:])) if one.key.startswith("clip") and one.key != "clip-05" else Made(one.key) for one in ones]
        for shard, ones in shards.items()
    }
    side = write_sidecar(tmp_path / "features", with_features, [base], {"latent": "member", "t5": "member", "t5.length": "int64"})
    chosen = {shard: [Made(one.key, dropped="where" if one.key == "clip-07" else None) for one in ones] for shard, ones in shards.items()}
    return [base, side, write_sidecar(tmp_path / "good", chosen, [base, side])]
