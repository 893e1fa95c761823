"""The wall: what makes networks and what counts them meet only at prototxt text, and heavy modules come late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rootgen

PACKAGE = Path(rootgen.__file__).parent
MAKERS = {"grouping", "tables", "render"}
COUNTERS = {"net", "shapes", "shape_rules", "layer_types", "upgrade", "cost", "memory", "engine"}
JOINERS = {"cli", "paper", "errata", "reproduce", "transform"}  # may know both sides: they pass text between them
HEAVY = {"torch", "caffe", "matplotlib", "lmdb", "rich", "numpy", "cv2", "h5py"}
LIGHT = ("import rootgen", "import rootgen.cli", "import rootgen.cli.emit", "from rootgen import net, shapes, cost")


def imported(module: Path) -> set[str]:
    """Names of this package's modules that a module imports anywhere in it, functions included."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "rootgen":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rootgen."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("rootgen.")}
    return found


def modules(names: set[str]) -> list[Path]:
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in names
    ]


@pytest.mark.parametrize("module", modules(MAKERS), ids=lambda path: path.stem)
def test_makers_do_not_know_the_counters(module):
    assert imported(module) <= MAKERS | {"errors", "paths"}


@pytest.mark.parametrize("module", modules(COUNTERS), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_counters_do_not_know_the_makers(module):
    assert not imported(module) & (MAKERS | JOINERS)


def test_every_other_module_stays_on_one_side():
    both = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        if imported(path) & MAKERS and imported(path) & COUNTERS
    }
    assert both <= JOINERS


@pytest.mark.parametrize("statement", LIGHT)
def test_light_imports_bring_no_heavy_module(statement):
    program = f"import sys; {statement}; print(*(name for name in {sorted(HEAVY)} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.split() == []


def test_emit_brings_no_heavy_module():
    program = (
        "import sys; from rootgen.cli import main; main(['emit', 'nin', '-o', '/dev/null']); "
        f"print(*(name for name in {sorted(HEAVY)} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.split() == []
