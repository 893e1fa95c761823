"""The committed networks, prototxt/ARCH/ROW/{train_val,deploy,solver}.prototxt: write them, or find the stale ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rootgen import paths
from rootgen.files import write_text
from rootgen.generator import render
from rootgen.generator.architectures import Arch, architectures, row_folder
from rootgen.grouping import Plan
from rootgen.paper.emit import checked_net
from rootgen.progress import Report, silent, tracked

FOLDER = "prototxt"


@dataclass(frozen=True)
class Staleness:
    """What differs between a folder and the tables: files to render anew, files that no row asks for, the diff."""

    files: int
    stale: tuple[str, ...]
    extra: tuple[str, ...]
    diff: str


def write(folder: Path, report: Report = silent) -> int:
    """Render every file into `folder`; how many were written: one that is up to date stays as it is."""
    changed = 0
    for arch, row in tracked(rows(), "rendering", report):
        for name, text in rendered(arch, row):
            path = folder / name
            if _content(path) != text:
                write_text(path, text, durable=False)
                changed += 1
    return changed


def staleness(folder: Path) -> Staleness:
    """What `write` would change in `folder`, and files that no table asks for."""
    wanted = {name: text for arch, row in rows() for name, text in rendered(arch, row, check=False)}
    stale = tuple(name for name, text in wanted.items() if _content(folder / name) != text)
    lines: list[str] = []
    for name in stale:
        old = (_content(folder / name) or "").splitlines(keepends=True)
        new = wanted[name].splitlines(keepends=True)
        lines += difflib.unified_diff(old, new, f"{folder}/{name}", "rendered now")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.prototxt"))
    extra = tuple(name for name in found if name not in wanted)
    lines += [f"{folder}/{name}: no row of any table\n" for name in extra]
    return Staleness(len(wanted), stale, extra, "".join(lines))


def rows() -> list[tuple[Arch, str]]:
    """(architecture, row) of every row of every table."""
    return [(arch, row) for arch in architectures().values() for row in arch.groups.rows]


def rendered(arch: Arch, row: str, *, check: bool = True) -> Iterator[tuple[str, str]]:
    """(path below prototxt/, text) of the three files of a row; `check` the nets' shapes."""
    net = checked_net if check else render.net
    plan = Plan.named(row)
    at = f"{arch.name}/{row_folder(row)}"
    for phase in render.PHASES:
        yield f"{at}/{phase}.prototxt", net(arch, plan, render.NetOptions(phase=phase))
    options = render.SolverOptions(net=f"{FOLDER}/{at}/train_val.prototxt")
    yield f"{at}/solver.prototxt", render.solver(arch, plan, options)


def folder() -> Path:
    """The committed networks' own folder."""
    return paths.resource(FOLDER)


def _content(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None
