"""The networks of the paper, kept: prototxt/ARCH/ROW/{train_val,deploy,solver}.prototxt, and data/networks.csv.

prototxt/ has the architectures that data/architectures.csv marks as rendered. networks.csv has every row of every
architecture: what its deploy net costs, and the sha256 of its three files, which keeps them golden too where they are
emitted on demand alone. `write` makes both, `staleness` finds what in them is not as it would be made now.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rootgen import paths
from rootgen.files import write_text
from rootgen.generator import render
from rootgen.generator.architectures import Arch, architectures, row_folder
from rootgen.grouping import Plan
from rootgen.paper.emit import checked_net
from rootgen.paper.tables import RECORDS, NetworkRecord, recorded
from rootgen.progress import Report, silent, tracked

FOLDER = "prototxt"


@dataclass(frozen=True)
class Staleness:
    """What is not as the tables and templates make it now.

    stale: files to render anew. extra: files that no row asks for. records: rows of networks.csv that differ, lack or
    are too many. diff: all of it, as text.
    """

    files: int
    stale: tuple[str, ...]
    extra: tuple[str, ...]
    records: tuple[str, ...]
    diff: str

    def __bool__(self) -> bool:
        return bool(self.stale or self.extra or self.records)


def write(folder: Path, report: Report = silent, *, records: Path | None = None) -> int:
    """Render every file into `folder` and, if a file for `records` is given, write networks.csv there.

    How many files were written: one that is up to date stays as it is.
    """
    wanted: dict[Path, str] = {}
    lines = [NetworkRecord.header()]
    for arch, row in tracked([each for each in rows() if each[0].rendered or records], "rendering", report):
        files = dict(rendered(arch, row))
        if arch.rendered:
            wanted |= {folder / name: text for name, text in files.items()}
        if records:
            lines.append(record(arch, row, files).line)
    if records:
        wanted[records] = "".join(lines)
    changed = [path for path, text in wanted.items() if _content(path) != text]
    for path in changed:
        write_text(path, wanted[path], durable=False)
    return len(changed)


def staleness(folder: Path, report: Report = silent) -> Staleness:
    """What `write` would change in `folder` and in networks.csv, and files that no table asks for."""
    wanted: dict[str, str] = {}
    made: dict[str, str] = {}
    for arch, row in tracked(rows(), "rendering", report):
        files = dict(rendered(arch, row, check=False))
        if arch.rendered:
            wanted |= files
        made[f"{arch.name} {row}"] = record(arch, row, files).line
    stale = tuple(name for name, text in wanted.items() if _content(folder / name) != text)
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.prototxt"))
    extra = tuple(name for name in found if name not in wanted)
    kept = {f"{arch} {row}": known.line for (arch, row), known in recorded().items()}
    differing = tuple(key for key in dict.fromkeys([*made, *kept]) if made.get(key) != kept.get(key))
    parts = [_diff(_content(folder / name) or "", wanted[name], f"{folder}/{name}") for name in stale]
    parts += [f"{folder}/{name}: no row of any table\n" for name in extra]
    parts += [_diff(kept.get(key, ""), made.get(key, ""), f"{RECORDS}: {key}") for key in differing]
    return Staleness(len(wanted), stale, extra, differing, "".join(parts))


def rows() -> list[tuple[Arch, str]]:
    """(architecture, row) of every row of every architecture."""
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


def record(arch: Arch, row: str, files: dict[str, str]) -> NetworkRecord:
    """What networks.csv says of a row whose three `files` are these."""
    from rootgen.net import cost
    from rootgen.net.load import load_text

    texts = {Path(name).stem: text for name, text in files.items()}
    total = cost.count(load_text(texts["deploy"]))
    sums = {name: sha256(text.encode()).hexdigest() for name, text in texts.items()}
    return NetworkRecord(arch.name, row, total.params, total.macs, **sums)


def folder() -> Path | None:
    """The committed networks' own folder, prototxt/ of a checkout; None where rootgen is installed without one."""
    checkout = paths.PACKAGE.parent
    return checkout / FOLDER if (checkout / FOLDER).is_dir() and (checkout / "templates").is_dir() else None


def _content(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def _diff(old: str, new: str, name: str) -> str:
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after, name, "rendered now"))
