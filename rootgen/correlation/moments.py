"""Covariances of the responses of adjacent layers, accumulated over batches in float64.

Every pixel of every image is a sample. Where two maps differ in size, the smaller is taken as upsampled by
nearest neighbour to the size of the larger. Nothing is upsampled in fact: a small pixel that stands for k
large ones counts k times, and meets the sum of the responses at those k.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rootgen.errors import RootgenError

Size = tuple[int, int]  # height, width
Counts = tuple[tuple[int, ...], tuple[int, ...]]  # how many rows, and columns, of a larger map each one stands for
Pair = tuple[str, str]

CHUNK = 2048  # samples of the largest map taken at a time: enough for BLAS, and the float64 copies stay small


@dataclass(frozen=True)
class Covariance:
    """Covariances over `samples` pixels: within the earlier layer, across (earlier x later), within the later.

    `sizes` are the two layers' maps as (height, width).
    """

    within_earlier: np.ndarray
    across: np.ndarray
    within_later: np.ndarray
    samples: int
    sizes: tuple[Size, Size]


class Moments:
    """First and second moments of blobs, and of pairs of blobs, over all the responses added.

    Each blob is shifted by its mean over the first batch before anything is multiplied: covariances do not
    change by a shift, and the sums stay near zero, where float64 keeps its digits.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.pairs = tuple(dict.fromkeys(pairs))
        self.images = 0
        self._blobs = tuple(dict.fromkeys(blob for pair in self.pairs for blob in pair))
        self._shift: dict[str, np.ndarray] = {}
        self._sizes: dict[str, Size] = {}
        self._within: dict[tuple[str, Counts | None], tuple[np.ndarray, np.ndarray]] = {}
        self._across: dict[Pair, np.ndarray] = {}

    def add(self, responses: Mapping[str, np.ndarray]) -> None:
        """Take in one batch: the responses (images, channels, height, width) of every blob of the pairs."""
        for blob in self._blobs:
            self._prepare(blob, responses[blob])
        largest = max(height * width for height, width in self._sizes.values())
        step = max(1, CHUNK // largest)
        for start in range(0, len(responses[self._blobs[0]]), step):
            self._add({blob: responses[blob][start : start + step] for blob in self._blobs})

    def _add(self, responses: Mapping[str, np.ndarray]) -> None:
        """Take in a few images."""
        batch = {blob: self._centred(blob, responses[blob]) for blob in self._blobs}
        self.images += next(iter(batch.values())).shape[1]
        for blob, counts in self._keys:
            first, second = self._within.get((blob, counts), (0.0, 0.0))
            with np.errstate(invalid="ignore", over="ignore"):
                new_first, new_second = _moments(batch[blob], counts)
            _check_finite(blob, new_first)
            self._within[blob, counts] = first + new_first, second + new_second
        for pair in self.pairs:
            (_, earlier_counts), (_, later_counts) = self._counts(pair)
            x1 = _sum_bins(batch[pair[0]], later_counts)
            x2 = _sum_bins(batch[pair[1]], earlier_counts)
            self._across[pair] = self._across.get(pair, 0.0) + _samples(x1) @ _samples(x2).T

    def covariance(self, pair: Pair) -> Covariance:
        """Covariances 1/(N-1) X X^T, with the means subtracted, of all that was added for `pair`."""
        sizes = (self._sizes[pair[0]], self._sizes[pair[1]])
        samples = self.images * max(h for h, _ in sizes) * max(w for _, w in sizes)
        if samples < 2:
            raise RootgenError(f"{samples} samples give no covariance", hint="use more images")
        means, within = [], []
        for blob, (weight, counts) in zip(pair, self._counts(pair), strict=True):
            uniform = weight is not None
            first, second = self._within[blob, None if uniform else counts]
            mean = first * (weight or 1) / samples
            means.append(mean)
            within.append((second * (weight or 1) - samples * np.outer(mean, mean)) / (samples - 1))
        across = (self._across[pair] - samples * np.outer(*means)) / (samples - 1)
        return Covariance(within[0], across, within[1], samples, sizes)

    def _prepare(self, blob: str, response: np.ndarray) -> None:
        """Check the form of a blob's responses; its size and shift, the first time."""
        if response.ndim != 4:
            raise RootgenError(f"blob '{blob}' has shape {response.shape}, not (images, channels, height, width)")
        if blob not in self._shift:
            mean = response.mean((0, 2, 3), dtype=np.float64)
            _check_finite(blob, mean)
            self._shift[blob] = mean[:, None, None, None]
            self._sizes[blob] = (response.shape[2], response.shape[3])

    def _centred(self, blob: str, response: np.ndarray) -> np.ndarray:
        """The response as float64 (channels, images, height, width), shifted."""
        x = np.array(response.transpose(1, 0, 2, 3), np.float64, order="C")
        x -= self._shift[blob]
        return x

    @cached_property
    def _keys(self) -> tuple[tuple[str, Counts | None], ...]:
        """Which moments within a blob are needed: plain (None), or with pixels counted unevenly."""
        keys = [
            (blob, None if weight is not None else counts)
            for pair in self.pairs
            for blob, (weight, counts) in zip(pair, self._counts(pair), strict=True)
        ]
        return tuple(dict.fromkeys(keys))

    def _counts(self, pair: Pair) -> tuple[tuple[int | None, Counts], tuple[int | None, Counts]]:
        """For each blob of a pair: how often each of its pixels counts if all count alike, and the counts."""
        earlier, later = (self._sizes[blob] for blob in pair)
        grid = (max(earlier[0], later[0]), max(earlier[1], later[1]))
        if grid not in (earlier, later):
            raise RootgenError(f"maps of {pair[0]} {earlier} and {pair[1]} {later}: neither contains the other")
        return _nearest(earlier, grid), _nearest(later, grid)


def _check_finite(blob: str, sums: np.ndarray) -> None:
    """Refuse a blob by sums of its values, which one that is not finite spoils."""
    if not np.isfinite(sums).all():
        raise RootgenError(f"blob '{blob}' holds values that are not finite", hint="has the training diverged?")


def _nearest(size: Size, grid: Size) -> tuple[int | None, Counts]:
    """How many pixels of `grid` have each pixel of `size` as their nearest: one number if uniform, and per axis."""
    rows, columns = (
        tuple(np.bincount(((np.arange(large) + 0.5) * small / large).astype(int), minlength=small).tolist())
        for small, large in zip(size, grid, strict=True)
    )
    uniform = len(set(rows)) == len(set(columns)) == 1
    return (rows[0] * columns[0] if uniform else None), (rows, columns)


def _moments(x: np.ndarray, counts: Counts | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum over samples (channels) and sum of products (channels x channels) of x (channels, images, h, w)."""
    if counts is None:
        samples = _samples(x)
        return samples.sum(1), samples @ samples.T
    weight = np.outer(*counts)
    samples = _samples(x * np.sqrt(weight))
    return _samples(x * weight).sum(1), samples @ samples.T


def _sum_bins(x: np.ndarray, counts: Counts) -> np.ndarray:
    """x summed over the pixels that each pixel of a smaller map stands for; x itself where all counts are 1."""
    for axis, sizes in zip((2, 3), counts, strict=True):
        if max(sizes) > 1:
            x = np.add.reduceat(x, np.cumsum((0, *sizes[:-1])), axis=axis)
    return x


def _samples(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)
