"""Which stages there are, found by their file names, and what each one says of itself."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.metadata
import inspect
import itertools
import pkgutil
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import shardprep.stages
from shardprep.core.declarations import RAISED, check_declarations
from shardprep.core.ranges import Range
from shardprep.core.stage import Stage, stage_name
from shardprep.errors import RecipeError

ENTRY_POINTS = "shardprep.stages"
"""The entry-point group of plug-ins: `score_mine = "my_package.score_mine:ScoreMine"`."""

RESERVED_NAMES = frozenset({"select", "pack", "dedup", "balance"})
"""Names of gathers, which stand where stages do."""

_UNITS = (
    ("px_per_second", "px/s"),
    ("fps", "frames/s"),
    ("seconds", "s"),
    ("px", "px"),
    ("bytes", "bytes"),
    ("mib", "MiB"),
    ("frames", "frames"),
    ("kbps", "kbit/s"),
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a stage, or of any other settings dataclass."""

    name: str
    type: str
    """The annotation as a person writes it."""
    default: Any
    """`dataclasses.MISSING` where the setting must be given."""
    unit: str
    """Empty where it has none."""
    doc: str
    """The literal under the field, empty where there is none."""

    @property
    def is_required(self) -> bool:
        return self.default is MISSING


@dataclass(frozen=True, kw_only=True)
class StageInfo:
    """What a stage says of itself with its default settings; None where that depends on a setting that has no default."""

    name: str
    doc: str
    version: int
    settings: tuple[Setting, ...]
    reads: tuple[str, ...] | None
    writes: Mapping[str, str] | None
    frames: str | None
    accepts: tuple[str, ...] | None
    extras: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class BrokenStage:
    """A plug-in's stage that cannot be used, and why."""

    name: str
    package: str
    error: str


def stage_names() -> list[str]:
    """Return the names of all stages, sorted: files of this package and entry points; nothing is imported."""
    return sorted({*_files(), *_plug_ins()})


def find_stage(name: str) -> type[Stage]:
    """Return the class of the stage `name`, importing only its file; RecipeError with the nearest names where there is none."""
    plug_ins = _plug_ins().get(name, [])
    if name not in _files() and not plug_ins:
        known = stage_names()
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "`shardprep stages` lists them"
        raise RecipeError(f"there is no stage {name!r}; {hint}")
    if clash := _clash(name, plug_ins):
        raise RecipeError(clash)
    return _plug_in(name, plug_ins[0]) if plug_ins else _class_in_file(name)


def find_stages() -> tuple[dict[str, type[Stage]], list[BrokenStage]]:
    """Return the classes of all stages by name, sorted, and the plug-ins' stages that cannot be used; each file is imported."""
    found: dict[str, type[Stage]] = {}
    broken: list[BrokenStage] = []
    for name in stage_names():
        plug_ins = _plug_ins().get(name, [])
        clash = _clash(name, plug_ins)
        if name in _files():
            found[name] = _class_in_file(name)
        for point in plug_ins:
            try:
                if clash:
                    raise RecipeError(clash)
                kind = _plug_in(name, point)
                describe_stage(kind)
                setting_types(kind)
                found[name] = kind
            except RAISED as error:
                text = str(error) if isinstance(error, RecipeError) else f"{type(error).__name__}: {error}"
                broken.append(BrokenStage(name=name, package=_origin(point), error=text))
    return found, broken


def describe_stage(kind: type[Stage]) -> StageInfo:
    """Return what the stage says of itself, with the doc line and the unit of every setting.

    RecipeError where it declares something in another form than `Stage` says.
    """
    settings = describe_settings(kind)
    stage = None if any(setting.is_required for setting in settings) else kind()
    if stage is not None:
        check_declarations(stage)
    needs: tuple[tuple[str, str], ...] | None = _declared(kind, stage, "needs")
    frames, reads = _declared(kind, stage, "frames"), _declared(kind, stage, "reads")
    return StageInfo(
        name=stage_name(kind),
        doc=inspect.getdoc(kind) or "",
        version=kind.version,
        settings=settings,
        reads=None if reads is None else tuple(map(str, reads)),
        writes=_declared(kind, stage, "writes"),
        frames=None if frames is None else str(frames),
        accepts=_declared(kind, stage, "accepts"),
        extras=None if needs is None else tuple(dict.fromkeys(extra for _, extra in needs)),
    )


def describe_settings(kind: type) -> tuple[Setting, ...]:
    """Return the settings of a dataclass in order; () where it is none."""
    if not is_dataclass(kind):
        return ()
    docs = _field_docs(kind)
    own = [field for field in fields(kind) if field.init]
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError:
        # `setting_types` says so where the types are needed.
        hints = {}
    return tuple(
        Setting(name=f.name, type=_type_text(f, hints.get(f.name)), default=_default_of(f), unit=unit_of(f.name), doc=docs.get(f.name, ""))
        for f in own
    )


def only_required(kind: type) -> str | None:
    """Return the only setting without a default, whose name a recipe may leave out; None where there is none, or several."""
    required = [setting.name for setting in describe_settings(kind) if setting.is_required]
    return required[0] if len(required) == 1 else None


def setting_types(kind: type) -> dict[str, Any]:
    """Return the resolved annotation of every setting of a dataclass."""
    try:
        hints = get_type_hints(kind, include_extras=True) if is_dataclass(kind) else {}
    except NameError as error:
        raise RecipeError(f"{kind.__name__}: a setting's type names {error.name}, which its module does not; import it there") from error
    return {setting.name: hints[setting.name] for setting in describe_settings(kind)}


def unit_of(name: str) -> str:
    """Return the unit that a setting's name carries (`min_seconds` is in s), or an empty string."""
    return next((unit for suffix, unit in _UNITS if name == suffix or name.endswith(f"_{suffix}")), "")


@cache
def _files() -> frozenset[str]:
    names = (module.name for module in pkgutil.iter_modules(shardprep.stages.__path__) if not module.ispkg)
    return frozenset(name for name in names if not name.startswith("_") and name != __name__.rpartition(".")[2])


def _plug_ins() -> dict[str, list[importlib.metadata.EntryPoint]]:
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        # An editable install may be listed twice, from two folders of sys.path.
        if all(point.value != other.value for other in found.get(point.name, [])):
            found.setdefault(point.name, []).append(point)
    return found


def _clash(name: str, plug_ins: Sequence[importlib.metadata.EntryPoint]) -> str | None:
    """Return why a plug-in may not call its stage so, naming both sides; None where the name is free."""
    packages = [_origin(point) for point in plug_ins]
    if packages and name in RESERVED_NAMES:
        return f"{name} is a gather of shardprep itself, and {packages[0]} brings a stage {name!r}; rename that, or uninstall it"
    if len(packages) + (name in _files()) > 1:
        sides = [*(["shardprep itself"] if name in _files() else []), *packages]
        return f"several packages bring a stage {name!r}: {', '.join(sides)}; rename the stage in one, or uninstall it"
    return None


def _plug_in(name: str, point: importlib.metadata.EntryPoint) -> type[Stage]:
    try:
        found = point.load()
    except RAISED as error:
        words = f"{type(error).__name__}: {error}"
        raise RecipeError(f"stage {name}: the plug-in {_origin(point)} cannot be loaded ({words}); mend it, or uninstall it") from error
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise RecipeError(f"the entry point {name} of {_origin(point)} is no subclass of shardprep's Stage")
    if stage_name(found) != name:
        raise RecipeError(
            f"the entry point {name} of {_origin(point)} names the class {found.__name__}, a stage {stage_name(found)}; give both one name"
        )
    return found


def _class_in_file(name: str) -> type[Stage]:
    module = importlib.import_module(f"{shardprep.stages.__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Stage) and value.__module__ == module.__name__ and stage_name(value) == name:
            return value
    raise AssertionError(f"stages/{name}.py must define the stage {name}")


def _origin(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _declared(kind: type[Stage], stage: Stage | None, name: str) -> Any:
    if stage is not None:
        return getattr(stage, name)
    plain = inspect.getattr_static(kind, name)
    if isinstance(plain, property):
        is_base = plain is inspect.getattr_static(Stage, name)
        return getattr(Stage(), name) if is_base else None
    return plain


def _type_text(field: Field[Any], hint: Any) -> str:
    text = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    if get_origin(hint) is Annotated:
        base, *notes = get_args(hint)
        text = f"{inspect.formatannotation(base)}{''.join(f' ({note})' for note in notes if isinstance(note, Range))}"
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def _default_of(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _field_docs(kind: type) -> dict[str, str]:
    docs: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__):
        if is_dataclass(ancestor):
            docs |= _docs_in_source(ancestor)
    return docs


@cache
def _docs_in_source(kind: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        # A class made in a notebook or by exec has no source.
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    docs: dict[str, str] = {}
    for statement, after in itertools.pairwise(body):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            docs[statement.target.id] = inspect.cleandoc(after.value.value)
    return docs
