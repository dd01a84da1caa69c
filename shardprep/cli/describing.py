"""The commands that describe shardprep itself: stages, schema, models."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shardprep.stages.catalogue import Setting, StageInfo

models = typer.Typer(help="Make the models that recipes name.", no_args_is_help=True)


def stages(name: Annotated[str | None, typer.Argument(metavar="NAME", help="A stage or gather, to see its settings.")] = None) -> None:
    """List the stages, or show the settings of one: units, defaults, what it reads and writes."""
    from shardprep.recipe.load import GATHERS
    from shardprep.stages.catalogue import describe_settings, describe_stage, find_stage, find_stages

    if name is None:
        kinds, broken = find_stages()
        _print_list([describe_stage(kind) for kind in kinds.values()])
        for one in broken:
            print(f"BROKEN {one.name}, of {one.package}: {one.error}")
        print(f"and the gathers {' and '.join(GATHERS)}, which see a whole set; `shardprep stages NAME` shows the settings of one")
    elif name in GATHERS:
        print(f"{name} (a gather: it sees the whole set)\n\n{inspect.getdoc(GATHERS[name])}\n\nsettings:")
        _print_settings(describe_settings(GATHERS[name]))
    else:
        _print_stage(describe_stage(find_stage(name)))


def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from shardprep.recipe.schema import json_schema
    from shardprep.stages.catalogue import find_stages

    print(json.dumps(json_schema(), indent=2))
    for one in find_stages()[1]:
        print(f"broken: {one.name}, of {one.package}: {one.error}", file=sys.stderr)


@models.command("tiny")
def tiny(
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="Where to; left out, the cache that `tiny:NAME` names.")] = None,
) -> None:
    """Make tiny models with random weights in the ordinary formats: to try recipes out, not for results."""
    from shardprep.cli.tiny import make_tiny

    for name, path in make_tiny(folder).items():
        print(f"tiny:{name}  {path}  RANDOM MODEL")


def _print_list(infos: list[StageInfo]) -> None:
    from rich import box
    from rich.table import Table

    from shardprep.cli.reporters import make_console

    table = Table("stage", "what it does", "reads", "writes", "extra", box=box.SIMPLE)
    for info in infos:
        table.add_row(info.name, _first_line(info.doc), _names(info.reads), _names(_shortened(info.writes)), ", ".join(info.extras or ()))
    make_console().print(table)


def _print_stage(info: StageInfo) -> None:
    print(f"{info.name} (version {info.version})\n\n{info.doc}\n\nsettings:")
    _print_settings(info.settings)
    print(f"\nreads:   {_names(info.reads)}")
    print(f"writes:  {_names(info.writes, with_types=True)}")
    print(f"frames:  {info.frames or '-'}")
    print(f"accepts: {_names(info.accepts)}")
    print(f"extra:   {', '.join(info.extras or ()) or '-'}")


def _print_settings(settings: Sequence[Setting]) -> None:
    for setting in settings:
        unit = f" [{setting.unit}]" if setting.unit else ""
        print(f"  {setting.name}{unit}: {setting.type}{'  required' if setting.is_required else f' = {_shown(setting.default)}'}")
        for line in setting.doc.splitlines():
            print(f"      {line}")
    if not settings:
        print("  none")


def _shown(value: object) -> str:
    plain = isinstance(value, (str, int, float, bool, type(None), list, tuple))
    return json.dumps(value, ensure_ascii=False) if plain else str(value)


def _shortened(columns: Mapping[str, str] | None) -> tuple[str, ...] | None:
    """Return `media.*` in place of the columns of a struct that has more than three; roles, such as `t5` beside `t5.*`, stay."""
    if columns is None:
        return None
    heads = [name.partition(".")[0] for name in columns]
    return tuple(
        dict.fromkeys(f"{head}.*" if "." in name and heads.count(head) > 3 else name for name, head in zip(columns, heads, strict=True))
    )


def _names(names: object, *, with_types: bool = False) -> str:
    if names is None:
        return "by its settings"
    if isinstance(names, dict) and with_types:
        return ", ".join(f"{name} ({kind})" for name, kind in names.items()) or "-"
    assert isinstance(names, (tuple, dict))
    return ", ".join(names) or "-"


def _first_line(doc: str) -> str:
    return doc.partition("\n")[0]
