"""The house: who may import whom (the table in CONTRIBUTING.md), no circles, and heavy modules that come late."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rootgen

PACKAGE = Path(rootgen.__file__).parent
HOUSE = PACKAGE.parent / "CONTRIBUTING.md"
FREE = {"errors", "text"}  # what every room may import, as the table's head says
DOORS = {"__init__", "__main__"}  # the face opens every room, late
HEAVY = {"torch", "caffe", "matplotlib", "lmdb", "rich", "numpy", "cv2", "h5py", "onnx", "onnxruntime", "scipy"}
LIGHT = (
    "import rootgen; dir(rootgen)",
    "import rootgen.cli",
    "from rootgen.net import load, shapes, cost",
    "import rootgen; rootgen.emit('nin'); rootgen.solver('nin')",
    "from rootgen import emit, parse, transform; transform(parse(emit('nin', phase='deploy')), root=8).net.cost()",
)


def rooms(text: str) -> dict[str, set[str]]:
    """Room -> what it may import, from the table whose head begins `| room | may import`."""
    (head,) = re.findall(r"^\| room \| may import.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    table: dict[str, set[str]] = {}
    for line in head.splitlines():
        names, allowed = (cell.strip() for cell in line.strip("|").split("|"))
        for name in names.split(", "):
            if allowed.startswith("everything"):
                table[name] = {"everything", *(f"not {word}" for word in allowed.split(" but ")[1:])}
            else:
                table[name] = set(allowed.split(", ")) - {"-"}
    return table


def names(path: Path) -> str:
    """Dotted name of a module below the package: `net.layers.vision`; a package by its folder."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {names(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Names of this package's modules that a module imports anywhere in it: in functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("rootgen.") for alias in node.names if alias.name.startswith("rootgen.")}
        if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] != "rootgen":
            continue
        base = (node.module or "").removeprefix("rootgen").removeprefix(".")
        for alias in node.names:
            full = f"{base}.{alias.name}".removeprefix(".")
            found.add(full if full in MODULES else base or "__init__")
    return found


def forbidden(module: str, table: dict[str, set[str]]) -> Iterator[str]:
    """What `module` imports and its room may not."""
    room = module.partition(".")[0]
    allowed = table[room] | FREE | {room}
    for name in sorted(imported(MODULES[module]) - {"__init__"}):
        other = name.partition(".")[0]
        whole = "everything" in allowed and f"not {other}" not in allowed
        if not (whole or other in allowed or any(name == one or name.startswith(f"{one}.") for one in allowed)):
            yield name


TABLE = rooms(HOUSE.read_text("utf-8"))


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.rpartition(".")[2] not in DOORS))
def test_rooms_import_what_the_table_allows(module):
    assert list(forbidden(module, {**TABLE, "errors": set()})) == []


def test_every_room_is_in_the_table_and_in_the_package():
    there = {name.partition(".")[0] for name in MODULES} - DOORS - {"errors"}
    assert set(TABLE) == there


def test_the_wall():
    """What makes networks and what counts them meet only at prototxt text: paper and cli alone see both."""
    both = {room for room, allowed in TABLE.items() if {"generator", "net"} <= allowed or "everything" in allowed}
    assert both == {"paper", "cli"}


def test_no_circles():
    waiting = {name: imported(path) & set(MODULES) - {name} for name, path in MODULES.items()}
    while free := [name for name, others in waiting.items() if not others & set(waiting)]:
        for name in free:
            del waiting[name]
    assert waiting == {}


def test_a_broken_line_of_the_table_is_found():
    table = {**TABLE, "net": TABLE["net"] - {"proto"}}
    assert "proto" in {name.partition(".")[0] for name in forbidden("net.read", table)}


def brought(program: str) -> list[str]:
    """The heavy modules that `program` leaves loaded, in a fresh process."""
    told = f"import sys; {program}; print(*(name for name in {sorted(HEAVY)} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return done.stdout.split()


@pytest.mark.parametrize("statement", LIGHT)
def test_light_imports_bring_no_heavy_module(statement):
    assert brought(statement) == []


def test_the_face_alone_brings_nothing_of_the_package():
    told = "import rootgen, sys; rootgen.Plan.of; print(*(name for name in sys.modules if name.startswith('rootgen.')))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == ["rootgen.errors", "rootgen.compound", "rootgen.grouping"]


def test_emit_brings_no_heavy_module():
    assert brought("from rootgen.cli import main; main(['emit', 'nin', '-o', '/dev/null'])") == []


@pytest.mark.torch
def test_the_torch_room_opens_late_and_by_its_name():
    assert brought("import rootgen; rootgen.torch.load") == ["numpy", "torch"]


def test_the_torch_room_says_what_it_lacks():
    told = "import sys; sys.modules['torch'] = None; import rootgen; rootgen.torch"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert done.stderr.endswith("ModuleNotFoundError: rootgen.torch needs PyTorch: pip install rootgen[torch]\n")
