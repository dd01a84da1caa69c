"""The table of stages in README.md: `python -m tests.stage_table` writes it anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shardprep.stages.catalogue import describe_stage, find_stage, stage_names

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- stages -->", "<!-- /stages -->"


def stage_table() -> str:
    """Return a Markdown table with a row per stage of this package."""
    lines = ["| stage | what it does | adds | extra |", "|---|---|---|---|"]
    for name in stage_names():
        kind = find_stage(name)
        if not kind.__module__.startswith("shardprep."):
            continue
        info = describe_stage(kind)
        adds = ", ".join(f"`{column}`" for column in _shortened(info.writes or {}))
        lines.append(f"| `{name}` | {info.doc.splitlines()[0].replace('|', chr(92) + '|')} | {adds} | {', '.join(info.extras or ())} |")
    return "\n".join(lines)


def table_in(text: str) -> str:
    """Return what stands between the markers."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def with_table(text: str, table: str) -> str:
    """Return the text with the table between its markers."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def _shortened(columns: Iterable[str]) -> list[str]:
    """Return `media.*` for the columns of a struct that has more than three of them; roles stay."""
    names = list(columns)
    heads = [name.partition(".")[0] for name in names]
    return list(dict.fromkeys(f"{h}.*" if "." in n and heads.count(h) > 3 else n for n, h in zip(names, heads, strict=True)))


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8"), stage_table()), encoding="utf-8")
