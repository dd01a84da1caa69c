"""The shape of the house: floors, import costs, sizes, pinned versions and what must not be in the tree."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "shardprep"
HEAVY = ("torch", "ray", "webdataset", "transformers", "diffusers", "open_clip")
LARGE = ("av", "cv2", "duckdb", "fsspec", "numpy", "pyarrow", "scenedetect")
ROOMS = sorted(
    path.name
    for path in PACKAGE.iterdir()
    if (path.is_dir() and (path / "__init__.py").exists()) or (path.suffix == ".py" and path.name != "__main__.py")
)
TOP_LEVEL = (
    "CHANGELOG.md CONTRIBUTING.md LICENSE Makefile NOTICE README.md constraints.txt docs examples pyproject.toml recipes shardprep tests"
).split()


def sources() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))


def parsed() -> Iterator[tuple[Path, ast.AST]]:
    for path in sources():
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


# --- floors


@pytest.fixture
def little_house(tmp_path: Path) -> Path:
    """A package with one empty module per room, under the floors of pyproject.toml."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for room in ROOMS:
        path = tmp_path / "shardprep" / room
        if room.endswith(".py"):
            path.parent.mkdir(exist_ok=True)
            path.write_text("")
        else:
            path.mkdir(parents=True)
            (path / "__init__.py").write_text("")
            (path / "thing.py").write_text("")
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # In a process of its own: grimp imports the package to find it.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_an_empty_house_stands(little_house: Path) -> None:
    result = lint(little_house)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("core/thing.py", "import shardprep.media.thing", "A floor imports only"),
        ("errors.py", "import shardprep.core.thing", "A floor imports only"),
        ("stages/thing.py", "import shardprep.shards.thing", "A floor imports only"),
        ("models/thing.py", "import shardprep.media.thing", "A floor imports only"),
        ("gather/thing.py", "import shardprep.executors.thing", "A floor imports only"),
        ("executors/thing.py", "import shardprep.stages.thing", "Runtime and executors know no stage"),
        ("runtime/thing.py", "def late():\n    import shardprep.stages.thing", "Runtime and executors know no stage"),
        ("core/thing.py", "import numpy", "Core and errors import no library"),
        ("stages/thing.py", "import duckdb", "Only expressions knows DuckDB"),
        ("sources/thing.py", "import tarfile", "Only shards knows tar"),
    ],
)
def test_a_forbidden_import_is_found(little_house: Path, room: str, line: str, contract: str) -> None:
    (little_house / "shardprep" / room).write_text(f"{line}\n")
    result = lint(little_house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(rf"{contract}.* BROKEN", result.stdout)


def test_a_cycle_is_found(little_house: Path) -> None:
    (little_house / "shardprep/core/thing.py").write_text("import shardprep.core.other\n")
    (little_house / "shardprep/core/other.py").write_text("import shardprep.core.thing\n")
    assert "No import cycles inside a package BROKEN" in lint(little_house).stdout


def test_a_new_room_needs_a_floor(little_house: Path) -> None:
    (little_house / "shardprep/attic.py").write_text("")
    result = lint(little_house)
    assert result.returncode == 1
    assert "attic" in result.stdout


# --- what an import costs


def imported_by(code: str) -> set[str]:
    """Return the top-level modules that `code` leaves imported in a new interpreter."""
    program = f"import json, sys\n{code}\nprint('\\n' + json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_large() -> None:
    assert not imported_by("import shardprep") & {*HEAVY, *LARGE}


def test_help_imports_nothing_large() -> None:
    code = (
        "sys.argv = ['shardprep', '--help']\nfrom shardprep.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    modules = imported_by(code)
    assert "rich" in modules
    assert not modules & {*HEAVY, *LARGE}


def test_stages_are_listed_without_heavy_libraries() -> None:
    code = (
        "from shardprep.stages.catalogue import describe_stage, find_stage, stage_names\n"
        "assert [describe_stage(find_stage(n)) for n in stage_names()]"
    )
    assert not imported_by(code) & {*HEAVY, "av", "cv2", "scenedetect"}


# --- sizes and names


def test_files_stop_at_400_lines() -> None:
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


def test_functions_stop_at_50_lines() -> None:
    long = {
        f"{path}:{node.name}": lines
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (lines := (node.end_lineno or 0) - node.lineno + 1) > 50
    }
    assert not long


def test_inits_are_empty_except_the_top_one() -> None:
    assert not [str(p.relative_to(ROOT)) for p in sources() if p.name == "__init__.py" and p.parent != PACKAGE and p.read_text().strip()]


def test_every_package_folder_is_a_package() -> None:
    assert not [str(p.relative_to(ROOT)) for p in sources() if not (p.parent / "__init__.py").exists()]


def test_no_room_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "processor"}
    assert not [str(p.relative_to(ROOT)) for p in sources() if vague & {p.stem, p.parent.name}]


def test_suppressions_have_a_code_and_a_reason() -> None:
    good = re.compile(r"# (noqa: [A-Z]+\d+(, ?[A-Z]+\d+)*|type: ignore\[[a-z, -]+\])\s+#? ?\w")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"#\s*(noqa|type:\s*ignore)", line) and not good.search(line)
    ]
    assert not found


def test_the_top_level_holds_only_what_is_agreed() -> None:
    # PKG-INFO is what an sdist has besides.
    made = {"build", "dist", "PKG-INFO"}
    assert {p.name for p in ROOT.iterdir() if not p.name.startswith(".")} - made == set(TOP_LEVEL)


# --- data never runs code


def test_no_pickle_no_shell_no_torchscript_no_remote_code() -> None:
    found = [f"{path}:{node.lineno}: {why}" for path, tree in parsed() for node in ast.walk(tree) for why in dangers(node)]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.jit.load(path)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
        "os.system(text)",
    ],
)
def test_dangers_are_seen(line: str) -> None:
    assert [why for node in ast.walk(ast.parse(line)) for why in dangers(node)]


def dangers(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (f"imports {alias.name}" for alias in names if alias.name in ("pickle", "dill", "marshal", "shelve"))
        case ast.ImportFrom(module=("pickle" | "dill" | "marshal" | "shelve") as module):
            yield f"imports {module}"
        case ast.Call(func=ast.Name(id=("eval" | "exec") as name)):
            yield f"calls {name}"
        case ast.Call(func=ast.Attribute() as function, keywords=keywords):
            yield from _dangerous_call(ast.unparse(function), {k.arg: ast.unparse(k.value) for k in keywords})


def _dangerous_call(name: str, keywords: dict[str | None, str]) -> Iterator[str]:
    if name == "torch.load" and keywords.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if name in ("torch.jit.load", "os.system", "os.popen"):
        yield f"calls {name}"
    if keywords.get("trust_remote_code", "False") != "False" or keywords.get("shell", "False") != "False":
        yield f"{name} with trust_remote_code or shell"


# --- versions


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)], "names and versions only"
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_what_make_installs_is_pinned_to_a_version_that_pyproject_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(r) for r in [*project["dependencies"], *(r for e in ("models", "decord", "s3", "dev") for r in extras[e])]]
    pinned = pins()
    assert not [str(r) for r in wanted if canonicalize_name(r.name) not in pinned or pinned[canonicalize_name(r.name)] not in r.specifier]


def test_every_extra_but_dev_is_in_all() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert Requirement(extras["all"][0]).extras == set(extras) - {"all", "dev"}


def test_opencv_is_the_headless_one() -> None:
    strangers = {"opencv-python", "opencv-contrib-python"}
    assert not strangers & pins().keys()
    assert not strangers & {canonicalize_name(d.metadata["Name"]) for d in importlib.metadata.distributions()}


def test_contributing_names_the_floors_in_their_order() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
    floors = [set(re.findall(r"\w+", layer)) for layer in reversed(settings["layers"])]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    said = text.partition("`[tool.importlinter]`): ")[2].partition(". A new package")[0]
    assert [set(re.findall(r"\w+", floor.replace(" and ", " "))) for floor in said.replace("\n", " ").split(",")] == floors
    assert set().union(*floors) | {"__init__"} == {room.removesuffix(".py") for room in ROOMS}, (
        "every room has its floor, every floor a room"
    )


WRITERS = {
    "shardprep/shards/local.py": "the store's local half",
    "shardprep/shards/remote.py": "the store's remote half: a copy on its way",
    "shardprep/runtime/held_memory.py": "what a worker held before it worked, beside its journal",
    "shardprep/runtime/journal.py": "the calls in progress, in the folder for temporary files",
    "shardprep/executors/run_folder.py": "the lock of that folder",
    "shardprep/media/tonemap.py": "a curve that ffmpeg reads from a file, temporary",
    "shardprep/models/weights.py": "remembered digests, in the cache",
    "shardprep/core/streams.py": "nothing: it leads streams that are closed to the null device",
    "shardprep/cli/starting.py": "a new recipe, where the user stands",
}
"""Files that write something by other means than the store, and what."""


def test_files_are_written_where_it_is_said() -> None:
    found = {str(path) for path, tree in parsed() for node in ast.walk(tree) if isinstance(node, ast.Call) and writes(node)}
    assert {path for path in found if not path.startswith("shardprep/testing/")} == set(WRITERS)


def writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    if name in ("write_text", "write_bytes", "NamedTemporaryFile", "mkstemp"):
        return True
    flags = {node.attr for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Attribute)}
    modes = [node.value for node in call.args[:2] if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return name == "open" and (
        bool(flags & {"O_WRONLY", "O_RDWR"}) or any(re.fullmatch(r"[rwax]?b?\+?b?", m) and set(m) & set("wax+") for m in modes)
    )
