"""Looking at an output from outside: with the file system, pyarrow and tarfile alone, so that no code under test judges itself."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shardprep.driver.lease import LEASES
from shardprep.driver.run_log import LOGS
from shardprep.testing.videos import Shot, draw, encode

File = tuple[str, int]

FINAL = (".tar", "index.parquet", "manifest.json")
"""What two runs must agree on byte for byte; ledgers hold seconds."""


def make_sources(folder: Path, numbers: Iterable[int]) -> None:
    """Write a video of a quarter of a second for each number: `v007.mp4`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        frames = draw([Shot(seconds=0.25, px_per_second=30, seed=number)], height=48, width=64)
        (folder / f"v{number:03d}.mp4").write_bytes(encode(frames))


def files(folder: Path) -> dict[str, File]:
    """Return digest and mtime of every file below a folder, hidden ones too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
    return found


def changed(before: dict[str, File], folder: Path) -> set[str]:
    """Return the files that were there before and are gone or have other bytes or times."""
    after = files(folder)
    return {name for name, file in before.items() if after.get(name) != file}


def digests(folder: Path, *suffixes: str) -> dict[str, str]:
    """Return the digests of the files with one of these suffixes, but for older packings."""
    passed_over = tuple(f"{path.relative_to(folder)}/" for path in older_packings(folder))
    return {name: digest for name, (digest, _) in files(folder).items() if name.endswith(suffixes) and not name.startswith(passed_over)}


def current_packing(train: Path) -> Path:
    """Return the folder of the packing that counts, as the pointer says."""
    return train / str(json.loads((train / "manifest.json").read_text())["packing"])


def older_packings(folder: Path) -> list[Path]:
    """Return the folders of packings that do not count, in an output or a packed set; they stay until they are cleaned."""
    found = []
    for pointer in [*folder.glob("manifest.json"), *folder.glob("*/manifest.json")]:
        if "packing" in json.loads(pointer.read_text()):
            counts = current_packing(pointer.parent)
            found += [path for path in pointer.parent.iterdir() if path.is_dir() and path != counts]
    return found


def footer(ledger: Path) -> dict[str, Any]:
    """Return what a ledger says of its shard."""
    found: dict[str, Any] = json.loads((pq.read_schema(ledger).metadata or {})[b"shardprep"])
    return found


def ledgers(folder: Path) -> dict[str, Path]:
    """Return the one ledger of every shard of a set; AssertionError where a shard has two."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.parquet")):
        if not path.name.startswith(("assignment-", "index")):
            shard = footer(path)["shard"]
            assert shard not in found, f"{path} and {found[shard]} are both there"
            found[shard] = path
    return found


def shard_digests(output: Path) -> dict[str, dict[str, str]]:
    """Return the digests of all shards of all sets."""
    return {
        folder.name: {shard: footer(path)["digest"] for shard, path in ledgers(ledger_folder(folder)).items()} for folder in sets(output)
    }


def sets(output: Path) -> list[Path]:
    return sorted(path.parent for path in output.glob("*/set.json"))


def ledger_folder(folder: Path) -> Path:
    return current_packing(folder) / "ledgers" if (folder / "manifest.json").exists() else folder


def strays(output: Path) -> list[str]:
    """Return the files that no finished set needs: temporaries, superseded ledgers and tars, forgotten ones; older packings are none."""
    needed = {path for folder in older_packings(output) for path in folder.rglob("*")}
    for folder in sets(output):
        info = json.loads((folder / "set.json").read_text())
        home = folder
        if info["kind"] == "packed":
            home = current_packing(folder)
            needed |= {folder / name for name in ("set.json", "manifest.json", "README.md")}
            info = json.loads((home / "set.json").read_text())
        found = ledgers(ledger_folder(folder))
        assert sorted(found) == sorted(info["shards"]), f"{folder}: listed {info['shards']}, found {sorted(found)}"
        needed |= {home / "set.json", *found.values()}
        needed |= {home / tar["name"] for path in found.values() if (tar := footer(path)["tar"])}
        if info["assignment"]:
            needed.add(folder / info["assignment"])
        # One for each tar of the source; tests/sources/test_tar_index.py counts them.
        needed |= set((folder / "tars").glob("*.json.z"))
        needed |= {home / "manifest.json", home / "index.parquet"} if info["kind"] == "packed" else {home / "digests.json"}
    missing = [str(path) for path in needed if not path.exists()]
    assert not missing, f"missing: {missing}"
    found = (path.relative_to(output) for path in output.rglob("*") if path.is_file() and path not in needed)
    # What a run says of its failures stays for people to read; the lease of a killed one harms nobody.
    return sorted(str(path) for path in found if path.parts[0] not in (LOGS, LEASES))


def check_fates(output: Path, keys: Iterable[str] | None = None) -> Counter[str]:
    """Assert that every input of every set has one fate and that sets join without loss; return the counts of fates."""
    kept: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for folder in sets(output):
        rows = [row for path in ledgers(ledger_folder(folder)).values() for row in pq.read_table(path).to_pylist()]
        inputs = [row["key"] for row in rows if row["role"] == "input"]
        outputs = [row["key"] for row in rows if row["role"] == "output"]
        assert len(set(inputs)) == len(inputs), f"{folder.name}: an input has two rows"
        assert len(set(outputs)) == len(outputs), f"{folder.name}: an output has two rows"
        assert {row["fate"] for row in rows} <= {"kept", "dropped", "failed"}
        into = sorted(key for row in rows if row["role"] == "input" and row["fate"] == "kept" for key in set(row["into"]))
        kept[folder.name] = sorted(row["key"] for row in rows if row["role"] == "output" and row["fate"] == "kept")
        assert sorted(set(into)) == kept[folder.name], f"{folder.name}: what inputs became is not what came out"
        counts.update(f"{folder.name}.{row['role']}.{row['fate']}" for row in rows)
        kept[f"{folder.name} in"] = sorted(inputs)
    for folder in sets(output):
        parents = json.loads((folder / "set.json").read_text())["parents"]
        if parents:
            above = parents[-1].removeprefix("../")
            assert kept[f"{folder.name} in"] == kept[above], f"{folder.name}: its inputs are not what {above} kept"
    if keys is not None:
        assert kept["raw in"] == sorted(keys)
    return counts


def tar_members(tar: Path) -> dict[str, bytes]:
    """Return the members of a tar by name."""
    with tarfile.open(tar) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr] # our tars hold files only
