"""results.csv: what a run measured, one model a row. `rootgen reproduce` writes it, `rootgen plot` reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from rootgen.errors import RootgenError
from rootgen.files import read_bytes, write_text


@dataclass(frozen=True)
class RunResult:
    """One trained and timed model.

    architecture, model: the paper's network, and the row's name in its table. dataset: as `rootgen data` calls it.
    params and macs: counted by the "macs" convention. accuracy: top-1 on `images` test images, 0 to 1. time_ms: forward
    time per image; comparable only within one run. block_score: of conv2c-conv3a on test images, by the model's own
    groups; nan where it has one group. control_score: the original model's, by the same groups.
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
    block_score: float = float("nan")
    control_score: float = float("nan")


COLUMNS = tuple(field.name for field in fields(RunResult))
IMAGE_SETS = {"cifar10": ("fashion-mnist-sample", "fashion-mnist", "cifar10")}  # ten classes of 32 x 32
"""An architecture's recipe -> the image sets that it can be measured on."""
MAX_BYTES = 2**24

_TYPES = {"str": str, "int": int, "float": float}


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
    missing = [column for column in COLUMNS if column not in (*(reader.fieldnames or ()), "architecture")]
    if missing:
        what = f"has no column {', '.join(missing)}"
        raise RootgenError(what, where=path, hint="rootgen reproduce writes such a file: results.csv")
    results = [_row(row, f"{path}:{number}") for number, row in enumerate(reader, 2)]
    if not results:
        raise RootgenError("holds no results", where=path)
    return results


def _row(row: dict[str, str], where: str) -> RunResult:
    cells: dict[str, object] = {}
    row.setdefault("architecture", "nin")  # as long as the column was not there, nothing else could be reproduced
    for field in fields(RunResult):
        try:
            cells[field.name] = _TYPES[str(field.type)](row[field.name])
        except (TypeError, ValueError):
            raise RootgenError(f"{field.name} is '{row[field.name]}', not a number", where=where) from None
    result = RunResult(**cells)  # type: ignore[arg-type]
    if not (0 <= result.accuracy <= 1 and result.images > 0):
        what = f"accuracy {result.accuracy:g} on {result.images} images"
        raise RootgenError(f"{what}: a share from 0 to 1 of 1 image or more is meant", where=where)
    return result
