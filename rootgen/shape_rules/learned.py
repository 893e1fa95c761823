"""Layers with learnable blobs or running statistics other than convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from rootgen.net import Layer
from rootgen.shape_rules.common import Options, Shape, Shaped, axis, blob_shape, rule, size, source, text


@rule("InnerProduct")
def inner_product(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.inner_product_param
    first = axis(layer, param.axis, bottoms[0])
    num_output = size(layer, "num_output", param.num_output)
    inputs = prod(bottoms[0][first:])
    params: tuple[Shape, ...] = ((inputs, num_output) if param.transpose else (num_output, inputs),)
    if param.bias_term:
        params += ((num_output,),)
    return Shaped(((*bottoms[0][:first], num_output),), params)


@rule("Embed")
def embed(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.embed_param
    num_output = size(layer, "num_output", param.num_output)
    params: tuple[Shape, ...] = ((size(layer, "input_dim", param.input_dim), num_output),)
    if param.bias_term:
        params += ((num_output,),)
    return Shaped(((*bottoms[0], num_output),), params)


@rule("BatchNorm")
def batch_norm(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """Statistics: means (C), variances (C), and the factor (1) by which both are scaled."""
    bottom = bottoms[0]
    if len(bottom) < 2:
        raise layer.error(f"takes a bottom of 2 axes or more, not {text(bottom)}")
    channels = bottom[1]
    return Shaped((bottom,), ((channels,), (channels,), (1,)))


@rule("Scale", "Bias")
def scale(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """One factor or term per place of `num_axes` axes from `axis` on; the second bottom, where given, holds them."""
    bottom = bottoms[0]
    param = layer.param.scale_param if layer.type == "Scale" else layer.param.bias_param
    if len(bottoms) > 1:
        shape = bottoms[1]
        first = axis(layer, param.axis, bottom) if shape else 0
        if bottom[first : first + len(shape)] != shape:
            raise layer.error(
                f"bottom '{layer.bottoms[1]}' of {text(shape)} does not fit {text(bottom)} from axis {first} on"
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
        raise layer.error(f"axis {param.axis} and num_axes {param.num_axes} go beyond its bottom {text(bottom)}")
    return bottom[first:end]


@rule("PReLU")
def prelu(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    bottom = bottoms[0]
    if len(bottom) < 2:
        raise layer.error(f"takes a bottom of 2 axes or more, not {text(bottom)}")
    return Shaped((bottom,), ((),) if layer.param.prelu_param.channel_shared else ((bottom[1],),))


@source("Parameter")
def parameter(layer: Layer, options: Options) -> Shaped:
    del options
    shape = blob_shape(layer, "its blob", layer.param.parameter_param.shape)
    return Shaped((shape,), (shape,))


@rule("RNN", "LSTM")
def recurrent(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """Bottoms x (T, N, ...), cont (T, N), perhaps a static input (N, ...), and hidden states where exposed."""
    param = layer.param.recurrent_param
    n = size(layer, "num_output", param.num_output)
    hidden = (2 if layer.type == "LSTM" else 1) if param.expose_hidden else 0
    static = len(bottoms) - 2 - hidden
    if static not in (0, 1) or len(layer.tops) != 1 + hidden:
        raise layer.error(
            f"has {len(bottoms)} bottom and {len(layer.tops)} top, but takes {2 + hidden} or {3 + hidden} "
            f"and {1 + hidden}"
        )
    x, cont = bottoms[:2]
    if len(x) < 2 or cont != x[:2]:
        raise layer.error(f"takes x of T x N x ... and cont of T x N, not {text(x)} and {text(cont)}")
    if static and bottoms[2][:1] != x[1:2]:
        raise layer.error(f"its static input {text(bottoms[2])} does not begin with the number of streams, {x[1]}")
    state = (1, x[1], n)
    for shape in bottoms[2 + static :]:
        if shape != state:
            raise layer.error(f"takes hidden states of {text(state)}, not {text(shape)}")
    rows = 4 * n if layer.type == "LSTM" else n
    params: tuple[Shape, ...] = ((rows, prod(x[2:])), (rows,))
    if static:
        params += ((rows, prod(bottoms[2][1:])),)
    params += ((rows, n),)
    if layer.type == "RNN":
        params += ((n, n), (n,))
    return Shaped(((x[0], x[1], n), *(state,) * hidden), params)


@rule("LSTMUnit")
def lstm_unit(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    cell, gates, cont = bottoms
    if len(cell) != 3 or cell[0] != 1 or gates != (1, cell[1], 4 * cell[2]) or cont != (1, cell[1]):
        raise layer.error(f"takes 1 x N x D, 1 x N x 4D and 1 x N, not {text(cell)}, {text(gates)} and {text(cont)}")
    return Shaped((cell, cell))
