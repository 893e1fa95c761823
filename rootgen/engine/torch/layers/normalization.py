"""BatchNorm, LRN and MVN; BN of other Caffes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Processes, Run, Unit, builds
from rootgen.net.layers.normalization import is_segnets_bn
from rootgen.text import shape_text

_INFERENCE = 1


@builds("BatchNorm", output_is_free=True)
def batch_norm(unit: Unit) -> Run:
    """Normalises each channel; blobs are the sums of means, of variances, and of their weights.

    The sums decay by moving_average_fraction per pass in TRAIN; the statistics are sums over weights
    (batch_norm_layer.cpp). There is no scale or shift: those are the Scale layer's, which may give them to the run
    function (layer.share_passes): a pass over memory instead of three, and as many less backward.
    """
    param = unit.param.batch_norm_param
    use_global = param.use_global_stats if param.HasField("use_global_stats") else unit.phase == "TEST"
    return _global_statistics(unit, param.eps) if use_global else _batch_statistics(unit, param)


def _global_statistics(unit: Unit, eps: float) -> Run:
    def run(x: Tensor, factor: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        total = unit.blobs[2]
        scale = torch.where(total == 0, total, 1 / total)
        mean, variance = unit.blobs[0] * scale, unit.blobs[1] * scale
        return F.batch_norm(x, mean, variance, factor, shift, False, 0.0, eps)

    return run


def _batch_statistics(unit: Unit, param: Any) -> Run:
    def run(x: Tensor, factor: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if not x.shape[0]:
            raise unit.error(f"has no image in this batch to take statistics of: {shape_text(x.shape)}")
        mean, variance = torch.zeros_like(unit.blobs[0]), torch.zeros_like(unit.blobs[1])
        if unit.group is not None:
            mean, variance, out = _by_all(x, unit.group, param.eps)
            out = _scaled_and_shifted(out, factor, shift)
        elif x.numel() == x.shape[1]:  # one value per channel, which PyTorch refuses
            mean, out = x.detach().flatten(), _scaled_and_shifted(x * 0, factor, shift)
        else:  # with momentum 1 the running statistics become the batch's: mean and unbiased variance, as Caffe's
            out = F.batch_norm(x, mean, variance, factor, shift, True, 1.0, param.eps)
        with torch.no_grad():
            for blob, value in zip(unit.blobs, (mean, variance, 1), strict=True):
                blob.mul_(param.moving_average_fraction).add_(value)
        return out

    return run


def _by_all(x: Tensor, group: Processes, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and unbiased variance per channel of the batches of all processes, and `x` normalized by them."""
    mean, variance = _moments(x, group)
    out = (x - _per_channel(mean, x)) / (_per_channel(variance, x) + eps).sqrt()
    count = x.numel() // x.shape[1] * group.size
    return mean.detach(), variance.detach() * (count / max(count - 1, 1)), out


def _moments(x: Tensor, group: Processes | None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel of a batch, or of the batches of all processes."""
    axes = (0, *range(2, x.dim()))
    if group is None:
        return x.mean(axes), x.var(axes, unbiased=False)
    mean = group.average(x.mean(axes))
    return mean, group.average((x - _per_channel(mean, x)).square().mean(axes))


def _bn_fillers(param: Any) -> list[Any]:
    bn = param.bn_param
    if is_segnets_bn(param):
        return [bn.scale_filler, bn.shift_filler]
    slope, bias = bn.slope_filler, bn.bias_filler
    mean, variance = type(slope)(), type(slope)(value=1.0 if bn.frozen else 0.0)
    return [slope, bias, mean, variance]


@builds("BN", fillers=_bn_fillers)
def batch_norm_and_scale(unit: Unit) -> Run:
    """PSPNet's: by the batch in TRAIN, keeping averages, by these in TEST or if frozen; SegNet's: as bn_mode says.

    SegNet's LEARN normalizes by the batch in both phases, INFERENCE by nothing (the statistics are in its blobs).
    """
    param = unit.param.bn_param
    if is_segnets_bn(unit.param):
        if not param.ByteSize():
            raise unit.error(
                "its caffemodel does not say what its blobs scale (bn_mode)", "pass its prototxt as the net"
            )
        return _scaled(unit) if param.bn_mode == _INFERENCE else _by_batch(unit, param.eps)
    if param.frozen or unit.phase == "TEST":
        return _by_averages(unit, param.eps)
    return _by_batch(unit, param.eps, param.momentum)


def _by_averages(unit: Unit, eps: float) -> Run:
    def run(x: Tensor) -> Tensor:
        slope, bias, mean, variance = (blob.reshape(-1) for blob in unit.blobs)
        return F.batch_norm(x, mean, variance, slope, bias, False, 0.0, eps)

    return run


def _scaled(unit: Unit) -> Run:
    return lambda x: x * _per_channel(unit.blobs[0], x) + _per_channel(unit.blobs[1], x)


def _by_batch(unit: Unit, eps: float, momentum: float | None = None) -> Run:
    """Normalized by the batch's mean and (biased) variance, of which running averages are kept with `momentum`."""

    def run(x: Tensor) -> Tensor:
        mean, variance = _moments(x, unit.group)
        if momentum is not None:
            with torch.no_grad():
                for blob, value in zip(unit.blobs[2:], (mean, variance), strict=True):
                    blob.mul_(momentum).add_(value.reshape(blob.shape), alpha=1 - momentum)
        out = (x - _per_channel(mean, x)) / (_per_channel(variance, x) + eps).sqrt()
        return out * _per_channel(unit.blobs[0], x) + _per_channel(unit.blobs[1], x)

    return run


def _scaled_and_shifted(x: Tensor, factor: Tensor | None, shift: Tensor | None) -> Tensor:
    """`x` with each channel times a factor, plus a shift, as far as they are given."""
    x = x if factor is None else x * _per_channel(factor, x)
    return x if shift is None else x + _per_channel(shift, x)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """One value per channel, shaped to go with `x`."""
    return values.reshape(-1, *(1,) * (x.dim() - 2))


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
