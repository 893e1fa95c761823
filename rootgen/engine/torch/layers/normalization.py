"""BatchNorm, LRN and MVN."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds
from rootgen.text import shape_text


@builds("BatchNorm", output_is_free=True)
def batch_norm(unit: Unit) -> Run:
    """Normalises each channel; blobs are the sums of means, of variances, and of their weights.

    The sums decay by moving_average_fraction per pass in TRAIN; the statistics are sums over weights
    (batch_norm_layer.cpp). There is no scale or shift: that is the Scale layer's.
    """
    param = unit.param.batch_norm_param
    use_global = param.use_global_stats if param.HasField("use_global_stats") else unit.phase == "TEST"
    return _global_statistics(unit, param.eps) if use_global else _batch_statistics(unit, param)


def _global_statistics(unit: Unit, eps: float) -> Run:
    def run(x: Tensor) -> Tensor:
        total = unit.blobs[2]
        scale = torch.where(total == 0, total, 1 / total)
        mean, variance = unit.blobs[0] * scale, unit.blobs[1] * scale
        return F.batch_norm(x, mean, variance, None, None, False, 0.0, eps)

    return run


def _batch_statistics(unit: Unit, param: Any) -> Run:
    def run(x: Tensor) -> Tensor:
        if not x.shape[0]:
            raise unit.error(f"has no image in this batch to take statistics of: {shape_text(x.shape)}")
        mean, variance = torch.zeros_like(unit.blobs[0]), torch.zeros_like(unit.blobs[1])
        if x.numel() == x.shape[1]:  # one value per channel, which PyTorch refuses
            mean, out = x.detach().flatten(), x * 0
        else:  # with momentum 1 the running statistics become the batch's: mean and unbiased variance, as Caffe's
            out = F.batch_norm(x, mean, variance, None, None, True, 1.0, param.eps)
        with torch.no_grad():
            for blob, value in zip(unit.blobs, (mean, variance, 1), strict=True):
                blob.mul_(param.moving_average_fraction).add_(value)
        return out

    return run


@builds("LRN")
def lrn(unit: Unit) -> Run:
    param = unit.param.lrn_param
    size = param.local_size
    if param.norm_region == 0:
        return lambda x: F.local_response_norm(x, size, param.alpha, param.beta, param.k)

    def within_channel(x: Tensor) -> Tensor:  # k is not used here, as in Caffe
        mean = F.avg_pool2d(x * x, size, 1, size // 2)
        return x * (1 + param.alpha * mean).pow(-param.beta)

    return within_channel


@builds("MVN")
def mvn(unit: Unit) -> Run:
    param = unit.param.mvn_param
    axes = (1, 2, 3) if param.across_channels else (2, 3)

    def run(x: Tensor) -> Tensor:
        x = unit.reshaped(x)  # four axes, whatever the bottom has
        centred = x - x.mean(axes, keepdim=True)
        if not param.normalize_variance:
            return centred
        return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + param.eps)

    return run
