"""Covariances of the responses of adjacent layers, accumulated over batches in float64.

Every pixel of every image is a sample. Where two maps differ in size, the smaller is taken as upsampled by
nearest neighbour to the size of the larger. Nothing is upsampled in fact: a small pixel that stands for k
large ones counts k times, and meets the sum of the responses at those k.

Moments says which sums are needed and does them in NumPy; device_moments does the same sums in PyTorch, on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

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

    A subclass has responses and sums of another kind than NumPy's (`Any` here), and methods of its own where they are
    made: from _step to _array.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.pairs = tuple(dict.fromkeys(pairs))
        self.images = 0
        self._blobs = tuple(dict.fromkeys(blob for pair in self.pairs for blob in pair))
        self._shift: dict[str, Any] = {}
        self._sizes: dict[str, Size] = {}
        self._within: dict[tuple[str, Counts | None], tuple[Any, Any]] = {}
        self._across: dict[Pair, Any] = {}

    def add(self, responses: Mapping[str, Any]) -> None:
        """Take in one batch: the responses (images, channels, height, width) of every blob of the pairs."""
        for blob in self._blobs:
            self._prepare(blob, responses[blob])
        step = self._step(responses)
        for start in range(0, len(responses[self._blobs[0]]), step):
            self._add({blob: responses[blob][start : start + step] for blob in self._blobs})

    def _add(self, responses: Mapping[str, Any]) -> None:
        """Take in a few images."""
        batch = {blob: self._centred(blob, responses[blob]) for blob in self._blobs}
        self.images += len(responses[self._blobs[0]])
        for blob, counts in self._keys:
            first, second = self._within.get((blob, counts), (0.0, 0.0))
            new_first, new_second = self._moments(blob, batch[blob], counts)
            self._within[blob, counts] = first + new_first, second + new_second
        for pair in self.pairs:
            (_, earlier_counts), (_, later_counts) = self._counts(pair)
            x1 = self._sum_bins(batch[pair[0]], later_counts)
            x2 = self._sum_bins(batch[pair[1]], earlier_counts)
            self._across[pair] = self._across.get(pair, 0.0) + self._products(x1, x2)

    def covariance(self, pair: Pair) -> Covariance:
        """Covariances 1/(N-1) X X^T, with the means subtracted, of all that was added for `pair`."""
        sizes = (self._sizes[pair[0]], self._sizes[pair[1]])
        samples = self.images * max(h for h, _ in sizes) * max(w for _, w in sizes)
        if samples < 2:
            raise RootgenError(f"{samples} samples give no covariance", hint="use more images")
        means, within = [], []
        for blob, (weight, counts) in zip(pair, self._counts(pair), strict=True):
            uniform = weight is not None
            first, second = (self._array(sums) for sums in self._within[blob, None if uniform else counts])
            check_finite(blob, first)
            mean = first * (weight or 1) / samples
            means.append(mean)
            within.append((second * (weight or 1) - samples * np.outer(mean, mean)) / (samples - 1))
        across = (self._array(self._across[pair]) - samples * np.outer(*means)) / (samples - 1)
        return Covariance(within[0], across, within[1], samples, sizes)

    def _prepare(self, blob: str, response: Any) -> None:
        """Check the form of a blob's responses; its size and shift, the first time."""
        shape = tuple(response.shape)
        if len(shape) != 4:
            raise RootgenError(f"blob '{blob}' has shape {shape}, not (images, channels, height, width)")
        if blob not in self._shift:
            self._shift[blob] = self._mean(blob, response)
            self._sizes[blob] = (shape[2], shape[3])

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

    def _step(self, responses: Mapping[str, Any]) -> int:
        """How many images to take at a time."""
        return max(1, CHUNK // max(height * width for height, width in self._sizes.values()))

    def _mean(self, blob: str, response: Any) -> Any:
        """The mean of each channel, in float64 and to be subtracted from what _centred makes."""
        mean = response.mean((0, 2, 3), dtype=np.float64)
        check_finite(blob, mean)
        return mean[:, None, None, None]

    def _centred(self, blob: str, response: Any) -> Any:
        """The response as float64 (channels, images, height, width), shifted."""
        x = np.array(response.transpose(1, 0, 2, 3), np.float64, order="C")
        x -= self._shift[blob]
        return x

    def _moments(self, blob: str, x: Any, counts: Counts | None) -> tuple[Any, Any]:
        """Sum over samples (channels) and sum of products (channels x channels) of a centred x, by its pixels' counts.

        What is not finite spoils the first, and is refused here or by `covariance`.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            if counts is None:
                samples = _samples(x)
                first = samples.sum(1)
            else:
                weight = np.outer(*counts)
                samples = _samples(x * np.sqrt(weight))
                first = _samples(x * weight).sum(1)
            second = samples @ samples.T
        check_finite(blob, first)
        return first, second

    def _sum_bins(self, x: Any, counts: Counts) -> Any:
        """A centred x summed over the pixels that each of a smaller map stands for; x itself where all counts are 1."""
        for axis, sizes in zip((2, 3), counts, strict=True):
            if max(sizes) > 1:
                x = np.add.reduceat(x, np.cumsum((0, *sizes[:-1])), axis=axis)
        return x

    def _products(self, x1: Any, x2: Any) -> Any:
        """Sum over samples of the products of two centred responses (channels x channels)."""
        return _samples(x1) @ _samples(x2).T

    def _array(self, sums: Any) -> np.ndarray:
        """Sums as an array."""
        array: np.ndarray = sums
        return array


def check_finite(blob: str, sums: np.ndarray) -> None:
    """Refuse a blob by sums of its values, which one that is not finite spoils."""
    if not np.isfinite(sums).all():
        raise RootgenError(f"blob '{blob}' holds values that are not finite", hint="has the training diverged?")


@lru_cache
def _nearest(size: Size, grid: Size) -> tuple[int | None, Counts]:
    """How many pixels of `grid` have each pixel of `size` as their nearest: one number if uniform, and per axis."""
    rows, columns = (
        tuple(np.bincount(((np.arange(large) + 0.5) * small / large).astype(int), minlength=small).tolist())
        for small, large in zip(size, grid, strict=True)
    )
    uniform = len(set(rows)) == len(set(columns)) == 1
    return (rows[0] * columns[0] if uniform else None), (rows, columns)


def _samples(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)
