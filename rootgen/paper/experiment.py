"""The paper's experiment on one architecture, in one folder: data, then runs (run.py), times, results and figures.

An experiment that was interrupted goes on where it stopped. Its runs may be spread over processes and machines that
share the folder: each run is locked while it is worked on, what another process works on is passed over, and
each process puts together what is finished when it ends, so that the last one puts together everything.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rootgen import datasets
from rootgen.correlation import grid
from rootgen.datasets.catalogue import FolderOptions
from rootgen.datasets.pack import pack
from rootgen.datasets.record import Packing
from rootgen.engine.api import PRECISIONS
from rootgen.errors import RootgenError, UnknownNameError
from rootgen.files import write_text
from rootgen.generator.architectures import ORIGINAL_ROW, Arch, architecture, row_folder
from rootgen.locks import LockedError, locked
from rootgen.paper import comparison, plot, report, results, run_folder, timed
from rootgen.paper.form import Form
from rootgen.paper.results import RunResult
from rootgen.paper.run import Run, Settings
from rootgen.progress import silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rootgen.engine.stop import Stop
    from rootgen.progress import Report

ROWS = (ORIGINAL_ROW, "root-4", "root-8", "root-16")
SEEDS = (1,)
LOCK = ".lock"
SHORTEST = 8 / 7  # photographs' shorter side, of the crop: 256 of 224
TEST_FRACTION = 0.1  # of an image folder that has no test images
LATER = {"crop": None, "precision": PRECISIONS[0]}  # settings that folders of earlier releases lack
WAIT_S = 0.5  # between looks whether another process is done with the data, or with putting together
WHEREVER = ("source", "engine", "device")  # settings of where it is computed, which may change

log = logging.getLogger("rootgen")


def rows_of(arch: Arch, patterns: Sequence[str]) -> tuple[str, ...]:
    """Rows of the architecture's table that any of the `patterns` (`root-*`) names, in the table's order."""
    known, chosen = arch.groups.rows, set()
    for pattern in patterns:
        found = [row for row in known if fnmatchcase(row.casefold(), pattern.casefold())]
        if not found:
            raise UnknownNameError(f"{arch.name} has no row '{pattern}'", pattern, known)
        chosen.update(found)
    return tuple(row for row in known if row in chosen)


class Experiment:
    """`rows` of the table with each of `seeds`; what is in the folder already, of these or of others, stays."""

    def __init__(
        self,
        settings: Settings,
        out: str | Path,
        report: Report | None = None,
        *,
        rows: Sequence[str] = ROWS,
        seeds: Sequence[int] = SEEDS,
        rounds: int = timed.ROUNDS,
    ) -> None:
        self.arch = architecture(settings.arch)
        self._given = run_folder.is_made(settings.source)  # images that this experiment need not make
        any_set = (settings.dataset,) if self._given else tuple(datasets.NAMES)
        sets = results.IMAGE_SETS.get(self.arch.recipe, any_set)
        if settings.dataset not in sets:
            raise UnknownNameError(f"no images '{settings.dataset}' for this", settings.dataset, sets)
        self.settings = settings
        self.out = Path(out)
        self.report = report
        self.rounds = rounds
        self.data = Path(settings.source) if settings.source and self._given else self.out / "data"
        self.results = self.out / "results.csv"
        self.rows, self.seeds = rows_of(self.arch, rows), tuple(dict.fromkeys(seeds))
        self._told: set[Run] = set()  # of those that others are at work on
        self._check_claim()

    def run(self, stop: Stop) -> list[RunResult]:
        """All steps; `stop` ends a training cleanly, with a snapshot. The results of all finished runs in the folder.

        RootgenError where there are none, as other processes are still at work on them.
        """
        self.prepare()
        left = [self._run(row, seed) for seed in self.seeds for row in self.rows]
        count = 0
        while len(left) != count:  # again what others were at work on, which they may have left
            count = len(left)
            left = [run for run in left if not self._finish(run, stop)]
        return self.put_together(timed=not left)

    def prepare(self) -> None:
        """Make the folder this experiment's, with its data; waits for a process that is doing so."""
        with self._alone():
            self._check_claim()
            write_text(self.out / "settings.json", json.dumps(asdict(self.settings), indent=2) + "\n")
        if self._given or run_folder.is_packed(self.data):  # perhaps too large to be read now
            run_folder.counts(self.data)
        elif not self._has_data():  # which all processes may look at side by side
            with self._alone():
                if not run_folder.is_done("making the data", self.data, lambda: run_folder.check_data(self.data)):
                    self._make_data()

    def _has_data(self) -> bool:
        try:
            run_folder.check_data(self.data)
        except RootgenError:
            return False
        return True

    def _make_data(self) -> None:
        """The LMDBs of the image set; photographs keep their proportions."""
        name, source = self.settings.dataset, self.settings.source
        fraction = TEST_FRACTION if name == "folder" and source and not (Path(source) / "train").is_dir() else 0.0
        dataset = datasets.load(name, source, options=FolderOptions(test_fraction=fraction), report=self.report)
        if name in ("folder", "imagenet"):
            packing = Packing(shortest=round(SHORTEST * (self.settings.crop or self.arch.crop)))
            pack(dataset, self.data, packing, force=True, report=self.report or silent)
        else:
            datasets.save(dataset, self.data, pad=datasets.DEFAULT_PAD[name], force=True, report=self.report)

    def put_together(self, *, timed: bool = True) -> list[RunResult]:
        """results.csv, figures and report of all finished runs in the folder; `timed` measures wanting times."""
        with self._alone():
            runs = self._finished()
            if not runs:
                raise RootgenError("no run is finished yet", where=self.out, hint="others are at work on them")
            if timed:
                self._time(runs)
            found = self._save(runs)
            name = self.arch.name
            paper = [plot.reported(name)] if name in plot.families() else []
            plot.draw([*paper, plot.measured(name, found)], self.out / "plots", name)
            self._draw_correlations(runs)
            report.write(self.out, report=self.report)
            return found

    def _finish(self, run: Run, stop: Stop) -> bool:
        """All steps of a run; False where another process is at work on it."""
        try:
            with locked(run.folder / LOCK, str(run.folder)):
                run.emit()
                if run.finished:
                    return True
                run.train(stop)
                run.correlate()
        except LockedError as error:
            if run not in self._told:
                log.warning("%s: passed over: %s", run, error)
            self._told.add(run)
            return False
        with self._alone():
            self._add(run)
        return True

    def _add(self, run: Run) -> None:
        """Put a run that has just been finished into results.csv, with any other that is wanting there.

        Lines of the others stay as they are, as reading their results takes a tenth of a second each, but for those
        of the seed that an original network was trained with: their scores are beside its own.
        """
        try:
            lines = {(line.model, line.seed): line for line in results.load(self.results)}
        except RootgenError:  # none yet, or damaged
            lines = {}
        stale = {key for key in lines if key == (run.row, run.seed) or (run.row == ORIGINAL_ROW and key[1] == run.seed)}
        kept = {key: line for key, line in lines.items() if key not in stale}
        runs = [one for one in self._begun() if (one.row, one.seed) in kept or one.finished]
        self._save(runs, kept)

    def _save(self, runs: Sequence[Run], kept: Mapping[tuple[str, int], RunResult] = {}) -> list[RunResult]:
        """Make results.csv of `runs`; `kept` has the lines, by row and seed, of those that are not read again."""
        times = self._known_times()
        found = [kept.get((run.row, run.seed)) or run.result(times.get(run.row, results.NAN)) for run in runs]
        results.save(self.results, found)
        return found

    def _finished(self) -> list[Run]:
        """Every finished run in the folder; see `_begun`."""
        return [run for run in self._begun() if run.finished]

    def _begun(self) -> list[Run]:
        """Every run that has a folder, asked for now or not, in the order of the table and of the seeds."""
        found = []
        for row in self.arch.groups.rows:
            folders = (self.out / row_folder(row)).glob("seed-*")
            seeds = [
                int(match[1]) for folder in folders if (match := re.fullmatch(r"seed-([1-9][0-9]{0,9})", folder.name))
            ]
            found += [self._run(row, seed) for seed in sorted(seeds)]
        return found

    def _draw_correlations(self, runs: Sequence[Run]) -> None:
        """The correlations of every row's first seed beside one another, as in the paper's Fig. 6."""
        first = {run.row: run for run in reversed(runs)}
        nets = grid.read(
            {row: first[row].correlation for row in self.arch.groups.rows if row in first}, pair=runs[0].pair
        )
        seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in first.values()}))
        title = f"{self.arch.title} on {self.settings.dataset}, seed {seeds}"
        grid.save(nets, self.out / "plots" / f"{self.arch.name}_correlation", *plot.FORMATS, title=title)

    def _time(self, runs: Sequence[Run]) -> None:
        """Forward times of all rows, in turns, and the table of them; those that were measured already count."""
        rows = list(dict.fromkeys(run.row for run in runs))
        if run_folder.is_done("timing", self._times, lambda: run_folder.times(self._times, rows)):
            return
        trained, form = run_folder.trained(runs[0].trained), Form.of(self.arch.name, self.settings.crop, self.data)
        engine, device = runs[0].place(trained)
        times = timed.Times(
            self.arch.name,
            self.out,
            rows,
            engine=engine,
            device="cpu" if device == "auto" else device,
            crop=form.crop_size,
            classes=form.classes,
            rounds=self.rounds,
            report=self.report,
        )
        found = times.run()
        comparison.save(times, found)
        medians = {row: median(its.values()) for row, its in times.of(found[0]).items()}
        write_text(self._times, json.dumps(medians, indent=2) + "\n")

    @property
    def _times(self) -> Path:
        return self.out / "times.json"

    def _known_times(self) -> dict[str, float]:
        """Milliseconds per image by row; none where they are not measured yet, or damaged."""
        try:
            found = run_folder.times(self._times, ())
            return run_folder.times(self._times, found)
        except RootgenError:
            return {}

    def _run(self, row: str, seed: int) -> Run:
        return Run(self.settings, row, seed, self.out, self.data, self.report)

    def _alone(self) -> ExitStack:
        """The lock of what the runs share; waits for whoever has it."""
        told = False
        while True:
            stack = ExitStack()
            try:
                stack.enter_context(locked(self.out / LOCK, str(self.out)))
            except LockedError as error:
                if not told:
                    log.info("%s: waiting", error.what)
                told = True
                time.sleep(WAIT_S)
            else:
                return stack

    def _check_claim(self) -> None:
        """Refuse a folder that holds another experiment, or something else; where it is computed may change."""
        path = self.out / "settings.json"
        mine = asdict(self.settings)
        begun = self.data.is_dir() or any((self.out / row_folder(row)).is_dir() for row in self.arch.groups.rows)
        if begun and path.is_file():
            fixed = [name for name in mine if name not in WHEREVER]
            there = LATER | run_folder.settings(path, [name for name in fixed if name not in LATER])
            other = [f"{name} {there.get(name)} (now {mine[name]})" for name in fixed if there.get(name) != mine[name]]
            if other:
                raise RootgenError(f"holds a run with {', '.join(other)}", where=self.out, hint="give another --out")
        elif self.out.is_dir() and any(
            entry not in (path, self.out / LOCK, self.out / timed.FOLDER, datasets.lock_of(self.data))
            and entry.suffix not in (".unfinished", ".partial")  # what a kill left of data/ or of a file
            for entry in self.out.iterdir()
        ):
            raise RootgenError("holds something else than an experiment", where=self.out, hint="give another --out")
