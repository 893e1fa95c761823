"""What an experiment left in its folder, finished or not, for its report: whatever is there and whole.

Nothing here raises for what is damaged or wanting: that is told in words, which the report shows.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootgen.engine.read_log import read_log
from rootgen.errors import RootgenError
from rootgen.files import read_bytes
from rootgen.generator.architectures import Arch, architectures, row_folder
from rootgen.paper import curves, results, run_folder, tables
from rootgen.paper.page import Image
from rootgen.progress import Report
from rootgen.proto import prototxt, schema
from rootgen.text import Table

MOST_IMAGE = 2**23  # bytes of one picture, and
MOST_IMAGES = 2**26  # of all that a report takes in
LARGE_SVG = 2**20  # for which a PNG stands in, if there is one
MOST_CSV = 2**20
TIMED = "times/table.csv"
_COLUMNS = {  # of the table of times that are shown, and what they are called
    "model": "row",
    **{"params": "parameters", "params_share": "share", "params_share_paper": "paper's"},
    **{"macs": "multiply-adds", "macs_share": "share", "flops_share_paper": "paper's"},
    **{
        f"{kind}_{name}": head
        for kind, word in (("cpu", "CPU"), ("gpu", "GPU"))
        for name, head in {
            "ms": f"{word} ms", "share": "share", "share_low": "from", "share_high": "to", "share_paper": "paper's"
        }.items()
    },
    **{f"{name}_paper": f"paper's {word}" for name, word in tables.ACCURACIES.items()},
}  # fmt: skip
_SEED = re.compile(r"seed-([1-9][0-9]{0,9})")
_SIGNATURES = {"png": b"\x89PNG\r\n", "svg": b"<"}

log = logging.getLogger("rootgen")


@dataclass
class Evidence:
    """Settings, results, histories of the runs by row, tables and pictures; `missing`: what is wanting, in sentences.

    runs: row -> seed -> what its log tells, empty where it has none.
    """

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    arch: Arch | None = None
    results: list[results.RunResult] = field(default_factory=list)
    runs: dict[str, dict[int, curves.History]] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    timed: Table | None = None
    figures: list[Image] = field(default_factory=list)
    correlation: list[Image] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def gather(folder: str | Path, report: Report | None = None) -> Evidence:
    """What is in `folder`; RootgenError where that is no folder, or holds nothing of an experiment."""
    found = Evidence(Path(folder))
    if not found.folder.is_dir():
        what = "is no folder" if found.folder.exists() else "there is no such folder"
        raise RootgenError(what, where=folder, hint="the --out of rootgen reproduce is meant")
    _take_timed(found)
    _take_settings(found)
    _take_results(found)
    _take_runs(found, report)
    _take_times(found)
    _take_figures(found)
    if not (found.timed or found.settings or found.results or found.runs or found.times):
        raise RootgenError("holds no experiment", where=folder, hint="the --out of rootgen reproduce is meant")
    return found


def _leave_out(found: Evidence, path: Path, error: Exception) -> None:
    """Say in the report, and in the log, why the file `path` is not in it."""
    name, why = path.relative_to(found.folder), error.what if isinstance(error, RootgenError) else error
    found.missing.append(f"{name} is left out: {why}.")
    log.warning("%s: %s; the report leaves it out", path, why)


def _take_settings(found: Evidence) -> None:
    path = found.folder / "settings.json"
    if not path.exists():
        if not found.timed:
            found.missing.append("settings.json is not there: what the runs were asked for is not known.")
        return
    try:
        found.settings = run_folder.settings(path, ())
    except RootgenError as error:
        _leave_out(found, path, error)
    found.arch = architectures().get(str(found.settings.get("arch"))) or found.arch


def _take_results(found: Evidence) -> None:
    path = found.folder / "results.csv"
    if not path.exists():
        if any(_run_folders(found)) or not found.timed:
            found.missing.append("results.csv is not there yet.")
        return
    try:
        found.results = results.load(path)
    except RootgenError as error:
        _leave_out(found, path, error)
        return
    found.arch = found.arch or architectures().get(found.results[0].architecture)


def _take_runs(found: Evidence, report: Report | None) -> None:
    """The logs of all runs, and which of them are not finished."""
    folders = list(_run_folders(found))
    told = {(one.model, one.seed) for one in found.results}
    for number, (row, seed, folder) in enumerate(folders):
        found.runs.setdefault(row, {})[seed] = {}
        logs = [path for path in sorted(folder.glob("*_log.csv")) if path.is_file()]
        for path in logs:
            try:
                found.runs[row][seed] = curves.history(read_log(path))
            except RootgenError as error:
                _leave_out(found, path, error)
        if (row, seed) not in told:
            found.missing.append(f"{row} seed {seed} is {_state(folder, found.runs[row][seed])}.")
        if report:
            report("read logs", number + 1, len(folders))
    seeds = {seed for runs in found.runs.values() for seed in runs}
    for row, runs in found.runs.items():
        if seeds - set(runs):
            wanting = ", ".join(map(str, sorted(seeds - set(runs))))
            found.missing.append(f"{row} has no run of seed {wanting}.")


def _run_folders(found: Evidence) -> Iterator[tuple[str, int, Path]]:
    """(row, seed, folder) of every run begun, rows in the table's order and others behind them."""
    rows = list(found.arch.groups.rows) if found.arch else []
    names = {row_folder(row): row for row in rows}
    entries = sorted(path for path in found.folder.glob("*/seed-*") if path.is_dir() and _SEED.fullmatch(path.name))
    runs = [(names.get(path.parent.name, path.parent.name), int(path.name[5:]), path) for path in entries]
    place = {row: number for number, row in enumerate(rows)}
    yield from sorted(runs, key=lambda run: (place.get(run[0], len(rows)), run[0], run[1]))


def _state(folder: Path, history: curves.History) -> str:
    """How far a run is that results.csv does not have."""
    if (folder / "trained.json").exists():
        correlated = (folder / "correlation" / "scores.csv").exists()
        return "finished, but not put into results.csv" if correlated else "trained, but not correlated"
    iterations = history[curves.LOSS][0].tolist() if history else []
    if not iterations:
        return "begun, but not trained"
    try:
        end = f" of {prototxt.read(folder / 'solver.prototxt', schema.SolverParameter).max_iter}"
    except RootgenError:
        end = ""
    return f"not finished: iteration {iterations[-1] + 1}{end}"


def _take_times(found: Evidence) -> None:
    path = found.folder / "times.json"
    if not path.exists():
        if found.results:
            found.missing.append("times.json is not there: the nets were not timed.")
        return
    try:
        found.times = run_folder.times(path, run_folder.times(path, ()))
    except RootgenError as error:
        _leave_out(found, path, error)


def _take_timed(found: Evidence) -> None:
    """times/table.csv of rows that were counted and timed: what is the same of all of them is in its title."""
    path = found.folder / TIMED
    if not path.exists():
        return
    try:
        text = read_bytes(path, most=MOST_CSV).decode("utf-8", "replace").replace("\0", "?")
        rows = list(csv.DictReader(text.splitlines()))
        if not rows or any(None in row or None in row.values() for row in rows) or "model" not in rows[0]:
            raise RootgenError("no table of times, or damaged", where=path)
    except (RootgenError, csv.Error) as error:
        _leave_out(found, path, error)
        return
    shown = {name: _COLUMNS[name] for name in rows[0] if name in _COLUMNS and any(row[name] for row in rows)}
    same = {name: rows[0][name] for name in rows[0] if name.endswith(("_device", "_engine", "_batch", "crop"))}
    told = [f"{name.replace('_', ' ')}: {value}" for name, value in same.items() if value]
    cells = [[_cell(name, row[name]) for name in shown] for row in rows]
    found.timed = Table(list(shown.values()), cells, "; ".join(["forward, per image; shares of Orig.", *told]))
    found.arch = found.arch or architectures().get(rows[0].get("architecture", ""))


def _cell(name: str, text: str) -> str:
    """A cell of the table of times: shares in percent, times to four digits."""
    try:
        if "_share" in name:
            return f"{float(text):.1%}"
        return f"{float(text):.4g}" if name.endswith("_ms") else f"{int(text):,}"
    except ValueError:
        return text or "-"


def _take_figures(found: Evidence) -> None:
    """What lies in plots/; where no picture there is of correlations, those of one run of each row."""
    drawn = _best([*found.folder.glob("plots/*"), *found.folder.glob("times/*")])
    grids = [path for path in drawn if "correlation" in path.stem.lower()]
    found.figures = _images(found, [path for path in drawn if path not in grids])
    found.correlation = _images(found, grids or list(_of_one_seed(found)))
    if not drawn and not found.timed:
        found.missing.append("plots/ has no figure yet: they are drawn when the runs are finished.")


def _of_one_seed(found: Evidence) -> Iterator[Path]:
    """Each row's correlation on test images, of the first seed that has it."""
    seen: set[str] = set()
    for row, _, folder in _run_folders(found):
        pictures = _best(folder.glob("correlation/*")) or _best(folder.glob("correlation/test/*"))
        if pictures and row not in seen:
            seen.add(row)
            yield from pictures[:1]


def _best(paths: Iterable[Path]) -> list[Path]:
    """Of each picture the one file that suits a page: SVG, unless that is large, else PNG."""
    stems: dict[Path, dict[str, Path]] = {}
    for path in sorted(paths):
        if path.suffix in (".svg", ".png") and path.is_file():
            stems.setdefault(path.with_suffix(""), {})[path.suffix] = path
    return [
        kinds[".svg"] if ".svg" in kinds and (".png" not in kinds or kinds[".svg"].stat().st_size < LARGE_SVG)
        else kinds[".png"]
        for kinds in stems.values()
    ]  # fmt: skip


def _images(found: Evidence, paths: list[Path]) -> list[Image]:
    taken = sum(len(image.content) for image in (*found.figures, *found.correlation))
    images = []
    for path in paths:
        name = str(path.relative_to(found.folder))
        try:
            content = read_bytes(path, most=MOST_IMAGE)
            taken += len(content)
            if taken > MOST_IMAGES:
                raise RootgenError("there are more pictures than a page takes", where=path)
            if not content.lstrip().startswith(_SIGNATURES[path.suffix[1:]]):
                raise RootgenError("is no picture", where=path)
        except RootgenError as error:
            _leave_out(found, path, error)
            continue
        parts = path.relative_to(found.folder).with_suffix("").parts
        images.append(Image("-".join(parts), path.suffix[1:], content, name))
    return images
