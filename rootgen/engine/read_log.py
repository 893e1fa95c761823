"""The logs of trainings, read to be drawn: PREFIX_log.csv as train_log.py leaves it, and the text of Caffe's own tool.

Both give the rows of a PREFIX_log.csv: dicts of iteration, phase ("train", "test", "test 1", ...), learning_rate,
smoothed_loss and so on, and of each scalar output blob by its name; what a row does not have is None or left out.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rootgen.engine.train_log import is_header, rows_in
from rootgen.errors import RootgenError
from rootgen.files import read_bytes

Row = dict[str, Any]

MAX_BYTES = 2**28
_MOST_ITERATIONS = 2**31 - 1  # Caffe keeps them in an int
_NUMBER = r"[-+]?(?:nan|inf|\d+(?:\.\d*)?(?:e[-+]?\d+)?)"
# As in: I1126 03:58:23.581280  9059 solver.cpp:239] Iteration 0 (24.4 iter/s, 0.12s/3 iters), loss = 1.63
_LINE = re.compile(r"[IWE]\d{4,8} [\d:.]{5,20} +\d{1,10} [\w.]{1,60}:\d{1,6}\] (.*)$")
_ITERATION = re.compile(r"Iteration (\d{1,10})\b(.*)$")
_TOLD = {
    "smoothed_loss": re.compile(rf"\bloss = ({_NUMBER})", re.IGNORECASE),
    "learning_rate": re.compile(rf"\blr = ({_NUMBER})", re.IGNORECASE),
}
_TESTING = re.compile(r"Testing net \(#(\d{1,4})\)")
_OUTPUT = re.compile(rf"\s*(Train|Test) net output #\d+: ([^=]+?) = ({_NUMBER})(?: \(|\s*$)", re.IGNORECASE)


def read_log(path: str | Path) -> list[Row]:
    """The rows of a training's log by iteration, of whichever of the two kinds it is; its numbers finite, or None.

    RootgenError where the file is no such log, or tells of no iteration.
    """
    text = read_bytes(path, most=MAX_BYTES, pipes=True).decode("utf-8", "replace").replace("\0", "?")
    lines = text.splitlines()
    ours = bool(lines) and is_header(lines[0])
    try:
        rows = [_plain(row) for row in (rows_in(lines) if ours else _caffe_rows(lines)) if _sound(row)]
    except csv.Error as error:
        raise RootgenError(f"damaged: {error}", where=path) from None
    if rows:
        return _in_order(rows)
    if ours:
        raise RootgenError("a log of a training without an iteration in it, or damaged", where=path)
    hint = "PREFIX_log.csv of rootgen train, or what Caffe's own tool writes to stderr"
    raise RootgenError("no log of a training", where=path, hint=hint)


def _sound(row: Row) -> bool:
    iteration = row.get("iteration")
    return isinstance(iteration, int) and 0 <= iteration <= _MOST_ITERATIONS and bool(row.get("phase"))


def _plain(row: Row) -> Row:
    return {k: None if isinstance(value, float) and not math.isfinite(value) else value for k, value in row.items()}


def _in_order(rows: list[Row]) -> list[Row]:
    """The rows without those that a run which went on from a snapshot made again, its own in their place."""
    kept: list[Row] = []
    for row in rows:
        while kept and kept[-1]["iteration"] > row["iteration"]:
            kept.pop()
        kept.append(row)
    last = {(row["phase"], row["iteration"]): row for row in kept}
    return list(last.values())


def _caffe_rows(lines: Iterable[str]) -> Iterator[Row]:
    """Rows from the text of Caffe's tool: a displayed iteration or a test each."""
    row: Row | None = None
    names: Counter[str] = Counter()

    def done() -> Iterator[Row]:
        if row is not None and len(row) > 2:
            yield {k: v for k, v in row.items() if names[k] < 2}  # a blob of several values has a line for each

    for line in lines:
        match = _LINE.match(line)
        if not match:
            continue
        said = match[1]
        if output := _OUTPUT.match(said):
            if row is not None and row["phase"].startswith(output[1].lower()):
                names[output[2]] += 1
                row[output[2]] = float(output[3])
        elif iteration := _ITERATION.match(said):
            new = _begun(int(iteration[1]), iteration[2])
            if new is None:
                continue
            if row is not None and (new["iteration"], new["phase"]) == (row["iteration"], row["phase"]):
                row |= new  # the rate of an iteration has a line of its own
                continue
            yield from done()
            row, names = new, Counter()
    yield from done()


def _begun(iteration: int, said: str) -> Row | None:
    """What a line that begins with "Iteration N" says; None where it is about something else."""
    if testing := _TESTING.search(said):
        return {"iteration": iteration, "phase": f"test {testing[1]}" if int(testing[1]) else "test"}
    told = {name: float(match[1]) for name, pattern in _TOLD.items() if (match := pattern.search(said))}
    return {"iteration": iteration, "phase": "train", **told} if told else None
