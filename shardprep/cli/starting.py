"""The command that begins: a recipe with comments, written into the folder."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from shardprep.errors import RecipeError

_FIRST = "first-clips"


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which recipe; `shardprep init list` names them.")] = _FIRST,
    force: Annotated[bool, typer.Option("--force", help="Write over a file of that name.")] = False,
) -> None:
    """Write a recipe with comments into this folder, to be changed and run."""
    known = recipes()
    if name == "list":
        for each, path in known.items():
            print(f"{each:12} {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ')}")
        return
    if name not in known:
        raise RecipeError(f"there is no recipe {name!r}; there is {', '.join(known)}")
    target = Path(f"{name}.yaml")
    if target.exists() and not force:
        raise RecipeError(f"{target} is there already; --force writes over it")
    # The comments name it as it lies in the repository.
    target.write_text(known[name].read_text(encoding="utf-8").replace(f"recipes/{name}.yaml", target.name), encoding="utf-8")
    print(f"wrote {target}. Next:")
    print(f"  shardprep plan {target} --input FOLDER    what would be made")
    print(f"  shardprep run {target} --input FOLDER")


def recipes() -> dict[str, Path]:
    """Return the recipes by name: those in the package, or beside it where it runs from its repository."""
    package = Path(str(resources.files("shardprep")))
    folder = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
