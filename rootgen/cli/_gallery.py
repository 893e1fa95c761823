"""The committed networks, prototxt/ARCH/ROW/{train_val,deploy,solver}.prototxt: write them, or find the stale ones."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

from rootgen import paths, render, tables
from rootgen.cli.emit import checked_net
from rootgen.console import track
from rootgen.files import write_text
from rootgen.grouping import Plan

FOLDER = "prototxt"


def write(out: str | None) -> int:
    """Render every file into `out` (prototxt/ if None); a file that is up to date stays as it is."""
    folder = _folder(out)
    changed = 0
    for arch, row in track(rows(), "rendering", "networks"):
        for name, text in rendered(arch, row):
            path = folder / name
            if _content(path) != text:
                write_text(path, text)
                changed += 1
    print(f"{folder}: {changed} files written", file=sys.stderr)
    return 0


def check(out: str | None) -> int:
    """Show as a diff what `write` would change, and files that no table asks for; 1 if there is any."""
    folder = _folder(out)
    wanted = {name: text for arch, row in rows() for name, text in rendered(arch, row, check=False)}
    stale = [name for name, text in wanted.items() if _content(folder / name) != text]
    for name in stale:
        old = (_content(folder / name) or "").splitlines(keepends=True)
        new = wanted[name].splitlines(keepends=True)
        sys.stdout.writelines(difflib.unified_diff(old, new, f"{folder}/{name}", "rendered now"))
    extra = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.prototxt"))
    extra = [name for name in extra if name not in wanted]
    sys.stdout.writelines(f"{folder}/{name}: no row of any table\n" for name in extra)
    print(f"{folder}: {len(wanted)} files, {len(stale)} stale, {len(extra)} too many", file=sys.stderr)
    return 1 if stale or extra else 0


def rows() -> list[tuple[tables.Arch, str]]:
    """(architecture, row) of every row of every table."""
    return [(arch, row) for arch in tables.architectures().values() for row in arch.groups.rows]


def rendered(arch: tables.Arch, row: str, *, check: bool = True) -> Iterator[tuple[str, str]]:
    """(path below prototxt/, text) of the three files of a row; `check` the nets' shapes."""
    net = checked_net if check else render.net
    plan = Plan.named(row)
    at = f"{arch.name}/{tables.row_folder(row)}"
    for phase in render.PHASES:
        yield f"{at}/{phase}.prototxt", net(arch, plan, render.NetOptions(phase=phase))
    options = render.SolverOptions(net=f"{FOLDER}/{at}/train_val.prototxt")
    yield f"{at}/solver.prototxt", render.solver(arch, plan, options)


def _folder(out: str | None) -> Path:
    return Path(out) if out else paths.resource(FOLDER)


def _content(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None
