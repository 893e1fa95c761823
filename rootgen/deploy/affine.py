"""What layers do that scale and shift each channel: y = factor * x + term, in float64.

Such a map goes into the weights of a layer before it (`into_outputs`) or after it (`into_inputs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from rootgen.net.graph import Layer
from rootgen.net.layers.vision import groups

CHANNELS = 1  # the axis


class Affine(NamedTuple):
    """One factor and one term per channel, each of shape (channels,)."""

    factor: np.ndarray
    term: np.ndarray

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """The map that changes nothing."""
        return cls(np.ones(channels), np.zeros(channels))

    def then(self, other: Affine) -> Affine:
        """This map, then `other`."""
        return Affine(self.factor * other.factor, self.term * other.factor + other.term)

    def part(self, start: int, count: int) -> Affine:
        """The map of `count` channels from `start` on."""
        return Affine(self.factor[start : start + count], self.term[start : start + count])


def affine_of(layer: Layer, blobs: Sequence[np.ndarray]) -> Affine | str:
    """The map of a layer in the TEST phase; in words why it has none, where it has none."""
    shape = layer.shapes.bottoms[0] if layer.shapes.bottoms else ()
    if len(shape) <= CHANNELS:
        return "its input has no axis of channels" if layer.shapes.known else "its shapes are not known"
    channels = shape[CHANNELS]
    if layer.type == "Dropout":
        return Affine.identity(channels)
    if layer.type == "Power":
        param = layer.param.power_param
        if param.power != 1:
            return f"its power is {param.power:g}"
        return Affine(np.full(channels, float(param.scale)), np.full(channels, float(param.shift)))
    if layer.type == "BatchNorm":
        return _statistics(layer, blobs)
    if len(layer.bottoms) > 1:
        return "its factors are another layer's output"
    param = layer.param.scale_param if layer.type == "Scale" else layer.param.bias_param
    if param.axis % len(shape) != CHANNELS or blobs[0].shape != (channels,):
        return "it does not work channel by channel"
    first = np.asarray(blobs[0], np.float64)
    if layer.type == "Bias":
        return Affine(np.ones(channels), first)
    return Affine(first, np.asarray(blobs[1], np.float64) if len(blobs) > 1 else np.zeros(channels))


def _statistics(layer: Layer, blobs: Sequence[np.ndarray]) -> Affine | str:
    """BatchNorm with the running statistics: sums of means and variances over the weight that the third blob holds."""
    param = layer.param.batch_norm_param
    if param.HasField("use_global_stats") and not param.use_global_stats:
        return "it takes each batch's own statistics"
    mean, variance, weight = (np.asarray(blob, np.float64) for blob in blobs)
    spread = variance / weight + param.eps
    if not (spread > 0).all():
        raise layer.error("has a variance below 0", "its model is damaged, or of another net")
    factor = 1 / np.sqrt(spread)
    return Affine(factor, -mean / weight * factor)


def outputs_of(layer: Layer) -> int:
    """Channels that a Convolution, Deconvolution or InnerProduct makes."""
    return int(layer.shapes.tops[0][CHANNELS])


def into_outputs(layer: Layer, blobs: Sequence[np.ndarray], after: Affine) -> list[np.ndarray]:
    """Weight and bias of `layer` followed by `after`; a bias where there was none is left out if it is all zeros."""
    weight = np.asarray(blobs[0], np.float64)
    bias = np.asarray(blobs[1], np.float64) if len(blobs) > 1 else np.zeros(outputs_of(layer))
    if layer.type == "Deconvolution":  # inputs x outputs of the group x kernel
        group = groups(layer)
        per_group = np.repeat(after.factor.reshape(group, -1), weight.shape[0] // group, axis=0)
        weight = weight * per_group.reshape(*per_group.shape, *(1,) * (weight.ndim - 2))
    elif layer.type == "InnerProduct" and layer.param.inner_product_param.transpose:
        weight = weight * after.factor
    else:
        weight = weight * after.factor.reshape(-1, *(1,) * (weight.ndim - 1))
    bias = bias * after.factor + after.term
    return [weight, bias] if len(blobs) > 1 or bias.any() else [weight]


def into_inputs(layer: Layer, blobs: Sequence[np.ndarray], before: Affine) -> list[np.ndarray]:
    """Weight and bias of a Convolution or InnerProduct whose input went through `before`; there must be no padding."""
    weight = np.asarray(blobs[0], np.float64)
    bias = np.asarray(blobs[1], np.float64) if len(blobs) > 1 else np.zeros(outputs_of(layer))
    if layer.type == "InnerProduct":
        transpose = layer.param.inner_product_param.transpose
        rows = weight.T if transpose else weight  # outputs x inputs
        pixels = prod(layer.shapes.bottoms[0][CHANNELS + 1 :])
        factor, term = (np.repeat(one, pixels) for one in before)
        bias, rows = bias + rows @ term, rows * factor
        weight = rows.T if transpose else rows
    else:  # outputs x inputs of the group x kernel
        group = groups(layer)
        factor, term = (np.repeat(one.reshape(group, -1), len(weight) // group, axis=0) for one in before)
        kernel = (1,) * (weight.ndim - 2)
        bias = bias + (weight * term.reshape(*term.shape, *kernel)).reshape(len(weight), -1).sum(1)
        weight = weight * factor.reshape(*factor.shape, *kernel)
    return [weight, bias] if len(blobs) > 1 or bias.any() else [weight]
