"""Layers that keep the shape: activations, Dropout, Power, Eltwise and their like."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.unit import BUILDERS, Run, Unit, builds

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
    base = _log_base(unit, param.base)
    return lambda x: torch.exp(base * (param.scale * x + param.shift))


@builds("Log")
def logarithm(unit: Unit) -> Run:
    param = unit.param.log_param
    base = _log_base(unit, param.base)
    return lambda x: torch.log(param.scale * x + param.shift) / base


def _log_base(unit: Unit, base: float) -> float:
    """Natural logarithm of a `base` field, whose default -1 stands for e."""
    if base == -1:
        return 1.0
    if base <= 0 or base == 1:
        raise unit.error(f"base {base:g} (must be positive, and not 1)")
    return math.log(base)


@builds("Dropout")
def dropout(unit: Unit) -> Run:
    ratio = unit.param.dropout_param.dropout_ratio
    if not 0 <= ratio < 1:
        raise unit.error(f"dropout_ratio is {ratio:g}, but has to be 0 or more and below 1")
    if unit.phase == "TEST":
        return lambda x: x

    def run(x: Tensor) -> Tensor:
        mask = torch.empty_like(x).bernoulli_(1 - ratio, generator=unit.generator)
        return x * mask.div_(1 - ratio)

    return run


@builds("Eltwise")
def eltwise(unit: Unit) -> Run:
    param = unit.param.eltwise_param
    product, greatest = 0, 2
    coeff = list(param.coeff)  # one per bottom, and none for PROD: Shapes' business; MAX takes no notice of them

    def run(*bottoms: Tensor) -> Tensor:
        if param.operation == product:
            return reduce(torch.mul, bottoms)
        if param.operation == greatest:
            return reduce(torch.maximum, bottoms)
        terms = [x if c == 1 else x * c for x, c in zip(bottoms, coeff or [1.0] * len(bottoms), strict=True)]
        return reduce(torch.add, terms)

    return run
