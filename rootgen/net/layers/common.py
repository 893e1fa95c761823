"""InnerProduct, Embed and Dropout (inner_product_layer.cpp, embed_layer.cpp, dropout_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import axis, same_shape, size
from rootgen.net.layers.registry import Shaped, layer_type


def _uses_per_row(layer: Layer) -> dict[int, int]:
    """Each weight meets its input once for every row of the output."""
    return {0: prod(layer.shapes.tops[0][:-1])}


@layer_type(
    "InnerProduct", "weights", "fully connected: every output sums all inputs", v1="INNER_PRODUCT", uses=_uses_per_row
)
def inner_product(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.inner_product_param
    first = axis(layer, param.axis, bottoms[0])
    num_output = size(layer, "num_output", param.num_output)
    inputs = prod(bottoms[0][first:])
    params: tuple[Shape, ...] = ((inputs, num_output) if param.transpose else (num_output, inputs),)
    if param.bias_term:
        params += ((num_output,),)
    return Shaped(((*bottoms[0][:first], num_output),), params)


layer_type("Dropout", "pass", "leaves out random values in training", v1="DROPOUT")(same_shape)


@layer_type("Embed", "weights", "looks rows of a table up by their number")
def embed(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    param = layer.param.embed_param
    num_output = size(layer, "num_output", param.num_output)
    params: tuple[Shape, ...] = ((size(layer, "input_dim", param.input_dim), num_output),)
    if param.bias_term:
        params += ((num_output,),)
    return Shaped(((*bottoms[0], num_output),), params)
