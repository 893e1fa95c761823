"""The CSV that a training run leaves beside its snapshots: one row per iteration and per test."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from rootgen.engine.api import StepResult
from rootgen.errors import RootgenError
from rootgen.files import check_writable, is_stream, write_text

log = logging.getLogger("rootgen")

FIXED = (
    "iteration",
    "phase",
    "seconds",
    "learning_rate",
    "total_loss",
    "smoothed_loss",
    "images_per_second",
    "data_share",
)


_ROUNDED = ("iteration", "seconds", "images_per_second", "data_share")


class TrainLog:
    """Rows of iterations (phase "train") and of tests ("test", "test 1", ...).

    `iteration` counts from 0, a test's being that of the training iteration it came before; `seconds` is the time
    spent so far, over all the runs that this log went through; `data_share` the part of an iteration spent
    waiting for data. Each scalar output blob has a column of its name. A run that starts at iteration 0 begins a
    new log and keeps the old as LOG.previous.csv; one that goes on drops the rows from its first iteration on,
    which it makes again. Either happens with the first iteration only: a run that makes none leaves the log as it is.
    A pipe or a device gets the rows of this run alone. RootgenError where a file is there that is no such log.
    """

    def __init__(self, path: str | Path, blobs: Sequence[str], iteration: int) -> None:
        self.path = Path(path)
        self.columns = [*FIXED, *(name if name not in FIXED else f"{name} blob" for name in blobs)]
        self.blobs = dict(zip(blobs, self.columns[len(FIXED) :], strict=True))
        if self.path.is_dir():
            raise RootgenError("cannot write: Is a directory", where=self.path, hint="name a file with --log")
        self._refuse_another_file()
        self._old = self._kept(iteration) if iteration and not is_stream(self.path) else []
        self.seconds = max((float(row["seconds"] or 0) for row in self._old), default=0.0)
        self._file: IO[str] | None = None
        self._begun = False
        self._waiting: list[dict[str, object]] = []
        check_writable(self.path)
        if is_stream(self.path):
            self._begin()

    def step(self, result: StepResult) -> None:
        """Add the row of an iteration."""
        self.seconds += result.seconds
        speed = result.images / result.seconds if result.seconds else 0.0
        share = result.data_seconds / result.seconds if result.seconds else 0.0
        values = (result.learning_rate, result.loss, result.smoothed_loss, round(speed, 2), round(share, 4))
        self._add(result.iteration, "train", dict(zip(FIXED[3:], values, strict=True)), result.outputs)

    def test(self, iteration: int, results: Sequence[dict[str, float]], seconds: float) -> None:
        """Add a row per test net."""
        self.seconds += seconds
        for number, outputs in enumerate(results):
            self._add(iteration, f"test {number}" if number else "test", {}, outputs)

    def sync(self) -> None:
        """Wait until what was added is on the disk."""
        if self._file is not None and not is_stream(self.path):
            with suppress(OSError):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the log."""
        self.sync()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, iteration: int, phase: str, fixed: dict[str, object], outputs: dict[str, float]) -> None:
        row: dict[str, object] = {"iteration": iteration, "phase": phase, "seconds": round(self.seconds, 3), **fixed}
        row.update({self.blobs[name]: value for name, value in outputs.items() if name in self.blobs})
        row.update({name: _digits(value) for name, value in row.items() if name not in _ROUNDED and name != "phase"})
        self._waiting.append(row)
        if phase != "train" and not self._begun:  # the first iteration may fail yet
            return
        rows, self._waiting = self._waiting, []
        try:
            if not self._begun:
                self._begin()
            if self._file is None:
                return
            csv.DictWriter(self._file, self.columns, lineterminator="\n").writerows(rows)
            self._file.flush()
        except (OSError, RootgenError) as error:  # a full disk: the log is not worth the training
            reason = getattr(error.__cause__ or error, "strerror", error)
            log.warning("%s: cannot write (%s); the log ends at iteration %d", self.path, reason, iteration)
            self._file = None

    def _refuse_another_file(self) -> None:
        """RootgenError where the file that is there is no log; an empty one may go."""
        if self.path.is_file() and not is_log(self.path):
            raise RootgenError(
                "is there already and is no log of a training", where=self.path, hint="name another --log"
            )

    def _begin(self) -> None:
        """Put the header and the rows kept in place of the old log, and open that for more."""
        self._begun = True
        if not self._old and self._has_rows():
            self.path.replace(self.path.with_suffix(".previous.csv"))
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._old)
        write_text(self.path, text.getvalue())
        try:
            self._file = self.path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise RootgenError(f"cannot write: {error.strerror}", where=self.path) from error

    def _has_rows(self) -> bool:
        """Whether the old log says anything beyond its header."""
        if not self.path.is_file():
            return False
        with self.path.open(encoding="utf-8", errors="replace") as file:
            return len(list(islice(file, 2))) == 2

    def _kept(self, iteration: int) -> list[dict[str, str]]:
        """Rows of the log that is there, up to `iteration`; none where its columns are others."""
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames is None or list(reader.fieldnames) != self.columns:
                    return []
                rows = [row for row in reader if _values(row) is not None]  # the last may be cut
        except (OSError, UnicodeDecodeError, csv.Error):
            return []
        return [row for row in rows if row["iteration"].isdecimal() and int(row["iteration"]) < iteration]


def log_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a log, its numbers as such; what a row does not have is None. None where the file is no log."""
    if not Path(path).is_file():
        return []
    with Path(path).open(encoding="utf-8", newline="") as file:
        return rows_in(file)


def rows_in(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The rows that the lines of a log hold, the first its header; lines that were cut short are left out."""
    return [row for row in map(_values, csv.DictReader(lines)) if row is not None]


def _values(row: dict[str, str]) -> dict[str, Any] | None:
    """A row with its numbers as such; None of one that was cut short, as by a full disk."""
    if None in row or None in row.values():
        return None
    try:
        return {name: _value(name, cell) for name, cell in row.items()}
    except ValueError:
        return None


def _value(name: str, cell: str | None) -> object:
    if not cell:
        return None
    return cell if name == "phase" else int(cell) if name == "iteration" else float(cell)


def _digits(value: object) -> object:
    """A number as short as one of Caffe's 32 bit floats, which they all are or come from, can be written: 0.05."""
    if not isinstance(value, float):
        return value
    with np.errstate(over="ignore"):
        return str(np.float32(value))


def is_log(path: Path) -> bool:
    """Whether the file `path` begins as a log of a training does; an empty one may become one."""
    if not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline(1000)
    except OSError as error:
        raise RootgenError(f"cannot read: {error.strerror}", where=path) from error
    return not first or is_header(first)


def is_header(line: str) -> bool:
    """Whether a file whose first line this is, is a log of a training."""
    return tuple(line.rstrip("\n").split(",")[: len(FIXED)]) == FIXED
