"""A typed recipe as plain data and as YAML, which load as an equal recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, is_dataclass
from datetime import date, time
from enum import Enum
from pathlib import PurePath
from typing import Any

from shardprep.core.fingerprint import plain_text
from shardprep.core.stage import Stage, stage_name
from shardprep.gather.settings import Select
from shardprep.recipe.document import dump_yaml
from shardprep.recipe.model import Pass, Recipe, Step
from shardprep.stages.catalogue import describe_settings


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as it is spelled in YAML, settings with their default value left out."""
    plain: dict[str, Any] = _with_texts(
        {
            "name": recipe.name,
            "source": plain_settings(recipe.source),
            "output": recipe.output,
            **plain_settings(recipe.settings),
            "steps": [_step(step) for step in recipe.steps],
        }
    )
    return plain


def to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML."""
    return dump_yaml(to_dict(recipe))


def plain_settings(settings: Any) -> dict[str, Any]:
    """Return the settings of a dataclass as plain data, those with their default value left out."""
    values = {setting.name: (getattr(settings, setting.name), setting.default) for setting in describe_settings(type(settings))}
    return {name: _plain(value) for name, (value, default) in values.items() if default is MISSING or value != default}


def _with_texts(value: Any) -> Any:
    """Return plain data with paths, enums and dates as a recipe spells them."""
    if isinstance(value, dict):
        return {name: _with_texts(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_texts(inner) for inner in value]
    return plain_text(value) if isinstance(value, (Enum, PurePath, date, time)) else value


def _step(step: Step) -> dict[str, Any]:
    body: Any
    if isinstance(step, Pass):
        body = [_stage(stage) for stage in step.stages]
    else:
        body = {"select" if isinstance(step.does, Select) else "pack": plain_settings(step.does)}
    return {step.name: body} | ({} if step.from_ is None else {"from": step.from_})


def _stage(stage: Stage) -> Any:
    settings = plain_settings(stage)
    return {stage_name(stage): settings} if settings else stage_name(stage)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {setting.name: _plain(getattr(value, setting.name)) for setting in describe_settings(type(value))}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
