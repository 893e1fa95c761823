"""Recurrent layers over T x N x ... sequences (recurrent_layer.cpp, lstm_layer.cpp, rnn_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import size
from rootgen.net.layers.registry import Shaped, layer_type
from rootgen.text import shape_text

_BLOBS = {"RNN": 5, "LSTM": 3}  # learnable blobs without a static input


def _uses_per_step(layer: Layer) -> dict[int, int]:
    """Each weight is used at every step of every sequence; those of a static input, whose blob is the third, once."""
    time, streams = layer.shapes.bottoms[0][:2]
    params = layer.shapes.params
    static = len(params) > _BLOBS[layer.type]
    return {i: streams if static and i == 2 else time * streams for i, shape in enumerate(params) if len(shape) == 2}


@layer_type("RNN", "weights", "a plain recurrent layer", bottoms=(2, 4), tops=(1, 2), uses=_uses_per_step)
@layer_type(
    "LSTM", "weights", "long short-term memory over sequences", bottoms=(2, 5), tops=(1, 3), uses=_uses_per_step
)
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
    if len(x) < 3 or cont != x[:2]:  # Caffe needs an axis of features
        raise layer.error(f"takes x of T x N x ... and cont of T x N, not {shape_text(x)} and {shape_text(cont)}")
    if static and len(bottoms[2]) < 2:
        raise layer.error(f"takes a static input of N x ..., not {shape_text(bottoms[2])}")
    if static and bottoms[2][:1] != x[1:2]:
        raise layer.error(
            f"its static input {shape_text(bottoms[2])} does not begin with the number of streams, {x[1]}"
        )
    state = (1, x[1], n)
    for shape in bottoms[2 + static :]:
        if shape != state:
            raise layer.error(f"takes hidden states of {shape_text(state)}, not {shape_text(shape)}")
    rows = 4 * n if layer.type == "LSTM" else n
    params: tuple[Shape, ...] = ((rows, prod(x[2:])), (rows,))
    if static:
        params += ((rows, prod(bottoms[2][1:])),)
    params += ((rows, n),)
    if layer.type == "RNN":
        params += ((n, n), (n,))
    return Shaped(((x[0], x[1], n), *(state,) * hidden), params)


@layer_type("LSTMUnit", "arrange", "one step of an LSTM, from its gates", bottoms=3, tops=2)
def lstm_unit(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    cell, gates, cont = bottoms
    if len(cell) != 3 or cell[0] != 1 or gates != (1, cell[1], 4 * cell[2]) or cont != (1, cell[1]):
        raise layer.error(
            f"takes 1 x N x D, 1 x N x 4D and 1 x N, not {shape_text(cell)}, {shape_text(gates)} and {shape_text(cont)}"
        )
    return Shaped((cell, cell))
