"""Weights judged and fitted by what images make of them.

A connection from input channel i to output o is worth the variance that it gives the output on the images: w M w, with
w its kernel and M the covariance (kernel x kernel) of the pixels of channel i that the kernel sees together. A group is
fitted by least squares: from all pixels that its kernels see together (im2col: its input channels x kernel, D values)
to what the original layer made of the same images. Both are gathered over all places of all images, a few images at a
time, in float64; the fit's covariance takes D x D x 8 bytes per group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rootgen.deploy.images import Images, Runner
from rootgen.errors import RootgenError
from rootgen.net.graph import Layer
from rootgen.net.layers.vision import conv_geometry
from rootgen.progress import Report, silent
from rootgen.transform.regroup import blocks, dense

CHUNK = 1 << 22  # values of im2col at a time
ROUNDING = 1e-10  # a variance of so little of the mean square is none
RIDGE = 1e-3  # of the mean variance of a group's inputs


def worth_of(
    runner: Runner,
    names: Sequence[str],
    learned: Mapping[str, Sequence[np.ndarray]],
    images: Images,
    report: Report = silent,
) -> dict[str, np.ndarray]:
    """The variance that each connection of the layers `names` gives their outputs: outputs x inputs."""
    sums: dict[str, _Sums] = {}
    seen = 0
    for batch in images.batches():
        for name, x in runner.inputs(names, batch).items():
            layer = runner.layers[name]
            for part in _patches(layer, x):  # samples x channels x kernel
                sums.setdefault(name, _Sums()).add(part.transpose(1, 0, 2))
        seen += len(batch)
        report("images judged by", seen, images.count)
    found = {}
    for name in names:
        weight = dense(runner.layers[name], learned[name][0])
        weight = weight.reshape(*weight.shape[:2], -1)
        worth = np.einsum("oik,ikl,oil->oi", weight, sums[name].covariance(), weight, optimize=True)
        found[name] = np.maximum(worth, 0)  # rounding may have made it less
        if not found[name].any():
            raise runner.layers[name].error("its inputs are the same in all images", "use other images, or no --data")
    return found


class Target(NamedTuple):
    """What a layer has to give: outputs of a layer of the net before."""

    layer: str
    outputs: slice = slice(None)


@dataclass
class Fitted:
    """Blobs of the layers that were fitted, and per layer before the share of its outputs' variance that they give."""

    blobs: dict[str, list[np.ndarray]]
    shares: dict[str, float]


def fit(
    before: Runner,
    after: Runner,
    names: Sequence[str],
    blobs: Mapping[str, Sequence[np.ndarray]],
    *,
    images: Images,
    targets: Mapping[str, Target] = {},
    report: Report = silent,
) -> Fitted:
    """Fit the layers `names` of the net with groups, one after the other from the input on.

    `before` is the net without those groups, its channels in the same order, and `blobs` what the new net holds;
    `targets` says what a layer has to give, where that is not all that the one of its name gave before.
    A small ridge keeps weights where they are in directions that the images say nothing about.
    """
    found = Fitted({}, {})
    sums: dict[str, tuple[float, float]] = {}  # per layer of `before`: what is left, and all that was
    for done, name in enumerate(names):
        layer, target = after.layers[name], targets.get(name) or Target(name)
        moments = _gathered(before, after, layer, target, images)
        new = [np.array(blob, np.float64) for blob in blobs[name]]
        left, total = sums.get(target.layer, (0.0, 0.0))
        for one, rows in zip(moments, np.split(np.arange(len(new[0])), len(moments)), strict=True):
            weight, bias, residual, variance = one.solve(new[0][rows].reshape(len(rows), -1), len(new) > 1)
            new[0][rows] = weight.reshape(new[0][rows].shape)
            if len(new) > 1:
                new[1][rows] = bias
            left, total = left + residual, total + variance
        if not all(np.isfinite(blob).all() for blob in new):
            raise layer.error("cannot be fitted: its inputs on these images are singular", "use more images")
        after.set(name, new)
        found.blobs[name] = new
        sums[target.layer] = left, total
        found.shares[target.layer] = 1 - left / (total or 1.0)
        report("layers fitted", done + 1, len(names))
    return found


def _gathered(before: Runner, after: Runner, layer: Layer, target: Target, images: Images) -> list[_Moments]:
    """Per group of `layer`, moments of what it reads and of what it has to give."""
    moments = [_Moments() for _ in range(layer.param.convolution_param.group)]
    for batch in images.batches():
        x = after.inputs([layer.name], batch)[layer.name]
        y = before.outputs([target.layer], batch)[target.layer][:, target.outputs]
        wanted, start = y.transpose(0, 2, 3, 1).reshape(-1, y.shape[1]), 0
        for part in _patches(layer, x):
            outputs = wanted[start : start + len(part)].astype(np.float64)
            start += len(part)
            for one, (rows, columns) in zip(moments, blocks(y.shape[1], x.shape[1], len(moments)), strict=True):
                one.add(part[:, columns].reshape(len(part), -1), outputs[:, rows])
    return moments


class _Sums:
    """Sums and products of samples (channels x samples x kernel), each channel by itself."""

    def __init__(self) -> None:
        self.count, self.first, self.second = 0, np.zeros(0), np.zeros(0)

    def add(self, x: np.ndarray) -> None:
        first, second = x.sum(1), x.transpose(0, 2, 1) @ x
        self.first, self.second = (self.first + first, self.second + second) if self.count else (first, second)
        self.count += x.shape[1]

    def covariance(self) -> np.ndarray:
        """Channels x kernel x kernel."""
        mean, square = self.first / self.count, self.second / self.count
        found = square - mean[:, :, None] * mean[:, None, :]
        alive = np.trace(found, axis1=1, axis2=2) > ROUNDING * np.trace(square, axis1=1, axis2=2)
        return np.asarray(found * alive[:, None, None])


class _Moments:
    """Moments of a group's inputs x (samples x D) and of the outputs y wanted of them (samples x outputs)."""

    def __init__(self) -> None:
        self.count = 0
        self.x, self.y, self.xx, self.xy, self.yy = (np.zeros(()) for _ in range(5))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        self.count += len(x)
        self.x, self.y = self.x + x.sum(0), self.y + y.sum(0)
        self.xx, self.xy = self.xx + x.T @ x, self.xy + x.T @ y
        self.yy = self.yy + (y**2).sum(0)

    def solve(self, start: np.ndarray, biased: bool) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Weights (outputs x D) near `start`, biases, the variance of y that they leave, and all of its variance.

        Without a bias the means are fitted by the weights too, and count as left where they are not.
        """
        x, y = self.x / self.count, self.y / self.count
        shift = 1.0 if biased else 0.0
        xx = self.xx / self.count - shift * np.outer(x, x)
        xy = self.xy / self.count - shift * np.outer(x, y)
        yy = self.yy / self.count - shift * y**2
        ridge = RIDGE * float(np.trace(xx)) / len(xx)
        weight = start.T
        if ridge > ROUNDING * float(np.trace(self.xx)) / self.count:
            weight = weight + np.linalg.solve(xx + ridge * np.eye(len(xx)), xy - xx @ weight)
        left = yy.sum() - 2 * (weight * xy).sum() + (weight * (xx @ weight)).sum()
        return weight.T, y - weight.T @ x, float(left), float((self.yy / self.count - y**2).sum())


def _patches(layer: Layer, x: np.ndarray) -> Iterator[np.ndarray]:
    """What a convolution's kernel sees at each place, row by row, image by image: samples x channels x kernel."""
    import torch
    from torch.nn import functional

    if x.ndim != 4:
        raise RootgenError(f"reads {x.ndim} axes: images are judged by convolutions over 2 alone", where=layer.where)
    window = conv_geometry(layer, 2)
    kernel = window.kernel[0] * window.kernel[1]
    places = max(1, x[0].size // (window.stride[0] * window.stride[1])) * kernel
    step = max(1, CHUNK // places)
    for start in range(0, len(x), step):
        image = torch.from_numpy(np.ascontiguousarray(x[start : start + step])).double()
        columns = functional.unfold(image, window.kernel, window.dilation, window.pad, window.stride)
        part = columns.reshape(len(image), x.shape[1], kernel, -1).permute(0, 3, 1, 2)
        yield part.reshape(-1, x.shape[1], kernel).numpy()
