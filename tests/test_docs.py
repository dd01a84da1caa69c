"""Docs that cannot rot: the table of stages, the commands, the links and the make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from shardprep.recipe.load import load_recipe
from tests.doc_tables import ROOT, table_in, tables, with_table

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_tables_are_the_code_s() -> None:
    for page, of_page in tables().items():
        text = page.read_text(encoding="utf-8")
        for name, table in of_page.items():
            assert table.count("\n") > 5, f"{name} has hardly a row"
            assert table_in(text, name) == table, f"{page.name}: write it anew: make doc-tables"


def test_the_recipe_of_the_guide_is_one(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "r.yaml").write_text(block)
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    assert [step.name for step in recipe.steps] == ["clips", "scores", "good", "best", "train"]
    assert (recipe.parent_of(recipe.steps[3]), recipe.settings.workers) == ("scores", 8)


def test_the_readme_s_recipe_is_the_file_s() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    recipe = (ROOT / "recipes/first-clips.yaml").read_text(encoding="utf-8")
    assert blocks == [recipe[recipe.index("name:") :]]


def test_the_table_s_place_is_kept_when_it_is_written() -> None:
    text = "before\n<!-- stages -->\nold\n<!-- /stages -->\nafter\n"
    assert with_table(text, "stages", "new") == "before\n<!-- stages -->\nnew\n<!-- /stages -->\nafter\n"


def test_every_command_is_in_the_docs_and_every_documented_command_exists() -> None:
    from shardprep.cli.commands import app

    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group has commands
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    fenced = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    mentioned = set(re.findall(r"`shardprep ([a-z]+)", text)) | set(re.findall(r"^shardprep ([a-z]+)", fenced, re.MULTILINE))
    assert mentioned == commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if not link.startswith(("http:", "https:")) and not (page.parent / link).exists()]
    assert not broken


def test_make_targets_in_the_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    benches = re.search(r"^BENCHES := (.*)$", makefile, re.MULTILINE)
    assert benches
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) | {f"bench-{name}" for name in benches[1].split()}
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z]+(?:-[a-z]+)*)[ `]", page.read_text(encoding="utf-8"))) <= targets, page.name
