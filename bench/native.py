"""The C programs of this folder, built on the spot."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


def build(name: str) -> Path:
    """Compile bench/NAME.c with cc unless the program is newer than its sources; returns the program's path."""
    source, header, program = HERE / f"{name}.c", HERE / "netbench.h", HERE / "build" / name
    newest = max(source.stat().st_mtime, header.stat().st_mtime)
    if not program.exists() or program.stat().st_mtime < newest:
        program.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", *FLAGS, "-o", str(program), str(source)], check=True)
    return program
