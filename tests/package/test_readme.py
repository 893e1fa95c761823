"""The commands of README and of pages in docs/ work, in the page's order, and print what the page shows.

A ```console block holds `$ command` lines, each followed by what it prints; `...` on a line of its own stands for
any lines, and within a line for any text. A block after `<!-- not run: reason -->` is for reading only, one after
`<!-- file: name -->` is put into that file first.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n+)?```console\n(.*?)```", re.DOTALL)

FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
PAGES = ("README.md", "docs/your-own-net.md", "docs/weights.md", "docs/heterogeneous.md")


def commands(page: str) -> list[tuple[str, str]]:
    """(command, expected output) of every block that is run, in order."""
    found = []
    for skipped, body in BLOCK.findall((ROOT / page).read_text("utf-8")):
        if not skipped:
            parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", body, flags=re.MULTILINE)
            found += list(zip(parts[1::2], parts[2::2], strict=True))
    return found


def as_pattern(expected: str) -> str:
    """A regular expression for an expected output with its `...`."""
    lines = [r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
             for line in expected.splitlines()]  # fmt: skip
    return "".join(lines)


@pytest.mark.torch
@pytest.mark.parametrize("page", PAGES)
def test_commands_print_what_the_page_shows(page: str, tmp_path: Path) -> None:
    assert commands(page)
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install rootgen[onnx]")
    for name, content in FILE.findall((ROOT / page).read_text("utf-8")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rootgen").write_text(f'#!/bin/sh\nexec {sys.executable} -m rootgen "$@"\n')  # this checkout's
    (tmp_path / "bin/rootgen").chmod(0o755)
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    environment["OMP_NUM_THREADS"] = "1"  # several threads would wait for each other where other tests run beside
    for command, expected in commands(page):
        done = subprocess.run(
            ["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert re.fullmatch(as_pattern(expected), done.stdout), f"{command}\nprints\n{done.stdout}\n{done.stderr}"
