"""Functions of each value by itself, and shifts and scales by channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import BUILDERS, Run, Unit, builds

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Sigmoid": torch.sigmoid,
    "TanH": torch.tanh,
    "AbsVal": torch.abs,
    "BNLL": F.softplus,
}
BUILDERS.update({name: lambda _, function=function: function for name, function in _PLAIN.items()})  # type: ignore[misc]


@builds("ReLU")
def relu(unit: Unit) -> Run:
    slope = unit.param.relu_param.negative_slope
    return (lambda x: F.leaky_relu(x, slope)) if slope else F.relu


@builds("PReLU", fillers=lambda param: [_prelu_filler(param.prelu_param)])
def prelu(unit: Unit) -> Run:
    return lambda x: F.prelu(x, unit.blobs[0].reshape(-1))


def _prelu_filler(param):  # type: ignore[no-untyped-def]
    filler = type(param.filler)()
    filler.CopyFrom(param.filler)
    if not param.HasField("filler"):
        filler.type, filler.value = "constant", 0.25
    return filler


@builds("ReLU6")
def relu6(_: Unit) -> Run:
    return F.relu6


@builds("ELU")
def elu(unit: Unit) -> Run:
    return lambda x: F.elu(x, unit.param.elu_param.alpha)


@builds("Swish")
def swish(unit: Unit) -> Run:
    return lambda x: x * torch.sigmoid(unit.param.swish_param.beta * x)


@builds("Clip")
def clip(unit: Unit) -> Run:
    return lambda x: x.clamp(unit.param.clip_param.min, unit.param.clip_param.max)


@builds("Threshold")
def threshold(unit: Unit) -> Run:
    return lambda x: (x > unit.param.threshold_param.threshold).to(x.dtype)


@builds("Power")
def power(unit: Unit) -> Run:
    param = unit.param.power_param

    def run(x: Tensor) -> Tensor:
        if param.power * param.scale == 0:  # a constant, without 0 * inf
            return torch.full_like(x, param.shift).pow(param.power)
        inner = x * param.scale + param.shift
        return inner if param.power == 1 else inner.pow(param.power)

    return run


@builds("Exp")
def exponential(unit: Unit) -> Run:
    param = unit.param.exp_param
    base = _log_base(param.base)
    return lambda x: torch.exp(base * (param.scale * x + param.shift))


@builds("Log")
def logarithm(unit: Unit) -> Run:
    param = unit.param.log_param
    base = _log_base(param.base)
    return lambda x: torch.log(param.scale * x + param.shift) / base


def _log_base(base: float) -> float:
    """Natural logarithm of a `base` field, whose default -1 stands for e."""
    return 1.0 if base == -1 else math.log(base)


def _scale_fillers(param: Any) -> list[Any]:
    filler = type(param.scale_param.filler)()
    filler.CopyFrom(param.scale_param.filler)
    if not param.scale_param.HasField("filler"):
        filler.type, filler.value = "constant", 1  # Caffe's default: the identity
    own = [filler] if len(param.bottom) == 1 else []
    return [*own, param.scale_param.bias_filler]


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """`values` shaped to broadcast over `x` from `axis` on."""
    return values.reshape(values.shape + (1,) * (x.dim() - axis - values.dim()))


@builds("Scale", fillers=_scale_fillers, output_is_free=True)
def scale(unit: Unit) -> Run:
    param = unit.param.scale_param

    def run(x: Tensor, *other: Tensor) -> Tensor:
        factor = other[0] if other else unit.blobs[0]
        axis = unit.axis(param.axis) if factor.dim() else 0
        out = x * _along(factor, x, axis)
        return out + _along(unit.blobs[-1], x, axis) if param.bias_term else out

    return run


@builds("Bias", fillers=lambda param: [param.bias_param.filler], output_is_free=True)
def bias(unit: Unit) -> Run:
    def run(x: Tensor, *other: Tensor) -> Tensor:
        shift = other[0] if other else unit.blobs[0]
        return x + _along(shift, x, unit.axis(unit.param.bias_param.axis) if shift.dim() else 0)

    return run
