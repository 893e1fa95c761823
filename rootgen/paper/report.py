"""One page of an experiment: the question, the paper beside what was measured, curves, figures, and how to run it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from rootgen import __version__
from rootgen.engine.api import PRECISIONS
from rootgen.figures.curves import CurvePanel, draw_curves
from rootgen.generator.architectures import ORIGINAL_ROW
from rootgen.paper import curves, page, results
from rootgen.paper.evidence import Evidence, gather
from rootgen.paper.findings import Findings
from rootgen.paper.page import Commands, Gallery, Image, Listing, Page, Part, Section
from rootgen.paper.panels import kind_of
from rootgen.progress import Report
from rootgen.text import Table

NAMES = {"html": "report.html", "markdown": "report.md"}
MOST_LINES = 7  # of one panel
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in ("epochs", "batch_size", "images", "crop", "precision")}
_DEFAULTS = {"precision": PRECISIONS[0]}  # that folders of earlier releases had and did not tell
_SHORT = ("epochs", "batch_size")  # are not for --full
_UNFINISHED = "The experiment is not finished, or not whole: see what is missing."


def write(
    folder: str | Path, out: str | Path | None = None, format: str = "html", report: Report | None = None
) -> Path:
    """The report of the experiment in `folder`, as `out` or as report.html (report.md) in it; its path.

    RootgenError where the folder holds no experiment, or where nothing can be written.
    """
    path = Path(folder) / NAMES[format] if out is None else Path(out)
    page.write(compose(gather(folder, report)), path, format)
    return path


def compose(found: Evidence) -> Page:
    """The page of what was found; a section of which there is nothing is left out."""
    rows = results.replicates(found.results)
    compared = Findings(found.arch, rows) if rows else None
    name = found.folder.resolve().name
    sections = [
        Section("The question", _question(found, compared)),
        Section("Accuracy", _accuracy(compared)),
        Section("Cost", _cost(found, compared)),
        Section("Figures", _pictures(found.figures, wide=True)),
        Section("Training", _training(found)),
        Section("Filter correlation", _correlation(found, compared)),
        Section("What is missing", [Listing(found.missing)] if found.missing else []),
        Section("How it was made", _made(found)),
    ]
    title = f"{found.arch.title if found.arch else name}: the paper beside what was measured"
    about = f"Written on {date.today().isoformat()} by rootgen {__version__}, from the folder {name}."
    return Page(title, about, [section for section in sections if section.parts])


def _question(found: Evidence, compared: Findings | None) -> list[Part]:
    """What was asked, and what came out as far as it is known."""
    name = found.arch.title if found.arch else "a network"
    asked = (
        f"Deep Roots (Ioannou et al., CVPR 2017) gives {name} filter groups: fewer of them with depth (root), as many "
        "(column) or more (tree). Do such networks keep the accuracy of the original (Orig.) at a fraction of its "
        "parameters, multiply-adds and time; do they rank as in the paper; and do the groups show in how the filters "
        "of adjacent layers correlate?"
    )
    answers = compared.answers() if compared else []
    return [asked, *([_UNFINISHED] if found.missing else []), *([Listing(answers)] if answers else [])]


def _accuracy(compared: Findings | None) -> list[Part]:
    if compared is None:
        return []
    notes = compared.notes()
    return [compared.images(), compared.accuracies(), *([Listing(notes)] if notes else [])]


def _cost(found: Evidence, compared: Findings | None) -> list[Part]:
    if compared is not None or found.timed is not None:
        return [*([compared.costs()] if compared else []), *([found.timed] if found.timed else [])]
    lines = [(row, f"{time:.3g}") for row, time in found.times.items()]
    return [Table(["row", "ms per image"], lines, "forward")] if lines else []


def _training(found: Evidence) -> list[Part]:
    """Curves of all runs begun, the mean of each row; what has one point a run is in the tables."""
    series = {row: trained for row, runs in found.runs.items() if (trained := [run for run in runs.values() if run])}
    counts = [len(runs) for runs in series.values()]
    parts: list[Part] = []
    single: dict[str, None] = {}
    for kind, some in _by_topology(series).items():
        panels = curves.panels(some, rate=False, late=True)
        drawn = [panel for panel in panels if any(len(curve.x) > 1 for curve in panel.curves)]
        single |= {panel.quantity: None for panel in panels if panel not in drawn}
        parts += _pictures([_picture(panel, kind) for panel in drawn])
    if parts and max(counts) > 1:
        seeds = "–".join(map(str, dict.fromkeys((min(counts), max(counts)))))
        parts.insert(0, f"Lines are means over {seeds} seeds, bands one standard deviation to either side.")
    if single:
        parts.append(f"Known at one iteration alone, and so not drawn: {', '.join(single)}.")
    return parts


def _by_topology(series: dict[str, list[curves.History]]) -> dict[str, dict[str, list[curves.History]]]:
    """All rows at once or, where they are many, those of each topology beside Orig."""
    if len(series) <= MOST_LINES:
        return {"": series}
    kinds = dict.fromkeys(kind_of(row) for row in series if row != ORIGINAL_ROW)
    return {kind: {row: runs for row, runs in series.items() if kind_of(row) in (kind, ORIGINAL_ROW)} for kind in kinds}


def _picture(panel: CurvePanel, kind: str) -> Image:
    drawing = draw_curves([panel], first=ORIGINAL_ROW)
    words = [panel.quantity, *([kind] if kind else [])]
    return Image("-".join(words).replace(" ", "-"), "svg", drawing.svg().encode(), ", ".join(words))


def _correlation(found: Evidence, compared: Findings | None) -> list[Part]:
    scores = compared.scores() if compared else None
    return [*([scores] if scores else []), *_pictures(found.correlation, wide=len(found.correlation) == 1)]


def _pictures(images: Sequence[Image], *, wide: bool = False) -> list[Part]:
    return [Gallery([replace(image, wide=wide) for image in images])] if images else []


def _made(found: Evidence) -> list[Part]:
    """Settings, machines and versions, every run, and the commands."""
    parts: list[Part] = []
    if found.settings:
        kept = [(name, _setting(name, value)) for name, value in found.settings.items()]
        parts.append(Table(["setting", "value"], kept))
    if found.results:
        told = {
            "engine and device": {f"{one.engine} on {one.device}" for one in found.results},
            "versions": {one.versions for one in found.results},
            "commit": {one.commit for one in found.results},
        }
        seen = [(name, "; ".join(sorted(words - {""})) or "-") for name, words in told.items()]
        parts += [Table(["made with", ""], seen), _every_run(found.results)]
    return [*parts, *_commands(found)]


def _setting(name: str, value: object) -> str:
    """A value as it is shown; of a path the last part, as the rest means nothing elsewhere."""
    return Path(value).name if name == "source" and isinstance(value, str) else str(value)


def _every_run(found: Sequence[results.RunResult]) -> Table:
    lines = []
    for one in found:
        loss, minutes = (
            "-" if math.isnan(x) else f"{x:.{n}f}" for x, n in ((one.loss, 4), (one.train_seconds / 60, 1))
        )
        lines.append((one.model, one.seed, f"{one.accuracy:.4f}", loss, one.iterations, minutes))
    return Table(["run", "seed", "accuracy", "test loss", "iterations", "minutes of training"], lines)


def _commands(found: Evidence) -> list[Part]:
    """What makes all this again, and more of it."""
    out = found.folder.resolve().name
    lines = []
    if found.arch and (found.settings or found.timed):
        lines.append(shlex.join(["rootgen", "reproduce", found.arch.name, "--out", out, *_asked(found)]))
    if found.arch and found.results:
        lines.append(shlex.join(["rootgen", "plot", found.arch.name, "--measured", f"{out}/results.csv"]))
    lines.append(shlex.join(["rootgen", "report", out]))
    return ["To run it again, or to go on with it:", Commands(lines), *_where(found)]


def _where(found: Evidence) -> list[Part]:
    """What DIR in the commands stands for."""
    if not found.settings.get("source"):
        return []
    if _is_given(found):
        return [f"DIR holds the folder {found.settings.get('dataset')}, of the images as LMDBs."]
    return ["DIR holds the files of the image set."]


def _is_given(found: Evidence) -> bool:
    """Whether the images came as LMDBs, in a folder called as they are, and none were made."""
    source = Path(str(found.settings.get("source") or ""))
    return source.name == found.settings.get("dataset") and not (found.folder / "data").is_dir()


def _asked(found: Evidence) -> list[str]:
    """The options that lead to the settings, rows and seeds of the folder."""
    full = "epochs" in found.settings and found.settings["epochs"] is None
    words = ["--full"] if full else []
    dataset = found.settings.get("dataset")
    if _is_given(found):
        words += ["--data", f"DIR/{dataset}"]
    elif dataset is not None:
        words += ["--data", str(dataset), *(["--source", "DIR"] if found.settings.get("source") else [])]
    for name, option in _OPTIONS.items():
        value = found.settings.get(name)
        if value not in (None, _DEFAULTS.get(name)) and not (full and name in _SHORT):
            words += [option, f"{value:.15g}" if isinstance(value, float) else str(value)]
    rows = list(found.runs) or list(dict.fromkeys(one.model for one in found.results))
    seeds = sorted({seed for runs in found.runs.values() for seed in runs} or {one.seed for one in found.results})
    return [*words, "--rows", ",".join(rows), "--seeds", _seeds(seeds)] if rows else words


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds as --seeds takes them: 1..5, or 1,2,7."""
    whole = len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]}..{seeds[-1]}" if whole else ",".join(map(str, seeds))
