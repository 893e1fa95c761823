"""BatchNorm, LRN and MVN."""

from __future__ import annotations

import logging

import numpy as np

from rootgen.engine.onnx.layer import Part, writes

log = logging.getLogger("rootgen")


@writes("BatchNorm")
def batch_norm(part: Part) -> str:
    """By the running statistics: sums of means and of variances, over the sum of their weights; 0 where that is 0."""
    param = part.param.batch_norm_param
    if param.HasField("use_global_stats") and not param.use_global_stats:
        return _by_the_batch(part, param.eps)
    total = float(part.blobs[2].reshape(()))
    if not total:
        log.warning("%s: its statistics were never run (factor 0): mean and variance 0, as in Caffe", part.layer.where)
    factor = np.float32(1 / total if total else 0)
    mean = part.array(part.blobs[0] * factor, "mean")
    variance = part.array(part.blobs[1] * factor, "variance")
    channels = part.blobs[0].size
    ones = part.graph.constant(np.ones(channels, np.float32), f"ones_{channels}", "ones")
    zeros = part.graph.constant(np.zeros(channels, np.float32), f"zeros_{channels}", "zeros")
    return part.op("BatchNormalization", part.bottoms[0], ones, zeros, mean, variance, epsilon=param.eps)


def _by_the_batch(part: Part, eps: float) -> str:
    axes = [i for i in range(len(part.shapes.bottoms[0])) if i != 1]
    centred, variance = _centred(part, part.bottoms[0], axes)
    return part.op("Div", centred, part.op("Sqrt", part.op("Add", variance, part.number(eps))))


def _centred(part: Part, x: str, axes: list[int]) -> tuple[str, str]:
    """`x` less its mean over `axes`, and its variance there."""
    centred = part.op("Sub", x, part.op("ReduceMean", x, axes=axes))
    return centred, part.op("ReduceMean", part.op("Mul", centred, centred), axes=axes)


@writes("LRN")
def lrn(part: Part) -> str:
    param = part.param.lrn_param
    x, size = part.bottoms[0], param.local_size
    if param.norm_region == 0:
        return part.op("LRN", x, size=size, alpha=param.alpha, beta=param.beta, bias=param.k)
    window = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4, "count_include_pad": 1}
    mean = part.op("AveragePool", part.op("Mul", x, x), **window)
    scale = part.op("Add", part.op("Mul", mean, part.number(param.alpha)), part.number(1))  # k is not used, as in Caffe
    return part.op("Mul", x, part.op("Pow", scale, part.number(-param.beta)))


@writes("MVN")
def mvn(part: Part) -> str:
    param = part.param.mvn_param
    axes = [1, 2, 3] if param.across_channels else [2, 3]
    x = part.bottoms[0]
    if part.shapes.tops[0] != part.shapes.bottoms[0]:  # four axes, whatever the bottom has
        x = part.reshape(x, lambda shapes: shapes.tops[0])
    if not param.normalize_variance:
        return part.op("Sub", x, part.op("ReduceMean", x, axes=axes))
    centred, variance = _centred(part, x, axes)
    return part.op("Div", centred, part.op("Add", part.op("Sqrt", variance), part.number(param.eps)))
