"""The tables of stages and settings in the documentation: `python -m tests.doc_tables` writes them anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from shardprep.gather.settings import Pack, Select
from shardprep.recipe.model import RunSettings
from shardprep.sources.spec import SourceSpec
from shardprep.stages.catalogue import Setting, describe_settings, describe_stage, find_stage, stage_names

ROOT = Path(__file__).parent.parent
SETTINGS = {"source": SourceSpec, "select": Select, "pack": Pack, "run": RunSettings}


def tables() -> Mapping[Path, Mapping[str, str]]:
    """Return the tables of every page by the name in their markers, such as `<!-- stages -->` and `<!-- /stages -->`."""
    return {
        ROOT / "README.md": {"stages": stage_table()},
        ROOT / "docs" / "recipes.md": {name: settings_table(kind) for name, kind in SETTINGS.items()},
    }


def stage_table() -> str:
    """Return a Markdown table with a row per stage of this package."""
    lines = ["| stage | what it does | adds | extra |", "|---|---|---|---|"]
    for name in stage_names():
        kind = find_stage(name)
        if not kind.__module__.startswith("shardprep."):
            continue
        info = describe_stage(kind)
        adds = ", ".join(f"`{column}`" for column in _shortened(info.writes or {}))
        lines.append(f"| `{name}` | {_cell(info.doc.splitlines()[0])} | {adds} | {', '.join(info.extras or ())} |")
    return "\n".join(lines)


def settings_table(kind: type) -> str:
    """Return a Markdown table with a row per setting of a dataclass."""
    rows = [f"| `{s.name}` | {_cell(_default(s))} | {_cell(' '.join(s.doc.split()))} |" for s in describe_settings(kind)]
    return "\n".join(["| setting | default | |", "|---|---|---|", *rows])


def table_in(text: str, name: str) -> str:
    """Return what stands between the markers of this name."""
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].strip()


def with_table(text: str, name: str, table: str) -> str:
    """Return the text with the table between its markers."""
    head, _, rest = text.partition(f"<!-- {name} -->")
    return f"{head}<!-- {name} -->\n{table}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"


def _default(setting: Setting) -> str:
    return f"`{json.dumps(setting.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _shortened(columns: Iterable[str]) -> list[str]:
    """Return `media.*` for the columns of a struct that has more than three of them; roles stay."""
    names = list(columns)
    heads = [name.partition(".")[0] for name in names]
    return list(dict.fromkeys(f"{h}.*" if "." in n and heads.count(h) > 3 else n for n, h in zip(names, heads, strict=True)))


if __name__ == "__main__":
    for page, of_page in tables().items():
        text = page.read_text(encoding="utf-8")
        for name, table in of_page.items():
            text = with_table(text, name, table)
        page.write_text(text, encoding="utf-8")
