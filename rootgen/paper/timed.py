"""Every row of an architecture's table timed, on the CPU and on a GPU where there is one, in a folder that stays.

Forward passes of the deploy nets, in rounds: each round times every row once, so that what else the machine does falls
on all alike. Each measurement is a line of times.csv as soon as it is made; the same call goes on from there.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.engine import machine, place_of, timing
from rootgen.errors import RootgenError
from rootgen.files import read_bytes, write_text
from rootgen.generator import render
from rootgen.generator.architectures import architecture, row_folder
from rootgen.generator.render import NetOptions
from rootgen.grouping import ORIGINAL, Plan
from rootgen.locks import locked
from rootgen.net import cost, memory
from rootgen.net.load import load
from rootgen.paper import run_folder, tables
from rootgen.paper.emit import checked_net

if TYPE_CHECKING:
    from rootgen.progress import Report

FOLDER = "times"  # in an experiment's folder
ROUNDS = 5
PASSES = 3  # of a measurement, after one that is not counted; it is their median
BATCH = 32  # where nobody tells the paper's
KINDS = ("cpu", "gpu")
# What a forward pass takes of the blobs' bytes: measured 2.0 in pycaffe and in PyTorch, on ResNet-50 and ResNet-200.
WORKING = 2.5
SHARE = 0.5  # of the machine's memory that a batch may take; what else runs there needs some too
MAX_BYTES = 2**24  # of a times.csv

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class Series:
    """What times have to share to be compared: kind "cpu" or "gpu", what computes, images a pass and their size."""

    kind: str
    engine: str
    device: str
    batch: int
    crop: int
    passes: int
    versions: str


@dataclass(frozen=True)
class Measurement:
    """One row of the table in one round (from 1): milliseconds per image forward, the median of a few passes."""

    architecture: str
    model: str
    round: int
    forward_ms: float
    series: Series

    def cells(self) -> list[object]:
        """A line of times.csv."""
        return [self.architecture, self.model, self.round, f"{self.forward_ms:.6g}", *astuple(self.series)]


COLUMNS = ("architecture", "model", "round", "forward_ms", *(one.name for one in fields(Series)))


@dataclass
class Times:
    """The measurements of one architecture in the folder `out`/times, which `run` adds to.

    `rows` are of its table. `device` "auto" is the CPU and, where there is one, a GPU. `batch_size` None is the
    paper's, or the largest that the machine's memory takes; `crop` and `classes` None are the paper's.
    """

    arch: str
    out: Path
    rows: Sequence[str]
    engine: str = "auto"
    device: str = "auto"
    batch_size: int | None = None
    crop: int | None = None
    classes: int | None = None
    rounds: int = ROUNDS
    report: Report | None = None
    measurements: list[Measurement] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # "row on the CPU" -> why it has no time

    @property
    def folder(self) -> Path:
        return self.out / FOLDER

    @property
    def file(self) -> Path:
        return self.folder / "times.csv"

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"

    @property
    def _damaged(self) -> Path:
        return self.file.with_suffix(".damaged.csv")

    def net(self, row: str) -> Path:
        """The deploy net of a row."""
        return self.folder / f"{row_folder(row)}.prototxt"

    def run(self) -> list[Series]:
        """Measure what is wanting; the series that the measurements asked for are of, the CPU's first."""
        self._check_claim()
        checked_net(architecture(self.arch), ORIGINAL, NetOptions(crop_size=self.crop, classes=self.classes))
        with locked(self._lock, str(self.folder)):
            self.measurements = self._known()
            self._emit()
            found = [self._series(kind) for kind in self._kinds()]
            for series in found:
                self._measure(series)
        if not any(one.series in found for one in self.measurements):
            raise RootgenError(next(iter(self.skipped.values()), "nothing was timed"), where=self.folder)
        return found

    def of(self, series: Series) -> dict[str, dict[int, float]]:
        """Row -> round -> milliseconds per image, of one series, in the order of the table."""
        found: dict[str, dict[int, float]] = {}
        for row in architecture(self.arch).groups.rows:
            mine = [one for one in self.measurements if one.series == series and one.model == row]
            if mine:
                found[row] = {one.round: one.forward_ms for one in mine}
        return found

    def _measure(self, series: Series) -> None:
        """What is wanting of a series, round by round, each measurement kept at once."""
        done = {(one.model, one.round) for one in self.measurements if one.series == series}
        wanted = [(turn, row) for turn in range(1, self.rounds + 1) for row in self.rows]
        for count, (turn, row) in enumerate(wanted, 1):
            name = f"{row} on the {series.kind.upper()}"
            if (row, turn) not in done and name not in self.skipped:
                try:
                    taken = self._timed(row, series)
                except RootgenError as error:  # too large for a GPU's memory, or of layers that an engine lacks
                    self.skipped[name] = str(error)
                    log.warning("%s is skipped: %s", name, error)
                    continue
                self.measurements.append(Measurement(self.arch, row, turn, taken, series))
                save(self.file, self.measurements)
            if self.report:
                self.report(f"time on the {series.kind.upper()}", count, len(wanted))

    def _timed(self, row: str, series: Series) -> float:
        taken = timing.measure(
            self.net(row),
            phase="TEST",
            batch_size=series.batch,
            iterations=series.passes,
            warmup=1,
            backward=False,
            total=True,
            engine=series.engine,
            device=series.kind if self.device == "auto" else self.device,
        )
        return taken.whole.forward / taken.batch

    def _kinds(self) -> list[str]:
        """The kinds of device to time on."""
        if self.device != "auto":
            return ["cpu" if self.device == "cpu" else "gpu"]
        try:
            place_of(self.engine, "gpu")
        except RootgenError as error:
            log.info("no GPU times: %s", error)
            return ["cpu"]
        return list(KINDS)

    def _series(self, kind: str) -> Series:
        engine, device = place_of(self.engine, kind if self.device == "auto" else self.device)
        batch = self.batch_size or self._batch(kind)
        crop = self.crop or architecture(self.arch).crop
        return Series(kind, engine, device, batch, crop, PASSES, machine.versions(engine))

    def _batch(self, kind: str) -> int:
        """The paper's batch, or as much of it as half of the machine's memory takes; a GPU itself says what it can."""
        batch = paper_batch(self.arch)
        fits = batch if kind == "gpu" else min(fitting(self.net(row)) for row in self.rows)
        if fits < batch:
            log.warning("%s: batches of %d, as %d do not fit into half of the memory", self.arch, fits, batch)
        return min(fits, batch)

    def _emit(self) -> None:
        for row in self.rows:
            options = NetOptions(phase="deploy", crop_size=self.crop, classes=self.classes)
            write_text(self.net(row), render.net(architecture(self.arch), Plan.named(row), options))

    def _known(self) -> list[Measurement]:
        """What was measured before; a damaged file is named and set aside."""
        if not self.file.exists():
            return []
        try:
            return read(self.file)
        except RootgenError as error:
            log.warning("%s; it is %s now, timing again", error, self._damaged.name)
            self.file.replace(self._damaged)
            return []

    def _check_claim(self) -> None:
        """Refuse a folder of another architecture, or of something else."""
        settings = self.out / "settings.json"
        other = run_folder.settings(settings, ["arch"])["arch"] if settings.is_file() else self.arch
        if self.file.is_file():
            other = next((one.architecture for one in self._known() if one.architecture != self.arch), other)
        elif self.folder.is_dir() and not all(map(self._may_be_left, self.folder.iterdir())):
            raise RootgenError("holds something else than times", where=self.folder, hint="give another --out")
        if other != self.arch:
            raise RootgenError(f"is of {other}, not of {self.arch}", where=self.out, hint="give another --out")

    def _may_be_left(self, path: Path) -> bool:
        """Whether a run that was killed before its first measurement may have left `path`."""
        return path in (self._lock, self._damaged) or path.suffix in (".prototxt", ".partial")


def paper_batch(arch: str) -> int:
    """Images a pass: the paper's for this architecture, or for one that has its groups from the same table, else 32."""
    told = {name: cells["timing_batch"] for (name, _), cells in tables.author_figures().items()}
    found = told.get(arch) or told.get(architecture(arch).groups_from)
    return int(found) if found else BATCH


def fitting(net: Path) -> int:
    """How many images a forward pass may take at once in this machine's memory; at least 1."""
    loaded = load(net, batch=1)
    room = SHARE * machine.memory() - memory.FLOAT_BYTES * cost.count(loaded).params
    return max(1, int(room / (WORKING * memory.activations(loaded, 1).forward)))


def save(path: Path, measurements: Iterable[Measurement]) -> None:
    """Put measurements into the CSV `path`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(one.cells() for one in measurements)
    write_text(path, text.getvalue())


def read(path: Path) -> list[Measurement]:
    """The lines of a times.csv; RootgenError where one is damaged."""
    reader = csv.DictReader(io.StringIO(read_bytes(path, most=MAX_BYTES).decode("utf-8", "replace")))
    found = []
    try:
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise KeyError
        for row in reader:
            numbers = {name: int(row[name]) for name in ("batch", "crop", "passes")}
            series = Series(row["kind"], row["engine"], row["device"], **numbers, versions=row["versions"] or "")
            one = Measurement(row["architecture"], row["model"], int(row["round"]), float(row["forward_ms"]), series)
            if not (0 < one.forward_ms < math.inf and all(asdict(one).values())):
                raise ValueError
            found.append(one)
    except (KeyError, TypeError, ValueError, csv.Error):
        raise RootgenError("no times, or damaged", where=f"{path}:{reader.line_num}") from None
    return found
