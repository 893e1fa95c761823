"""Functions of each value by itself, and shifts and scales by channel (neuron_layer.cpp, scale_layer.cpp, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import axis, channels_of, not_in_place, same_shape
from rootgen.net.layers.registry import Shaped, layer_type
from rootgen.text import shape_text

layer_type("BNLL", "activation", "log(1 + exp(x))", v1="BNLL")(same_shape)
layer_type("Clip", "activation", "x held between min and max")(same_shape)
layer_type("ELU", "activation", "x, below zero alpha (exp(x) - 1)")(same_shape)
layer_type("Exp", "activation", "base ^ (shift + scale x)", v1="EXP")(same_shape)
layer_type("Log", "activation", "log of shift + scale x", v1="LOG")(same_shape)
layer_type("ReLU", "activation", "x, below zero 0 (or negative_slope x)", v1="RELU")(same_shape)
layer_type("ReLU6", "activation", "x held between 0 and 6", origin="MobileNet")(same_shape)
layer_type("Sigmoid", "activation", "1 / (1 + exp(-x))", v1="SIGMOID")(same_shape)
layer_type("Swish", "activation", "x sigmoid(beta x)")(same_shape)
layer_type("TanH", "activation", "hyperbolic tangent", v1="TANH")(same_shape)
layer_type("Threshold", "activation", "1 above the threshold, else 0", v1="THRESHOLD")(same_shape)
# As a rule Power shifts and scales, so that the activation is still to come.
layer_type("Power", "per channel", "(shift + scale x) ^ power", v1="POWER")(same_shape)


@layer_type("AbsVal", "activation", "absolute value", v1="ABSVAL")
def absolute(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    not_in_place(layer)
    return Shaped((bottoms[0],))


@layer_type("PReLU", "activation", "x, below zero a learnt slope times x")
def prelu(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    channels = channels_of(layer, bottoms[0])
    return Shaped((bottoms[0],), ((),) if layer.param.prelu_param.channel_shared else ((channels,),))


@layer_type("Scale", "per channel", "times a factor per channel, learnt or a second bottom", bottoms=(1, 2))
@layer_type("Bias", "per channel", "plus a term per channel, learnt or a second bottom", bottoms=(1, 2))
def scale(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """One factor or term per place of `num_axes` axes from `axis` on; the second bottom, where given, holds them."""
    bottom = bottoms[0]
    param = layer.param.scale_param if layer.type == "Scale" else layer.param.bias_param
    if len(bottoms) > 1:
        shape = bottoms[1]
        first = axis(layer, param.axis, bottom) if shape else 0
        if bottom[first : first + len(shape)] != shape:
            raise layer.error(
                f"bottom '{layer.bottoms[1]}' of {shape_text(shape)} does not fit {shape_text(bottom)} "
                f"from axis {first} on"
            )
        learned: tuple[Shape, ...] = ()
    else:
        shape = _covered(layer, bottom, param)
        learned = (shape,)
    if layer.type == "Scale" and param.bias_term:
        learned += (shape,)
    return Shaped((bottom,), learned)


def _covered(layer: Layer, bottom: Shape, param: Any) -> Shape:
    """The axes of `bottom` that a Scale or Bias layer's own blob covers."""
    first = axis(layer, param.axis, bottom)
    if param.num_axes < -1:
        raise layer.error(f"num_axes is {param.num_axes}, but has to be 0 or more, or -1 for all")
    end = len(bottom) if param.num_axes == -1 else first + param.num_axes
    if end > len(bottom):
        raise layer.error(f"axis {param.axis} and num_axes {param.num_axes} go beyond its bottom {shape_text(bottom)}")
    return bottom[first:end]
