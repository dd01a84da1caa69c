"""A file of an output that is gone, cut short or damaged has only its own shard made again, to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardprep.driver.run import run
from tests.driver.made import Made, by_name, shards_made
from tests.driver.outputs import (
    FINAL,
    changed,
    check_fates,
    digests,
    files,
    footer,
    ledger_folder,
    ledgers,
    shard_digests,
    strays,
)
from tests.driver.recipes import planned


@pytest.mark.parametrize("step", ["raw", "numbers", "good", "features", "train"])
def test_a_deleted_ledger_has_only_its_shard_made_again(made: Made, step: str) -> None:
    shard, path = sorted(ledgers(ledger_folder(made.output / step)).items())[1]
    before, digests_before = files(made.output), shard_digests(made.output)
    path.unlink()
    name = step
    steps = planned(made.recipe())
    later = [other for other in steps if list(steps).index(other) > list(steps).index(name)]
    assert [step.stale for step in steps.values()] == [0] * len(steps)
    assert (steps[name].new, steps[name].done) == ((1, 0) if name == "train" else (1, 2))

    summary = run(made.recipe())
    assert shards_made(summary) == dict.fromkeys(shards_made(summary), 0) | {name: 1}
    touched = changed(before, made.output)
    own = {
        f"{name}/digests.json",
        str(path.relative_to(made.output)),
        *(str(tar.relative_to(made.output)) for tar in (made.output / name).rglob(f"{shard}*.tar")),
    }
    whole = {str(found.relative_to(made.output)) for found in (made.output / "train").rglob("manifest.json")}
    assert touched <= own | (whole if name == "train" else set()), "no file of another shard"
    assert digests(made.output, *FINAL) == {n: d for n, (d, _) in before.items() if n.endswith(FINAL)}
    assert shard_digests(made.output) == digests_before
    assert strays(made.output) == []
    assert all(by_name(summary)[other].shards_made == 0 for other in later), "nothing below is stale"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("step", ["raw", "numbers", "good", "features", "train"])
def test_a_ledger_cut_short_has_only_its_shard_made_again(made: Made, step: str) -> None:
    path = sorted(ledgers(ledger_folder(made.output / step)).values())[0]
    before, digests_before = files(made.output), shard_digests(made.output)
    cut_short(path)
    name = step.split("/")[0]
    reasons = " ".join(planned(made.recipe())[name].reasons)
    assert "damaged" in reasons
    summary = run(made.recipe())
    assert shards_made(summary) == dict.fromkeys(shards_made(summary), 0) | {name: 1}
    assert digests(made.output, *FINAL) == {n: d for n, (d, _) in before.items() if n.endswith(FINAL)}
    assert shard_digests(made.output) == digests_before
    assert strays(made.output) == []
    assert shards_made(run(made.recipe())) == dict.fromkeys(shards_made(summary), 0)


@pytest.mark.parametrize("step", ["raw", "features", "train"])
@pytest.mark.parametrize("damage", [cut_short, Path.unlink])
def test_a_tar_cut_short_or_gone_is_made_again(made: Made, step: str, damage: object) -> None:
    before = digests(made.output, *FINAL)
    damage(sorted((made.output / step).rglob("*.tar"))[0])  # type: ignore[operator] # a function
    assert any("damaged" in reason for reason in planned(made.recipe())[step].reasons)
    summary = run(made.recipe())
    assert shards_made(summary) == dict.fromkeys(shards_made(summary), 0) | {step: 1}
    assert digests(made.output, *FINAL) == before
    assert strays(made.output) == []


@pytest.mark.parametrize("content", ["", '{"000000-00000000.parquet": {"digest": 1}}', "[" * 100_000])
def test_a_damaged_cache_of_digests_is_made_anew(made: Made, content: str) -> None:
    caches = sorted(made.output.rglob("digests.json"))
    assert len(caches) == 4
    before = {path: path.read_bytes() for path in caches}
    for path in caches:
        path.write_text(content)
    summary = run(made.recipe())
    assert shards_made(summary) == dict.fromkeys(shards_made(summary), 0)
    assert {path: path.read_bytes() for path in caches} == before


def test_a_ledger_made_again_does_not_find_the_digest_of_the_old_one(made: Made) -> None:
    # As a run does that is killed after it made a shard anew under an old name with another result.
    (made.log / "refuse").write_text("v004.mp4")
    shard, path = next((s, p) for s, p in ledgers(made.output / "features").items() if footer(p)["counts"].get("input.kept") == 4)
    path.unlink()
    assert made.killed_at("2#rename features/digests.json")
    noted_ledgers = json.loads((made.output / "features/digests.json").read_text())["ledgers"].keys()
    assert noted_ledgers == {p.name for s, p in ledgers(made.output / "features").items() if s != shard}
    (made.log / "refuse").unlink()
    summary = run(made.recipe())
    assert by_name(summary)["features"].failed == {"refused": 1}
    assert by_name(summary)["train"].samples_in == 5
    check_fates(made.output)
