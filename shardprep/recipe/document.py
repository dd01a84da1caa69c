"""A recipe's text as plain data, with the place that every value was written at."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from shardprep.errors import RecipeError

RecipePath = tuple[str | int, ...]
"""Where a value lies in the data: keys of mappings and indices of lists."""

MAX_CHARACTERS = 1 << 18
MAX_DEPTH = 24
MAX_VALUES = 10_000
"""A recipe is a page of text; more (aliases of aliases multiply) is refused before it fills the memory."""

_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_CONSTANTS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")
}


@dataclass
class Document:
    """Plain data (dicts, lists, text, numbers, booleans, None) and where each part of it was written."""

    data: Any
    origin: str
    """The file, or what else the data came from."""
    places: dict[RecipePath, str] = field(default_factory=dict)

    def place(self, path: RecipePath) -> str:
        """Return where the value at `path`, or the nearest thing around it that was written down, stands: `a.yaml:14`."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.origin)


@dataclass
class Problems:
    """What is wrong with a recipe, collected so that all of it is said at once."""

    document: Document
    found: list[str] = field(default_factory=list)
    cause: BaseException | None = None
    """What the first problem that has a cause came from."""

    def add(self, path: RecipePath, message: str | RecipeError) -> None:
        self.found.append(f"{self.document.place(path)}: {message}")
        if isinstance(message, RecipeError):
            self.cause = self.cause or message.__cause__

    def raise_any(self) -> None:
        """Raise RecipeError with one line per problem, where there is one."""
        if self.found:
            raise RecipeError("\n".join(dict.fromkeys(self.found))) from self.cause


def parse_document(text: str, origin: str) -> Document:
    """Return the data of a YAML text by the rules of YAML 1.2's core schema; RecipeError with file and line where it is none.

    `no`, `12:30` and `010` are therefore text, text and ten; `1e-3` is a number (PyYAML's YAML 1.1 says otherwise in all four).
    """
    document = Document(None, origin)
    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"{origin}: {len(text)} characters; a recipe has at most {MAX_CHARACTERS}")
    try:
        _check_depth(text, origin)
        # BaseLoader is SafeLoader without the guessing: it makes nodes of text, lists and mappings, and no objects.
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{origin}:{line}: not YAML: {error.problem}{f' ({error.context})' if error.context else ''}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: not YAML: {' '.join(str(error).split())}") from error
    if node is None:
        raise RecipeError(f"{origin}: the recipe is empty; it needs source, steps and output")
    document.data = _Reader(document).read(node, ())
    return document


def parse_value(text: str, origin: str) -> Any:
    """Return the data of one YAML value, such as that of `--set`."""
    return parse_document(text, origin).data if text.strip() else None


def resolve_plain(text: str) -> Any:
    """Return what an unquoted scalar means in YAML 1.2's core schema (decimal numbers only)."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def hint(name: str, known: Sequence[str]) -> str:
    """Return `did you mean …?` for the nearest of the known names, or all of them where none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"there is {', '.join(known)}" if known else "there is none"


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Return YAML that `parse_document` reads as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140, default_flow_style=None)


def _check_depth(text: str, origin: str) -> None:
    # The event parser keeps its own stack; composing recurses, and would meet Python's limit.
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecipeError(f"{origin}:{event.start_mark.line + 1}: nested more than {MAX_DEPTH} deep")


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document, self._num_values = document, 0

    def read(self, node: yaml.Node, path: RecipePath) -> Any:
        self._num_values += 1
        place = self._document.places[path] = self._place(node)
        if self._num_values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise RecipeError(f"{place}: too much (more than {MAX_VALUES} values, or {MAX_DEPTH} deep); do its aliases multiply?")
        if node.tag not in _PLAIN_TAGS:
            raise RecipeError(f"{place}: the tag {node.tag}: a recipe holds plain values only; remove the tag")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(inner, (*path, index)) for index, inner in enumerate(node.value)]
        if not node.value.isascii() and any("\ud800" <= character <= "\udfff" for character in node.value):
            raise RecipeError(f"{place}: half a surrogate pair; such text cannot be written anywhere")
        return resolve_plain(node.value) if node.style is None else node.value

    def _mapping(self, node: yaml.MappingNode, path: RecipePath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError(f"{place}: a key is a list or a mapping; keys are names")
            key = key_node.value
            if key in mapping:
                raise RecipeError(f"{place}: {key} is there twice (first at {self._document.places[(*path, key)]}); remove one")
            mapping[key] = self.read(value_node, (*path, key))
            # A key's line is where a person looks for it, also where its value starts on the next one.
            self._document.places[(*path, key)] = place
        return mapping

    def _place(self, node: yaml.Node) -> str:
        return f"{self._document.origin}:{node.start_mark.line + 1}"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if isinstance(resolve_plain(text), str) else "'"
    if not text.replace("\n", "").isprintable():
        # Only between double quotes does PyYAML write a next-line character as itself.
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
