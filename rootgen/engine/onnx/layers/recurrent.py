"""RNN, LSTM and LSTMUnit: a Scan over the time steps, since ONNX's own RNN and LSTM know no `cont`.

An ONNX model remembers nothing: unless hidden states are exposed, every pass begins with zeros, as the first pass of
Caffe's net does. Where `cont` begins with 0, that makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper

from rootgen.engine.onnx.layer import Part, writes

Step = Callable[[Part, str, list[str], str], list[str]]  # gates, states, cont: to the new states, the output's first


@writes("RNN")
def rnn(part: Part) -> tuple[str, ...]:
    """h = tanh(W_h (cont h') + W_x x + b) after the hidden state h'; the top is tanh(W_o h + b_o)."""
    hidden, *states = _over_time(part, 1, lambda part, sums, _, __: [part.op("Tanh", sums)])
    last = len(part.blobs)
    out = part.op("Add", _times(part, hidden, last - 2), part.blob(last - 1))
    return (part.op("Tanh", out), *states)


@writes("LSTM")
def lstm(part: Part) -> tuple[str, ...]:
    """An LSTMUnit per time step, whose gates are W_h (cont h') + W_x x + b; the top is its hidden state h."""

    def step(part: Part, gates: str, states: list[str], cont: str) -> list[str]:
        return _lstm_cell(part, states[1], gates, cont, axis=1)[::-1]

    return _over_time(part, 2, step)


@writes("LSTMUnit")
def lstm_unit(part: Part) -> tuple[str, ...]:
    cell, gates, cont = part.bottoms
    return tuple(_lstm_cell(part, cell, gates, part.op("Unsqueeze", cont, part.whole(2)), axis=2))


def _times(part: Part, x: str, blob: int) -> str:
    """`x` times the transposed weights of a blob, along its last axis."""
    return part.op("MatMul", x, part.array(part.blobs[blob].T, f"{blob}/transposed"))


def _over_time(part: Part, count: int, step: Step) -> tuple[str, ...]:
    """The output of every step, T x N x num_output, and the last of the `count` hidden states where exposed."""
    param = part.param.recurrent_param
    states = count if param.expose_hidden else 0
    static = len(part.bottoms) > 2 + states
    sums = _sums(part, static)
    weight = part.array(part.blobs[3 if static else 2].T, "hidden/transposed")
    first = [part.op("Squeeze", x, part.whole(0)) for x in part.bottoms[2 + static :]] or [_zeros(part)] * count
    flags = part.op("Unsqueeze", part.bottoms[1], part.whole(2))
    body = _body(part, count, weight, step)
    *last, outputs = part.node("Scan", *first, sums, flags, outputs=count + 1, body=body, num_scan_inputs=2)
    exposed = [part.op("Unsqueeze", x, part.whole(0)) for x in last] if states else []
    return (outputs, *exposed)


def _sums(part: Part, static: bool) -> str:
    """What each time step adds up beside its hidden state: W_x x + b, and W_s s where there is a static input."""
    x, bottom = part.bottoms[0], part.shapes.bottoms[0]
    if len(bottom) > 3:
        x = part.reshape(x, lambda shapes: (*shapes.bottoms[0][:2], int(np.prod(shapes.bottoms[0][2:]))))
    sums = part.op("Add", _times(part, x, 0), part.blob(1))
    if static:
        flat = part.op("Flatten", part.bottoms[2], axis=1)
        sums = part.op("Add", sums, _times(part, flat, 2))
    return sums


def _zeros(part: Part) -> str:
    streams = part.shapes.bottoms[0][1]
    return part.number(np.zeros((streams, part.param.recurrent_param.num_output)))


def _body(part: Part, count: int, weight: str, step: Step):  # type: ignore[no-untyped-def]
    """One time step as a graph of its own: from the states, sums and cont to the new states and the output."""
    graph = part.graph
    size, streams = part.param.recurrent_param.num_output, part.shapes.bottoms[0][1]
    rows = part.blobs[0].shape[0]
    names = [
        graph.value(f"{part.layer.name}/{name}") for name in [*(f"state{i}" for i in range(count)), "sums", "cont"]
    ]
    *states, sums, cont = names
    outside = len(graph.nodes)
    kept = part.op("Mul", states[0], cont)
    new = step(part, part.op("Add", part.op("MatMul", kept, weight), sums), states, cont)
    output = part.op("Identity", new[0])
    nodes, graph.nodes[outside:] = graph.nodes[outside:], []
    shapes = [*[(streams, size)] * count, (streams, rows), (streams, 1)]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip(names, shapes, strict=True)
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (streams, size)) for name in (*new, output)]
    return helper.make_graph(nodes, f"{part.layer.name}/step", infos, results)


def _lstm_cell(part: Part, cell: str, gates: str, cont: str, *, axis: int) -> list[str]:
    """(cell, hidden) after `cell`; `gates` along `axis` are those of input, forgetting, output, and the new values."""
    size = part.shapes.tops[0][2]
    enter, forget, leave, new = part.node("Split", gates, part.whole(*[size] * 4), outputs=4, axis=axis)
    kept = part.op("Mul", part.op("Mul", cont, part.op("Sigmoid", forget)), cell)
    cell = part.op("Add", kept, part.op("Mul", part.op("Sigmoid", enter), part.op("Tanh", new)))
    return [cell, part.op("Mul", part.op("Sigmoid", leave), part.op("Tanh", cell))]
