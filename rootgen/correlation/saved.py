"""What a correlation left in its folder, read again: scores.csv and the arrays, whole, or RootgenError at the file."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.correlation.report import FIGURES, Score, members
from rootgen.correlation.study import SCORES, UNTRAINED
from rootgen.errors import RootgenError
from rootgen.files import read_bytes

MOST_SCORES = 2**24  # bytes of a scores.csv
MOST = 2**14  # rows, and columns, of a matrix
_TYPES = {"str": str, "int": int, "float": float}


def read_scores(folder: str | Path) -> list[Score]:
    """The rows of a folder's scores.csv; of earlier releases', too, which tell less."""
    path = Path(folder) / SCORES
    text = read_bytes(path, most=MOST_SCORES).decode(errors="replace").replace("\0", "?")
    try:
        scores = [_score(row) for row in csv.DictReader(text.splitlines())]
    except (KeyError, ValueError, TypeError, csv.Error):
        raise RootgenError("no scores of a correlation, or damaged", where=path) from None
    except RootgenError as error:
        raise RootgenError(f"damaged: {error.what}", where=path) from None
    if not scores:
        raise RootgenError("holds no scores", where=path)
    return scores


def _score(row: dict[str, Any]) -> Score:
    cells: dict[str, Any] = {}
    for field in fields(Score):
        given = row[field.name] if field.default is MISSING or field.name in row else field.default
        cells[field.name] = _TYPES[str(field.type)](given)
    score = Score(**cells)
    if not (1 <= score.rows <= MOST and 1 <= score.columns <= MOST and score.group >= 1 and score.offset >= 0):
        raise ValueError("no matrix has such a size")
    _ = score.blocks  # which says whether the groups fit
    return score


def find_score(scores: list[Score], images: str, pair: str, where: object) -> Score:
    """The row of a pair on a set of images."""
    for score in scores:
        if (score.images, score.pair) == (images, pair):
            return score
    known = [f"{score.pair} on {score.images}" for score in scores[:4]]
    more = ", ..." if len(scores) > len(known) else ""
    raise RootgenError(f"no score of {pair} on {images} images", where=where, hint=f"known: {', '.join(known)}{more}")


def has_control(folder: str | Path, images: str) -> bool:
    """Whether a folder has the matrices of the untrained net on a set of images."""
    return (Path(folder) / UNTRAINED / f"{images}.npz").is_file()


def read_matrix(
    folder: str | Path, scores: list[Score], score: Score, *, kind: str = FIGURES[0], untrained: bool = False
) -> np.ndarray:
    """A matrix of the pair that `score`, one of a folder's `scores`, is of; `untrained` that of the control."""
    path = (Path(folder) / UNTRAINED if untrained else Path(folder)) / f"{score.images}.npz"
    names = members([each.pair for each in scores if each.images == score.images])
    size = {"within_earlier": (score.rows,) * 2, "within_later": (score.columns,) * 2}
    try:
        return _array(path, f"{names[score.pair]}.{kind}", size.get(kind, (score.rows, score.columns)))
    except RootgenError:
        raise
    except Exception as error:  # zip files fail in every possible way
        raise RootgenError(f"no correlation of {score.pair}, or damaged: {error}", where=path) from error


def _array(path: Path, name: str, shape: tuple[int, int]) -> np.ndarray:
    """A float32 array of a .npz, of which no more is unpacked than `shape` says."""
    with zipfile.ZipFile(io.BytesIO(read_bytes(path))) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"an array of the format {version}")
        found, fortran, kind = np.lib.format.read_array_header_1_0(file)
        if found != shape or fortran or kind != np.float32:
            raise ValueError(f"{kind} of {found} where float32 of {shape} is meant")
        content = file.read(4 * shape[0] * shape[1])
    matrix = np.frombuffer(content, np.float32).reshape(shape)
    if not np.isfinite(matrix).all():
        raise ValueError("values that are not finite")
    return matrix
