"""Recipes: YAML or plain data to the typed recipe and back, checked before anything runs."""

from shardprep.recipe.check import check_recipe, steps_until
from shardprep.recipe.dump import to_dict, to_yaml
from shardprep.recipe.load import load_recipe, recipe_from_dict
from shardprep.recipe.model import RAW, Gather, Pass, Recipe, RunSettings, Step, parse_bytes
from shardprep.recipe.schema import json_schema

__all__ = [
    "RAW",
    "Gather",
    "Pass",
    "Recipe",
    "RunSettings",
    "Step",
    "check_recipe",
    "json_schema",
    "load_recipe",
    "parse_bytes",
    "recipe_from_dict",
    "steps_until",
    "to_dict",
    "to_yaml",
]
