"""Functions of each value by itself, and shifts and scales by channel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from rootgen.engine.onnx.layer import WRITERS, Part, writes
from rootgen.net.graph import LayerShapes, Shape

_PLAIN = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}
WRITERS.update({name: lambda part, op=op: part.op(op, part.bottoms[0]) for name, op in _PLAIN.items()})  # type: ignore[misc]


@writes("ReLU")
def relu(part: Part) -> str:
    slope = part.param.relu_param.negative_slope
    return part.op("LeakyRelu", part.bottoms[0], alpha=slope) if slope else part.op("Relu", part.bottoms[0])


@writes("PReLU")
def prelu(part: Part) -> str:
    channels = part.blobs[0].size
    shape = () if part.param.prelu_param.channel_shared else (channels, *(1,) * (len(part.shapes.bottoms[0]) - 2))
    return part.op("PRelu", part.bottoms[0], part.blob(0, shape))


@writes("ELU")
def elu(part: Part) -> str:
    return part.op("Elu", part.bottoms[0], alpha=part.param.elu_param.alpha)


@writes("Swish")
def swish(part: Part) -> str:
    x, beta = part.bottoms[0], part.param.swish_param.beta
    return part.op("Mul", x, part.op("Sigmoid", _linear(part, x, beta, 0)))


@writes("Clip")
def clip(part: Part) -> str:
    param = part.param.clip_param
    return part.op("Clip", part.bottoms[0], part.number(param.min), part.number(param.max))


@writes("Threshold")
def threshold(part: Part) -> str:
    above = part.op("Greater", part.bottoms[0], part.number(part.param.threshold_param.threshold))
    return part.op("Cast", above, to=TensorProto.FLOAT)


@writes("Power")
def power(part: Part) -> str:
    param = part.param.power_param
    if param.power * param.scale == 0:  # a constant, without 0 * inf
        with np.errstate(all="ignore"):
            value = np.power(np.float32(param.shift), np.float32(param.power))
        filled = helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
        return part.op("ConstantOfShape", part.op("Shape", part.bottoms[0]), value=filled)
    inner = _linear(part, part.bottoms[0], param.scale, param.shift)
    return inner if param.power == 1 else part.op("Pow", inner, part.number(param.power))


@writes("Exp")
def exponential(part: Part) -> str:
    param = part.param.exp_param
    base = _log_base(part, param.base)
    return part.op("Exp", _linear(part, part.bottoms[0], base * param.scale, base * param.shift))


@writes("Log")
def logarithm(part: Part) -> str:
    param = part.param.log_param
    log = part.op("Log", _linear(part, part.bottoms[0], param.scale, param.shift))
    return _linear(part, log, 1 / _log_base(part, param.base), 0)


def _linear(part: Part, x: str, scale: float, shift: float) -> str:
    """scale * x + shift."""
    x = x if scale == 1 else part.op("Mul", x, part.number(scale))
    return part.op("Add", x, part.number(shift)) if shift else x


def _log_base(part: Part, base: float) -> float:
    """Natural logarithm of a `base` field, whose default -1 stands for e."""
    if base == -1:
        return 1.0
    if base <= 0 or base == 1:
        raise part.error(f"base {base:g} (must be positive, and not 1)")
    return math.log(base)


@writes("Scale")
def scale(part: Part) -> str:
    param = part.param.scale_param
    out = part.op("Mul", part.bottoms[0], _term(part, param, 0))
    return (
        part.op("Add", out, part.blob(len(part.blobs) - 1, _along(param.axis)(part.shapes))) if param.bias_term else out
    )


@writes("Bias")
def bias(part: Part) -> str:
    return part.op("Add", part.bottoms[0], _term(part, part.param.bias_param, 0))


def _term(part: Part, param: Any, blob: int) -> str:
    """The factor or shift of a layer: its second bottom or its blob, so shaped that it goes along the first bottom."""
    along = _along(param.axis)
    return part.reshape(part.bottoms[1], along) if len(part.bottoms) > 1 else part.blob(blob, along(part.shapes))


def _along(axis: int):  # type: ignore[no-untyped-def]
    """A function of a layer's shapes: that of its factors, with ones behind to go along its bottom from `axis`."""

    def shape(shapes: LayerShapes) -> Shape:
        bottom = shapes.bottoms[0]
        factor = shapes.bottoms[1] if len(shapes.bottoms) > 1 else shapes.params[0]
        first = axis % len(bottom) if factor else len(bottom)
        return factor + (1,) * (len(bottom) - first - len(factor))

    return shape
