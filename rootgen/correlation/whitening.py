"""From covariances to the matrices of the paper's Fig. 6, and a score of their block structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rootgen.compound import Sizes
from rootgen.correlation.moments import Covariance, Size
from rootgen.errors import RootgenError

# Directions whose variance is below this share of the largest are taken as dead. float32 responses carry
# rounding noise of about 1e-15 of the largest variance: what is below cannot be told from noise scaled up.
DEAD = 1e-10


@dataclass(frozen=True)
class Correlation:
    """What two adjacent layers' responses have in common; rows are the earlier layer, columns the later.

    whitened: |S11^-1/2 S12 S22^-1/2|. covariance: |S12|. within_earlier and within_later: absolute correlation
    coefficients inside a layer. dead: directions left out of each layer's whitening (see DEAD). sizes: the two
    maps (height, width).
    """

    whitened: np.ndarray
    covariance: np.ndarray
    within_earlier: np.ndarray
    within_later: np.ndarray
    dead: tuple[int, int]
    samples: int
    sizes: tuple[Size, Size]


def correlate(covariance: Covariance) -> Correlation:
    """Correlation of two layers from their covariances."""
    root1, dead1 = inverse_square_root(covariance.within_earlier)
    root2, dead2 = inverse_square_root(covariance.within_later)
    return Correlation(
        whitened=np.abs(root1 @ covariance.across @ root2),
        covariance=np.abs(covariance.across),
        within_earlier=np.abs(coefficients(covariance.within_earlier)),
        within_later=np.abs(coefficients(covariance.within_later)),
        dead=(dead1, dead2),
        samples=covariance.samples,
        sizes=covariance.sizes,
    )


def inverse_square_root(covariance: np.ndarray) -> tuple[np.ndarray, int]:
    """Symmetric (ZCA) inverse square root of a covariance, and how many dead directions it maps to zero.

    Dead directions (filters that never respond, or always alike) have no variance to divide by; they come
    out as zeros, so that such a filter correlates with nothing.
    """
    values, vectors = np.linalg.eigh(covariance)
    alive = values > DEAD * max(values[-1], 0.0)
    scale = np.where(alive, 1 / np.sqrt(np.where(alive, values, 1.0)), 0.0)
    return (vectors * scale) @ vectors.T, int(np.sum(~alive))


def coefficients(covariance: np.ndarray) -> np.ndarray:
    """Correlation coefficients of a covariance; zero for filters without variance."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > np.sqrt(DEAD) * deviation.max())
    return covariance * np.outer(scale, scale)


@dataclass(frozen=True)
class Blocks:
    """The blocks of a matrix of `rows` x `columns`, of a convolution of `group` groups that makes the columns.

    The rows are those from `offset` on of its `channels` input channels; the rest comes from other layers, by a Concat.
    `sizes` has the groups' inputs and outputs where they are not alike (compound.Sizes, as text).
    """

    rows: int
    columns: int
    group: int
    offset: int = 0
    channels: int = 0  # as many as there are rows
    sizes: str = ""

    def __post_init__(self) -> None:
        check_blocks(self.group, self.channels or self.rows, self.columns, self.sizes)

    @property
    def _sizes(self) -> Sizes:
        channels, group = self.channels or self.rows, self.group
        alike = Sizes((self.columns // group,) * group, (channels // group,) * group)
        return Sizes.parse(self.sizes) if self.sizes else alike

    @property
    def of_rows(self) -> np.ndarray:
        """The group that reads each row."""
        return np.repeat(np.arange(self.group), self._sizes.inputs)[self.offset : self.offset + self.rows]

    @property
    def of_columns(self) -> np.ndarray:
        """The group that makes each column."""
        return np.repeat(np.arange(self.group), self._sizes.outputs)

    @property
    def borders(self) -> tuple[list[int], list[int]]:
        """The first rows, and the first columns, of all groups but the first."""
        return _steps(self.of_rows), _steps(self.of_columns)

    def score(self, matrix: np.ndarray) -> float:
        """Mean of the entries inside the blocks over the mean outside: 1 means no structure, nan no blocks."""
        inside = self.of_rows[:, None] == self.of_columns[None, :]
        if inside.all() or not inside.any():
            return float("nan")
        outside = float(matrix[~inside].mean())
        return float(matrix[inside].mean()) / outside if outside else float("inf")

    def means(self, matrix: np.ndarray) -> np.ndarray:
        """Mean of the entries between the inputs of each group and the outputs of each: as many rows as read."""
        (rows, columns) = ([0, *steps] for steps in self.borders)
        sums = np.add.reduceat(np.add.reduceat(matrix, rows, axis=0), columns, axis=1)
        counts = np.outer(np.diff([*rows, self.rows]), np.diff([*columns, self.columns]))
        return sums / counts


def block_score(matrix: np.ndarray, group: int, *, offset: int = 0, channels: int = 0, sizes: str = "") -> float:
    """The score of `matrix` by its Blocks."""
    rows, columns = matrix.shape
    return Blocks(rows, columns, group, offset, channels, sizes).score(matrix)


def check_blocks(group: int, channels: int, columns: int, sizes: str = "") -> None:
    """Refuse a number of groups that does not divide the input channels and the columns, and sizes of other sums."""
    if sizes:
        told = Sizes.parse(sizes).of(channels, columns)
        if len(told) != group or not Sizes.parse(sizes).inputs:
            raise RootgenError(f"{sizes} is not the inputs and outputs of {group} groups")
    elif channels % group or columns % group:
        raise RootgenError(f"group {group} does not divide {channels} input and {columns} output channels")


def _steps(numbers: np.ndarray) -> list[int]:
    """Where ascending `numbers` go up."""
    return [int(where) + 1 for where in np.flatnonzero(np.diff(numbers))]
