"""results.csv: what was measured, one run a row. `rootgen reproduce` writes it, `rootgen plot` reads it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, astuple, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev

from rootgen.errors import RootgenError
from rootgen.files import read_bytes, write_text
from rootgen.generator.architectures import ORIGINAL_ROW

NAN = float("nan")


@dataclass(frozen=True)
class RunResult:
    """One trained and timed model.

    architecture, model: the paper's network, and the row's name in its table. dataset: as `rootgen data` calls it.
    params and macs: counted by the "macs" convention. accuracy: top-1 on `images` test images, 0 to 1. time_ms: forward
    time per image; comparable only within one folder, nan where it was not timed. block_score: of conv2c-conv3a on
    test images, by the model's own groups; nan where it has one group. control_score: the original model's of the same
    seed, by the same groups; nan where that was not trained. seed: of weights and order; 0 in files that do not tell
    it. iterations, loss (on the test images), train_seconds: of the training. versions, commit: of what ran it.
    untrained_score: as block_score, of the same net with the same seed before its training; nan in files that do not
    tell it.
    """

    architecture: str
    model: str
    dataset: str
    images: int
    epochs: float
    params: int
    macs: int
    accuracy: float
    time_ms: float
    device: str
    engine: str
    block_score: float = NAN
    control_score: float = NAN
    seed: int = 0
    iterations: int = 0
    loss: float = NAN
    train_seconds: float = NAN
    versions: str = ""
    commit: str = ""
    untrained_score: float = NAN


@dataclass(frozen=True)
class Replicates:
    """The runs of one row: means over them, and the standard deviation of their accuracies."""

    model: str
    runs: tuple[RunResult, ...]

    @property
    def accuracy(self) -> float:
        """Mean top-1 accuracy, 0 to 1."""
        return fmean(run.accuracy for run in self.runs)

    @property
    def deviation(self) -> float:
        """Standard deviation of the accuracy from run to run (n - 1 below the line); nan of a single run."""
        return stdev(run.accuracy for run in self.runs) if len(self.runs) > 1 else NAN

    @property
    def time_ms(self) -> float:
        """Forward time per image: of the net, which all runs share."""
        return self.runs[0].time_ms

    def mean(self, column: str) -> float:
        """Mean of a column over the runs that have it; nan where none does."""
        found = [value for value in (float(getattr(run, column)) for run in self.runs) if not math.isnan(value)]
        return fmean(found) if found else NAN


COLUMNS = tuple(field.name for field in fields(RunResult))
IMAGE_SETS = {"cifar10": ("fashion-mnist-sample", "fashion-mnist", "cifar10")}  # ten classes of 32 x 32
"""An architecture's recipe -> the image sets that it can be measured on; nets of another recipe take any."""
MAX_BYTES = 2**24
_MOST = 1e18  # of any number in it


def _whole(text: str) -> int:
    """A whole number; ValueError also where it is larger than any that is meant, which no float could hold."""
    if not -_MOST <= (value := int(text)) <= _MOST:
        raise ValueError
    return value


_TYPES: dict[str, Callable[[str], str | int | float]] = {"str": str, "int": _whole, "float": float}
# What files of earlier releases lack. As long as there was no column `architecture`, it could only be nin.
_LATER = {"architecture": "nin"} | {
    field.name: str(field.default)
    for field in fields(RunResult)
    if field.default is not MISSING and field.name not in ("block_score", "control_score")
}


def replicates(results: Sequence[RunResult]) -> list[Replicates]:
    """The runs by row, in the order in which the rows come first."""
    models = dict.fromkeys(result.model for result in results)
    return [Replicates(model, tuple(one for one in results if one.model == model)) for model in models]


def original(rows: Sequence[Replicates]) -> Replicates | None:
    """The row of the network that the others are variants of, if it is there."""
    return next((row for row in rows if row.model == ORIGINAL_ROW), None)


def difference(row: Replicates, base: Replicates) -> tuple[float, bool | None]:
    """Accuracy of `row` less that of `base`, and whether the spread from seed to seed is as large.

    The spread is the larger of the two standard deviations; None where neither has several runs.
    """
    found = row.accuracy - base.accuracy
    spreads = [spread for spread in (row.deviation, base.deviation) if not math.isnan(spread)]
    return found, abs(found) <= max(spreads) if spreads else None


def save(path: str | Path, results: Sequence[RunResult]) -> None:
    """Put `results` into the CSV `path`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        writer.writerow(f"{cell:.6g}" if isinstance(cell, float) else cell for cell in astuple(result))
    write_text(path, text.getvalue())


def load(path: str | Path) -> list[RunResult]:
    """The rows of a results.csv; RootgenError where a column is missing or a cell is no number."""
    reader = csv.DictReader(io.StringIO(read_bytes(path, most=MAX_BYTES).decode("utf-8", "replace")))
    missing = [column for column in COLUMNS if column not in (*(reader.fieldnames or ()), *_LATER)]
    if missing:
        what = f"has no column {', '.join(missing)}"
        raise RootgenError(what, where=path, hint="rootgen reproduce writes such a file: results.csv")
    try:
        results = [_row(row, f"{path}:{number}") for number, row in enumerate(reader, 2)]
    except csv.Error as error:
        raise RootgenError(f"damaged: {error}", where=path) from None
    if not results:
        raise RootgenError("holds no results", where=path)
    return results


def _row(row: dict[str, str], where: str) -> RunResult:
    cells: dict[str, object] = {}
    for name, value in _LATER.items():
        row.setdefault(name, value)
    for field in fields(RunResult):
        try:
            cells[field.name] = _TYPES[str(field.type)](row[field.name])
        except (TypeError, ValueError):
            what = f"{field.name} is '{row[field.name]}', not a number up to {_MOST:g}"
            raise RootgenError(what, where=where) from None
    result = RunResult(**cells)  # type: ignore[arg-type]
    if not (0 <= result.accuracy <= 1 and result.images > 0):
        what = f"accuracy {result.accuracy:g} on {result.images} images"
        raise RootgenError(f"{what}: a share from 0 to 1 of 1 image or more is meant", where=where)
    for name in ("params", "macs", "epochs", "time_ms"):
        value = getattr(result, name)
        if not 0 < value <= _MOST and not (name == "time_ms" and math.isnan(value)):  # a time may be wanting
            raise RootgenError(f"{name} is {value:g}, but has to be above 0", where=where)
    return result
