"""The update of one learnable blob under each of Caffe's solvers (src/caffe/solvers).

Momentum is Caffe's: the learning rate stands inside the history, v = momentum*v + rate*g and w -= v, so that
a change of the rate does not rescale the steps already in v, as it does in torch.optim.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Step(NamedTuple):
    """What an update needs beside the blob: the solver, the iteration from 0, the rate times lr_mult."""

    solver: Any
    iteration: int
    rate: float


# (step, blob, gradient, the blob's histories): changes the blob and its histories
Update = Callable[[Step, Tensor, Tensor, list[Tensor]], None]


def of(solver: Any) -> Update:
    """The update that the `type` of a checked SolverParameter names."""
    return _UPDATES[solver.type]


def clip(gradients: list[Tensor], limit: float) -> None:
    """Scale the gradients together so that their L2 norm is at most `limit`; a negative limit is none."""
    if limit < 0 or not gradients:
        return
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])).item()
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)


def regularize(solver: Any, decay_mult: float, blob: Tensor, gradient: Tensor) -> None:
    """Add the weight decay's gradient to `gradient`."""
    decay = solver.weight_decay * decay_mult
    if decay:
        gradient.add_(blob if solver.regularization_type == "L2" else blob.sign(), alpha=decay)


def _sgd(step: Step, blob: Tensor, gradient: Tensor, history: list[Tensor]) -> None:
    blob.sub_(history[0].mul_(step.solver.momentum).add_(gradient, alpha=step.rate))


def _nesterov(step: Step, blob: Tensor, gradient: Tensor, history: list[Tensor]) -> None:
    momentum = step.solver.momentum
    blob.add_(history[0], alpha=momentum)
    velocity = history[0].mul_(momentum).add_(gradient, alpha=step.rate)
    blob.sub_(velocity, alpha=1 + momentum)


def _adagrad(step: Step, blob: Tensor, gradient: Tensor, history: list[Tensor]) -> None:
    squares = history[0].addcmul_(gradient, gradient)
    blob.addcdiv_(gradient, squares.sqrt().add_(step.solver.delta), value=-step.rate)


def _rmsprop(step: Step, blob: Tensor, gradient: Tensor, history: list[Tensor]) -> None:
    decay = step.solver.rms_decay
    squares = history[0].mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
    blob.addcdiv_(gradient, squares.sqrt().add_(step.solver.delta), value=-step.rate)


def _adadelta(step: Step, blob: Tensor, gradient: Tensor, history: list[Tensor]) -> None:
    keep, delta = step.solver.momentum, step.solver.delta
    squares = history[0].mul_(keep).addcmul_(gradient, gradient, value=1 - keep)
    change = gradient * ((history[1] + delta) / (squares + delta)).sqrt_()
    history[1].mul_(keep).addcmul_(change, change, value=1 - keep)
    blob.sub_(change, alpha=step.rate)


def _adam(step: Step, blob: Tensor, gradient: Tensor, history: list[Tensor]) -> None:
    first, second = step.solver.momentum, step.solver.momentum2
    mean = history[0].mul_(first).add_(gradient, alpha=1 - first)
    squares = history[1].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    correction = math.sqrt(1 - second ** (step.iteration + 1)) / (1 - first ** (step.iteration + 1))
    blob.addcdiv_(mean, squares.sqrt().add_(step.solver.delta), value=-step.rate * correction)


_UPDATES: dict[str, Update] = {
    "SGD": _sgd,
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSProp": _rmsprop,
    "AdaDelta": _adadelta,
    "Adam": _adam,
}
