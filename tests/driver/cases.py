"""Random sources, expressions and edits by seed, for the property that a rerun equals a fresh run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shardprep.gather.settings import Select
from shardprep.recipe.model import Gather, Pass, Recipe, RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.drop_where import DropWhere

NUM_VIDEOS = 5
_WORDS = ("cat", "Dog", "a bird", "3", "")
_COLUMNS: dict[str, Callable[[random.Random], Any]] = {
    "Views": lambda rng: rng.randint(0, 4),
    "rating": lambda rng: rng.choice([0, 1, 1.0, 2.5, 3]),
    "Title": lambda rng: rng.choice(_WORDS),
    "is_HD": lambda rng: rng.random() < 0.5,
    "TAGS": lambda rng: [rng.randint(0, 3) for _ in range(rng.randint(0, 3))],
    "words": lambda rng: [rng.choice(_WORDS) for _ in range(rng.randint(0, 2))],
    "Box": lambda rng: {"X": rng.randint(0, 3), "y": rng.choice([1, 0.5]), "In": {"w": rng.choice(_WORDS)}},
    "end": lambda rng: rng.randint(0, 4),
}
"""Columns of a list, or fields of the JSON beside a video: in mixed case, one a word of SQL, one a struct in a struct."""


@dataclass
class Case:
    """One source, a recipe over it, and what is changed before the second run."""

    seed: int
    kind: Literal["list", "folder"]
    rows: list[dict[str, Any]]
    videos: list[bytes]
    drop: str
    null: Literal["keep", "drop", "fail"]
    select: Select
    edits: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the source as it is now; only files that differ are touched."""
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(self.videos):
            _put(folder / "videos" / f"v{number}.mp4", data)
            if self.kind == "folder":
                _put(folder / "videos" / f"v{number}.json", json.dumps({"text": "t", **self.rows[number]}).encode())
        if self.kind == "list":
            lines = [json.dumps({"path": f"videos/v{number}.mp4", **row}) for number, row in enumerate(self.rows)]
            _put(folder / "list.jsonl", "\n".join(lines).encode())

    def recipe(self, folder: Path, output: Path) -> Recipe:
        place = {"list": str(folder / "list.jsonl")} if self.kind == "list" else {"videos": str(folder / "videos")}
        return Recipe(
            name="case",
            source=SourceSpec(**place, samples_per_shard=3),
            output=str(output),
            settings=RunSettings(workers=1),
            steps=(
                Pass(name="left", stages=(DropWhere(expression=self.drop, null=self.null),)),
                Gather(name="good", does=self.select, from_="raw"),
            ),
        )


def make_case(seed: int) -> Case:
    """Return the case of a seed."""
    rng = random.Random(seed)
    names = rng.sample(list(_COLUMNS), rng.randint(2, 5))
    rows = [{name: _COLUMNS[name](rng) for name in names if rng.random() < 0.85} for _ in range(NUM_VIDEOS)]
    select = Select(
        where=_condition(rng, names),
        sort=rng.choice([None, f"{_reference(rng, 'meta', rng.choice(names))} DESC"]),
        limit=rng.choice([None, None, 2]),
    )
    return Case(
        seed=seed,
        kind=rng.choice(["list", "list", "folder"]),
        rows=rows,
        videos=[bytes([65 + number]) * rng.randint(1, 9) for number in range(NUM_VIDEOS)],
        drop=_condition(rng, names),
        null=rng.choice(["keep", "drop", "fail"]),
        select=select,
    )


def edit(case: Case) -> None:
    """Change the source of a case in one to five ways."""
    rng = random.Random(f"edit {case.seed}")
    ways = [_swap, _change, _forget, _as_float, _other_case, _other_video]
    for way in rng.choices(ways, weights=[4, 4, 1, 2, 1, 2], k=rng.randint(1, 5)):
        case.edits.append(way(rng, case))


# --- expressions


def _condition(rng: random.Random, names: list[str]) -> str:
    simple = _simple(rng, rng.choice(names))
    match rng.randint(0, 5):
        case 0:
            return f"{simple} AND {_simple(rng, rng.choice(names))}"
        case 1:
            return f"{simple} OR NOT ({_simple(rng, rng.choice(names))})"
        case 2:
            return f"CASE WHEN {simple} THEN {_simple(rng, rng.choice(names))} ELSE true END"
    return simple


def _simple(rng: random.Random, name: str) -> str:
    if rng.random() < 0.2:
        return _other(rng)
    ref = _reference(rng, "meta", name)
    if rng.random() < 0.25:
        return _any_change(ref)
    number, word = rng.randint(0, 4), rng.choice(_WORDS)
    by_column = {
        "Title": [f"{ref} = '{word}'", f"{ref} LIKE '%d%'", f"length({ref}) > {number}", f"coalesce({ref}, 'none') = 'none'"],
        "is_HD": [ref, f"NOT {ref}", f"{ref} IS NOT DISTINCT FROM true"],
        "TAGS": [
            f"len({ref}) > {number}",
            f"{ref}[1] = {number}",
            f"list_contains({ref}, {number})",
            f"len([x FOR x IN {ref} IF x > {number}]) > 0",
            f"list_sum(list_filter({ref}, lambda v: v > {number})) > 1",
        ],
        "words": [f"list_contains({ref}, '{word}')", f"len({ref}) = {number}"],
        "Box": _of_box(rng, ref, number, word),
    }
    of_number = [
        f"{ref} < {number}",
        f"{ref} = {number}",
        f"{ref} BETWEEN 1 AND {number}",
        f"{ref} IN (1, {number})",
        f"{ref}::VARCHAR = '{number}'",
        f"{ref} IS NULL",
        f"coalesce({ref}, 0) >= {number}",
        f"CAST({ref} AS VARCHAR) LIKE '%.%'",
    ]
    return rng.choice(by_column.get(name, of_number))


def _any_change(ref: str) -> str:
    """Return a condition on which every change of a value tells, one time in two."""
    return f"md5({ref}::VARCHAR) < '8'"


def _of_box(rng: random.Random, ref: str, number: int, word: str) -> list[str]:
    x, w = _mixed(rng, "X"), _mixed(rng, "w")
    return [
        f"{ref}.{x} > {number}",
        f"{ref}['{x}'] = {number}",
        f"struct_extract({ref}, '{x}') <= {number}",
        f"({ref}).{_mixed(rng, 'y')} < {number}",
        f"{ref}.{_mixed(rng, 'In')}['{w}'] = '{word}'",
        f"{ref} IS NULL",
        f"len(struct_keys({ref})) = {number}",
        _any_change(f"{ref}.{_mixed(rng, 'In')}"),
        f"{ref}::VARCHAR LIKE '%{number}%'",
        f"to_json({ref})->>'$.X' = '{number}'",
        f"{ref}['' || 'X'] > {number}",
        f"len(list_filter([{ref}], lambda b: b.{x} > {number})) = 1",
    ]


def _other(rng: random.Random) -> str:
    number = rng.randint(1, 9)
    return rng.choice(
        [
            f"source['bytes'] > {number}",
            f"{_mixed(rng, 'source')}.{_mixed(rng, 'bytes')} = {number}",
            f"source::VARCHAR LIKE '%{number}%'",
            f"struct_pack(v := source).v.bytes > {number}",
            "meta IS NULL",
            _any_change(_mixed(rng, "meta")),
            _any_change(_mixed(rng, "source")),
            _any_change("struct_values(meta)"),
            f"meta = {{'Views': {number // 2}}}",
            f"meta::VARCHAR LIKE '%{number}%'",
            f"len(struct_keys(meta)) > {number // 2}",
            "caption.text IS NULL",
            "Caption['TEXT'] = 'cat'",
            f"source.name LIKE '%{number}%'",
        ]
    )


def _reference(rng: random.Random, group: str, name: str) -> str:
    quoted = f'"{_mixed(rng, name)}"'
    group, mixed = _mixed(rng, group), _mixed(rng, name)
    plain = quoted if name == "end" else mixed
    return rng.choice(
        [f"{group}.{plain}", f"{group}.{plain}", f"{group}.{quoted}", f"{group}['{mixed}']", f"struct_extract({group}, '{mixed}')"]
    )


def _mixed(rng: random.Random, name: str) -> str:
    return rng.choice([name, name, name.lower(), name.upper(), name.swapcase()])


# --- edits


def _swap(rng: random.Random, case: Case) -> str:
    one, other = rng.sample(range(NUM_VIDEOS), 2)
    name = _some_column(rng, case)
    values = case.rows[one].pop(name, None), case.rows[other].pop(name, None)
    for row, value in ((one, values[1]), (other, values[0])):
        if value is not None:
            case.rows[row][name] = value
    return f"swap {name} of {one} and {other}"


def _change(rng: random.Random, case: Case) -> str:
    row, name = rng.randrange(NUM_VIDEOS), _some_column(rng, case)
    case.rows[row][name] = _COLUMNS[next(known for known in _COLUMNS if known.lower() == name.lower())](rng)
    return f"{name} of {row} becomes {case.rows[row][name]!r}"


def _forget(rng: random.Random, case: Case) -> str:
    row, name = rng.randrange(NUM_VIDEOS), _some_column(rng, case)
    case.rows[row].pop(name, None)
    return f"{name} of {row} goes"


def _as_float(rng: random.Random, case: Case) -> str:
    """Write a number in the other way, so that its column becomes whole or fractional for all rows."""
    row, name = rng.randrange(NUM_VIDEOS), _some_column(rng, case)
    value = case.rows[row].get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        case.rows[row][name] = rng.choice([float(value), value + 0.5])
    return f"{name} of {row} becomes a float"


def _other_case(rng: random.Random, case: Case) -> str:
    name = _some_column(rng, case)
    new = name.swapcase()
    case.rows = [{new if known == name else known: value for known, value in row.items()} for row in case.rows]
    return f"{name} is renamed {new}"


def _other_video(rng: random.Random, case: Case) -> str:
    row = rng.randrange(NUM_VIDEOS)
    case.videos[row] = bytes([97 + rng.randrange(20)]) * rng.randint(1, 9)
    return f"video {row} becomes another"


def _some_column(rng: random.Random, case: Case) -> str:
    """Return a column to edit, mostly one that the expressions name."""
    names = sorted({name for row in case.rows for name in row} or {"Views"})
    text = f"{case.drop} {case.select.where} {case.select.sort}".lower()
    named = [name for name in names if name.lower() in text]
    return rng.choice(named if named and rng.random() < 0.8 else names)


def _put(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)
