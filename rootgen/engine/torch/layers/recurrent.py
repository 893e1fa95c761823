"""RNN, LSTM and LSTMUnit, as recurrent_layer.cpp, rnn_layer.cpp, lstm_layer.cpp and lstm_unit_layer.cpp run them.

A batch is T x N x ...: T time steps of N streams. `cont` (T x N) is 0 where a stream begins a new sequence, which
forgets what the steps before left, and 1 where it goes on. Caffe takes no gradient of it.

Unless hidden states are exposed, a layer goes on from those that the pass before left, whatever batch that was. As
in Caffe each net has its own, zeros at first, in testing as in training, and no gradient flows from one pass back
into another. So what a pass gives depends on the passes before it unless `cont` begins with 0; and since no snapshot
holds the states (nor does Caffe's), a training that is resumed repeats the unbroken one only if every batch begins
with 0 in `cont`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rootgen.engine.torch.layer import Run, Unit, builds

Step = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]  # sums, cont, states -> states, the output's first


def _recurrent_fillers(param: Any) -> list[Any]:
    """Of W_x, b, W_static where there is a static input, W_h, and an RNN's W_o and b_o."""
    weight, bias = param.recurrent_param.weight_filler, param.recurrent_param.bias_filler
    static = [weight] if _has_static_input(param) else []
    output = [weight, bias] if param.type == "RNN" else []
    return [weight, bias, *static, weight, *output]


def _has_static_input(param: Any) -> bool:
    """Whether a bottom beside x, cont and the exposed hidden states is given: one input for all time steps."""
    exposed = {"RNN": 1, "LSTM": 2}[param.type] if param.recurrent_param.expose_hidden else 0
    return len(param.bottom) > 2 + exposed


@builds("RNN", fillers=_recurrent_fillers)
def rnn(unit: Unit) -> Run:
    """h = tanh(W_h (cont h') + W_x x + b) after the hidden state h'; the top is tanh(W_o h + b_o)."""
    return _over_time(
        unit,
        states=1,
        step=lambda sums, _, __: [torch.tanh(sums)],
        output=lambda hidden: torch.tanh(F.linear(hidden, unit.blobs[-2], unit.blobs[-1])),
    )


@builds("LSTM", fillers=_recurrent_fillers)
def lstm(unit: Unit) -> Run:
    """An LSTMUnit per time step, whose gates are W_h (cont h') + W_x x + b; the top is its hidden state h."""

    def step(gates: Tensor, cont: Tensor, states: list[Tensor]) -> list[Tensor]:
        cell, hidden = _lstm_cell(states[1], gates, cont)
        return [hidden, cell]

    return _over_time(unit, states=2, step=step, output=lambda hidden: hidden)


def _over_time(unit: Unit, *, states: int, step: Step, output: Callable[[Tensor], Tensor]) -> Run:
    """A layer of `states` hidden states, each 1 x N x num_output, from its `step` and its `output` (both T x N x ...).

    Exposed hidden states come as bottoms and go as tops; as in Caffe no gradient passes through either.
    """
    param = unit.param.recurrent_param
    static = _has_static_input(unit.param)
    memory = _Memory(states, param.num_output)
    steps = unit.bottoms[0][0]

    def run(x: Tensor, cont: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        if len(x) != steps:
            raise unit.error(
                f"{len(x)} time steps, where the net is made for {steps} (Caffe cannot change them either)"
            )
        flags = cont.detach().unsqueeze(2)
        current = [state.detach() for state in more[static:]] if param.expose_hidden else memory.recall(x)
        sums = F.linear(x.flatten(2), unit.blobs[0], unit.blobs[1])
        if static:
            sums = sums + F.linear(more[0].flatten(1), unit.blobs[2])
        weight = unit.blobs[3 if static else 2]
        hidden = []
        for now, flag in zip(sums.split(1), flags.split(1), strict=True):
            current = step(F.linear(flag * current[0], weight) + now, flag, current)
            hidden.append(current[0])
        top = output(torch.cat(hidden))
        if param.expose_hidden:
            return (top, *(state.detach() for state in current))
        memory.keep(current)
        return (top,)

    return run


class _Memory:
    """The hidden states, each 1 x N x `size`, that one pass leaves to the next.

    Where a pass has fewer streams N, the first ones go on; more streams than ever before start from zeros, all of
    them, as in a blob that Caffe makes anew.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._blobs: list[Tensor] = []

    def recall(self, x: Tensor) -> list[Tensor]:
        """The states for the streams of `x`, T x N x ..."""
        streams = x.shape[1]
        if not self._blobs or self._blobs[0].shape[1] < streams:
            shape = (1, streams, self._size)
            with torch.inference_mode(False):  # what is made in inference mode can have no part in a gradient
                self._blobs = [torch.zeros(shape, dtype=x.dtype, device=x.device) for _ in range(self._count)]
        return [blob[:, :streams].clone() for blob in self._blobs]

    def keep(self, states: Sequence[Tensor]) -> None:
        for blob, state in zip(self._blobs, states, strict=True):
            blob[:, : state.shape[1]].copy_(state.detach())


@builds("LSTMUnit")
def lstm_unit(_: Unit) -> Run:
    """One time step: from the cell state (1 x N x D), gates (1 x N x 4D) and cont (1 x N) to cell and hidden state."""

    return lambda cell, gates, cont: _lstm_cell(cell, gates, cont.detach().unsqueeze(2))


def _lstm_cell(cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """(cell, hidden) after `cell`; `gates` holds those of input, forgetting, output, and the new values, in this order.

    cell = cont sigmoid(f) cell' + sigmoid(i) tanh(g), hidden = sigmoid(o) tanh(cell).
    """
    enter, forget, leave, new = gates.chunk(4, 2)
    kept: Tensor = _Forget.apply(forget, cont)
    cell = kept * cell + torch.sigmoid(enter) * torch.tanh(new)
    return cell, torch.sigmoid(leave) * torch.tanh(cell)


class _Forget(torch.autograd.Function):
    """f = cont sigmoid(x), with f (1 - f) for its gradient: Caffe's, which is the true one for a cont of 0 or 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cont: Tensor) -> Tensor:
        kept = cont * torch.sigmoid(x)
        ctx.save_for_backward(kept)
        return kept

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradient * kept * (1 - kept), None
