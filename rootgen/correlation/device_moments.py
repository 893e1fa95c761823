"""Moments of responses that lie on a GPU as tensors of PyTorch, summed there: what leaves it are the covariances."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rootgen.correlation.moments import Counts, Moments, check_finite
from rootgen.engine.torch.device import told

CHUNK_BYTES = 3 * 2**29  # of the float64 copies of the images taken at a time: 300 of all pairs of NiN
# Entries of a matrix of products up to which it is made per image and then summed: one product of so few rows and
# columns, and of all samples, keeps a fraction of a GPU busy. (Of larger ones, one per image would fill its memory.)
FEW = 2**16


class DeviceMoments(Moments):
    """Moments of tensors on any one device, in float64 as those of arrays, and the same to rounding.

    The device is not waited for after the first batch: values that are not finite in a later one are refused by
    `covariance`. RootgenError where the device's memory does not do.
    """

    def add(self, responses: Mapping[str, Tensor]) -> None:
        """Take in one batch: the responses (images, channels, height, width) of every blob of the pairs."""
        with torch.inference_mode(), told():
            super().add(responses)

    def _step(self, responses: Mapping[str, Tensor]) -> int:
        values = sum(responses[blob][:1].numel() for blob in self._blobs)
        return max(1, CHUNK_BYTES // max(1, 8 * values))

    def _mean(self, blob: str, response: Tensor) -> Tensor:
        mean = response.mean((0, 2, 3), dtype=torch.float64)
        check_finite(blob, self._array(mean))
        return mean

    def _centred(self, blob: str, response: Tensor) -> Tensor:
        """The response as float64 (images, height, width, channels), as convolutions on a GPU leave it, shifted."""
        pixels = response.permute(0, 2, 3, 1)
        x = pixels.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
        x -= self._shift[blob]
        return x

    def _moments(self, blob: str, x: Tensor, counts: Counts | None) -> tuple[Tensor, Tensor]:
        weighted = x if counts is None else x * _weights(counts, x.device)
        return weighted.sum((0, 1, 2)), self._products(weighted, x)

    def _sum_bins(self, x: Tensor, counts: Counts) -> Tensor:
        images, _, width, channels = x.shape
        rows, columns = counts
        if max(rows) > 1:
            x = (_bins(rows, x.device) @ x.flatten(2)).reshape(images, len(rows), width, channels)
        return _bins(columns, x.device) @ x if max(columns) > 1 else x

    def _products(self, x1: Tensor, x2: Tensor) -> Tensor:
        if x1.shape[3] * x2.shape[3] <= FEW:
            return (x1.flatten(1, 2).mT @ x2.flatten(1, 2)).sum(0)
        return x1.flatten(0, 2).T @ x2.flatten(0, 2)

    def _array(self, sums: Any) -> np.ndarray:
        array: np.ndarray = sums.cpu().numpy()
        return array


@lru_cache(64)  # here and below: each copy to a GPU waits for it
def _bins(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """The matrix of 0 and 1 (bins x pixels) that sums neighbouring pixels, `sizes` of them to a bin."""
    return torch.from_numpy(np.repeat(np.eye(len(sizes)), sizes, axis=1)).to(device)


@lru_cache(64)
def _weights(counts: Counts, device: torch.device) -> Tensor:
    """How often each pixel counts (height x width x 1)."""
    return torch.from_numpy(np.outer(*counts).astype(np.float64)).to(device)[:, :, None]
