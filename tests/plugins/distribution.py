"""A plug-in distribution: a folder with a module and what an installer would write beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def install(site: Path, module: str, source: str, **stages: str) -> dict[str, str]:
    """Write a distribution with stages (name=class) into `site`; return the environment in which it is installed."""
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(textwrap.dedent(source))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}:{kind}\n" for name, kind in stages.items())
    (info / "entry_points.txt").write_text(f"[shardprep.stages]\n{points}")
    places = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def shardprep(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as people do."""
    command = [sys.executable, "-m", "shardprep.cli", *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
