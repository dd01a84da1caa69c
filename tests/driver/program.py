"""A whole run as a program, so that it can be killed: `python -m tests.driver.program VIDEOS OUTPUT [NAME=VALUE …]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shardprep.driver.model import RunOptions
from shardprep.driver.run import run
from tests.driver.killing import install
from tests.driver.recipes import real

# Worker processes import this module again, and are to be watched too.
install()

if __name__ == "__main__":
    videos, output, *words = sys.argv[1:]
    settings = {name: json.loads(value) for name, _, value in (word.partition("=") for word in words)}
    retry = settings.pop("retry", False)
    run(real(Path(videos), Path(output), **settings), RunOptions(retry=retry))
