"""What the steps of an experiment left in its folder, read again: whole, or RootgenError that names the file."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.correlation import saved
from rootgen.correlation.report import Score
from rootgen.datasets.save import MEAN_VALUES
from rootgen.engine import blobs, weights
from rootgen.engine.api import ENGINES
from rootgen.errors import RootgenError
from rootgen.files import read_bytes
from rootgen.generator import render
from rootgen.proto import schema
from rootgen.proto.database import Database

MAX_BYTES = 2**20  # of a settings.json, trained.json or times.json

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class Trained:
    """What a run's trained.json tells: the model's file, how well it does on the test images, and what trained it.

    seconds: of training, over all the times that it was gone on with. versions, commit: of what trained it.
    """

    model: Path
    accuracy: float
    engine: str
    device: str
    loss: float = math.nan
    iterations: int = 0
    seconds: float = math.nan
    versions: str = ""
    commit: str = ""


def is_done(step: str, result: Path, read: Callable[[], object]) -> bool:
    """Whether the `result` of a step is there and whole, as `read` finds it; what is damaged is told of."""
    if not result.exists():
        return False
    try:
        read()
    except RootgenError as error:
        log.warning("%s; %s again", error, step)
        return False
    return True


def settings(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The settings of the run in a folder, which nothing but this file tells."""
    hint = "without it nobody knows what the folder holds: give another --out"
    try:
        found = _json(path)
    except RootgenError as error:
        raise RootgenError(error.what, where=path, hint=hint) from None
    missing = [name for name in names if name not in found]
    if "seed" in found:  # an earlier release's: a folder per row, of one seed
        what = f"is of an earlier release's run, of seed {found['seed']} alone, which this one cannot go on with"
        raise RootgenError(what, where=path, hint="give another --out")
    if missing:
        raise RootgenError(f"does not tell {', '.join(missing)} of the run", where=path, hint=hint)
    return found


def check_data(folder: Path) -> None:
    """Every record of the LMDBs in `folder`, and the mean; RootgenError at what is damaged."""
    for name in (render.TRAIN_LMDB, render.TEST_LMDB):
        database = Database(folder / name)
        for (where, datum), _ in zip(database.read(0), range(database.size), strict=False):
            if len(datum.data) != datum.channels * datum.height * datum.width or not datum.data:
                raise RootgenError("not an image", where=where)
    path = folder / "mean.binaryproto"
    mean = blobs.to_array(schema.read_binary(path, schema.BlobProto), path)
    if mean.size != datum.channels * datum.height * datum.width:
        raise RootgenError(f"a mean of {mean.size} values for images of {len(datum.data)}", where=path)


def is_made(folder: str | Path | None) -> bool:
    """Whether `rootgen data`, or whoever makes such folders, has made `folder`: LMDBs of train and test images."""
    return folder is not None and all((Path(folder) / name).is_dir() for name in (render.TRAIN_LMDB, render.TEST_LMDB))


def is_packed(folder: Path) -> bool:
    """Whether `folder` has images of many sizes, and so no mean image."""
    return is_made(folder) and (folder / MEAN_VALUES).is_file()


def counts(folder: Path) -> tuple[int, int]:
    """How many training and test images `folder` holds."""
    train, test = (Database.at(folder / name).size for name in (render.TRAIN_LMDB, render.TEST_LMDB))
    return train, test


def trained(path: Path) -> Trained:
    """A trained.json, whose model is there and whole."""
    found = _json(path)
    model, engine, device = (str(found.get(name) or "") for name in ("model", "engine", "device"))
    accuracy = found.get("accuracy")
    if not Path(model).name or engine not in ENGINES or not device:
        raise RootgenError("does not tell the model and what trained it", where=path)
    if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
        raise RootgenError(f"accuracy is {accuracy!r}, not a share from 0 to 1", where=path)
    file = path.parent / Path(model).name  # the folder may have been moved since
    weights.read(file)
    loss, seconds = (_number(found.get(name)) for name in ("loss", "seconds"))
    iterations = found.get("iterations")
    if not isinstance(iterations, int) or iterations < 1:
        raise RootgenError(f"iterations is {iterations!r}, not a whole number from 1", where=path)
    versions, commit = (str(found.get(name) or "") for name in ("versions", "commit"))
    return Trained(file, accuracy, engine, device, loss, iterations, seconds, versions, commit)


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:  # JSON's whole numbers have no end
        return math.nan


def times(path: Path, models: Iterable[str]) -> dict[str, float]:
    """A times.json: milliseconds per image of each of the `models`."""
    found = _json(path)
    for name in models:
        if not isinstance(found.get(name), float) or not 0 < found[name] < math.inf:
            raise RootgenError(f"no time of {name}", where=path)
    return found


def score(folder: Path, pair: str) -> Score:
    """The block score of `pair` on test images, from the scores.csv of a correlation."""
    return saved.find_score(saved.read_scores(folder), "test", pair, folder / "scores.csv")


def matrix(folder: Path, images: str, pair: str, *, untrained: bool = False) -> np.ndarray:
    """The whitened covariance of `pair` on "test" or "train" images, from a correlation, or from its control."""
    scores = saved.read_scores(folder)
    found = saved.find_score(scores, images, pair, folder / "scores.csv")
    return saved.read_matrix(folder, scores, found, untrained=untrained)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path, most=MAX_BYTES))
    except (ValueError, RecursionError):
        raise RootgenError("not JSON, or cut short", where=path) from None
    if not isinstance(content, dict):
        raise RootgenError(f"a JSON object is meant, found {type(content).__name__}", where=path)
    return content
