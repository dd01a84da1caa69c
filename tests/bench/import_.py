"""How long `import shardprep` and `shardprep --help` take, and that neither loads what is heavy."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

from tests.bench.measure import ROOT, machine, take_turns

IMPORT, HELP, NOTHING = "import shardprep", "shardprep --help", "python -c pass"
BOUNDS = {IMPORT: 0.3, HELP: 0.6}
HEAVY = {"torch", "ray", "webdataset", "transformers", "diffusers", "open_clip"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    commands = {
        NOTHING: [sys.executable, "-c", "pass"],
        IMPORT: [sys.executable, "-c", "import shardprep"],
        HELP: [str(Path(sys.executable).parent / "shardprep"), "--help"],
    }
    print(f"bench-import: whole processes, the interpreter's own start included; {machine()}")
    turns = take_turns({name: lambda words=words: _run(words) for name, words in commands.items()}, 1 if options.quick else options.rounds)
    seconds = {name: median(cost.wall for cost in costs) for name, costs in turns.items()}
    for name, bound in BOUNDS.items():
        loaded = _modules(name)
        print(f"{name}: {seconds[name]:.3f} s (at most {bound}), {len(loaded)} modules, of these heavy: {sorted(loaded & HEAVY) or 'none'}")
        if loaded & HEAVY:
            raise SystemExit(f"{name} imports {sorted(loaded & HEAVY)}")
    print(f"seconds {seconds[IMPORT]:.3f} import, {seconds[HELP]:.3f} help")


def _run(words: list[str]) -> None:
    subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _modules(name: str) -> set[str]:
    """Return the top-level modules that the process has loaded at its end."""
    body = "import shardprep" if name == IMPORT else "import shardprep.cli.app as app\ntry: app.main()\nexcept SystemExit: pass"
    program = (
        f"import sys; sys.argv[1:] = ['--help']\n{body}\nprint('\\n' + ' '.join(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


if __name__ == "__main__":
    main()
