"""A digest of the code of a stage that is not shardprep's own, so that a change without a new `version` is noticed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from shardprep.core.stage import Stage, stage_name

_OWN = __name__.partition(".")[0]
_INSTALLED = {"site-packages", "dist-packages"}


def codes_of(stages: Sequence[Stage]) -> dict[str, str]:
    """Return the code digests of the stages that are not shardprep's own and whose source can be read, by name."""
    found = {stage_name(stage): code_digest(type(stage)) for stage in stages}
    return {name: digest for name, digest in found.items() if digest is not None}


def changed_codes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the stages whose code is known to have been another one."""
    return [name for name, digest in now.items() if then.get(name, digest) != digest]


def code_digest(kind: type[Stage]) -> str | None:
    """Return a digest of the source of a stage's class, 16 hex digits: its module, those of its base classes, and what
    these import of their own package, or of the script's folder. Comments and blank lines do not count.

    None where the class is shardprep's own, or where there is no source: a program read from standard input has none.
    """
    classes = [one for one in kind.__mro__ if one.__module__.partition(".")[0] not in (_OWN, "builtins", "typing", "abc")]
    if kind not in classes:
        return None
    texts: dict[str, str] = {}
    for one in classes:
        texts |= _sources(one)
    if not texts:
        return None
    whole = "\0".join(part for name in sorted(texts) for part in (name, _without_comments(texts[name])))
    return hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:16]


def _sources(kind: type) -> dict[str, str]:
    """Return the sources that make a class by their path below the folder of its package or script."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None or not Path(file).is_file():
        # A notebook has no file, but remembers its cells.
        try:
            return {kind.__qualname__: inspect.getsource(kind)}
        except (OSError, TypeError):
            return {}
    path = Path(file).resolve()
    parts = [] if kind.__module__ == "__main__" else kind.__module__.split(".")
    depth = len(parts) if path.stem == "__init__" else max(0, len(parts) - 1)
    root = path.parents[depth]
    package = parts[0] if len(parts) > 1 or path.stem == "__init__" else None
    if package is None and _INSTALLED & set(root.parts):
        return {path.name: _read(path)}
    return _followed(path, root, package)


def _followed(first: Path, root: Path, package: str | None) -> dict[str, str]:
    """Return the source of a module and of what it imports, directly or not, of `package` or else of the folder `root`."""
    found: dict[str, str] = {}
    waiting = [first]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name in found:
            continue
        found[name] = _read(path)
        for module in _imported(found[name], path.relative_to(root).parent.parts):
            if package is None or module[0] == package:
                places = (root.joinpath(*module).with_suffix(".py"), root.joinpath(*module, "__init__.py"))
                waiting += [place for place in places if place.is_file()]
    return found


def _imported(source: str, folder: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the modules that a source may import; `folder` is that of its own module."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = tuple(folder[: len(folder) - node.level + 1]) if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            yield from (base, *((*base, alias.name) for alias in node.names)) if base else ((alias.name,) for alias in node.names)


def _read(path: Path) -> str:
    return path.read_bytes().decode(errors="surrogateescape")


def _without_comments(source: str) -> str:
    """Return the source without comments, blank lines and space at the ends of lines."""
    lines = source.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, SyntaxError):
        pass
    return "\n".join(line.rstrip() for line in lines if line.strip())
