"""Learning rate of every iteration under Caffe's lr_policy (SGDSolver::GetLearningRate)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from rootgen.errors import RootgenError, did_you_mean


def learning_rate(solver: Any, iteration: int) -> float:
    """The rate of an iteration, counted from 0, before any lr_mult."""
    try:
        return _POLICIES[solver.lr_policy](solver, iteration)
    except OverflowError:  # gamma above 1, after long enough
        return math.inf


def tests_before(solver: Any, iteration: int) -> int:
    """Passes of testing that an unbroken run makes before that of `iteration`."""
    interval = solver.test_interval
    if not interval:
        return 0
    return max(-(-iteration // interval) - (0 if solver.test_initialization else 1), 0)


def current_step(solver: Any, iteration: int) -> int:
    """How many steps of the rate ("step", "multistep") lie at or before an iteration; Caffe's current_step."""
    if solver.lr_policy == "step":
        return iteration // solver.stepsize
    if solver.lr_policy == "multistep":
        # Caffe takes one step an iteration, also where a stepvalue stands twice.
        return bisect_right(list(accumulate(solver.stepvalue, lambda last, value: max(value, last + 1))), iteration)
    return 0


def check_policy(solver: Any, where: object) -> None:
    """Refuse a schedule that Caffe would refuse, or that has no rate at all."""
    policy = solver.lr_policy
    if policy not in _POLICIES:
        what = f"unknown lr_policy '{policy}'" if policy else "no lr_policy"
        raise RootgenError(what, where=where, hint=did_you_mean(policy, _POLICIES))
    if not solver.HasField("base_lr"):
        raise RootgenError("no base_lr", where=where, hint="give the learning rate of iteration 0, e.g. base_lr: 0.1")
    if policy in ("step", "sigmoid") and solver.stepsize <= 0:
        raise RootgenError(f"lr_policy '{policy}' needs stepsize > 0, found {solver.stepsize}", where=where)
    if policy in ("step", "exp", "inv", "multistep", "sigmoid") and not solver.gamma >= 0:
        raise RootgenError(f"lr_policy '{policy}' needs gamma >= 0, found {solver.gamma:g}", where=where)
    steps = list(solver.stepvalue)
    if policy == "multistep" and steps != sorted(steps):
        raise RootgenError(f"stepvalue must rise, found {', '.join(map(str, steps))}", where=where)
    if policy == "poly" and solver.max_iter <= 0:
        raise RootgenError(f"lr_policy 'poly' needs max_iter > 0, found {solver.max_iter}", where=where)


def _stepped(solver: Any, iteration: int) -> float:
    return solver.base_lr * solver.gamma ** current_step(solver, iteration)


def _sigmoid(solver: Any, iteration: int) -> float:
    exponent = -solver.gamma * (iteration - solver.stepsize)
    return solver.base_lr / (1 + math.exp(min(exponent, 700.0)))  # exp overflows a double above 709


_POLICIES: dict[str, Callable[[Any, int], float]] = {
    "fixed": lambda solver, _: solver.base_lr,
    "step": _stepped,
    "exp": lambda solver, i: solver.base_lr * solver.gamma**i,
    "inv": lambda solver, i: solver.base_lr * (1 + solver.gamma * i) ** -solver.power,
    "multistep": _stepped,
    "poly": lambda solver, i: solver.base_lr * (1 - min(i / solver.max_iter, 1)) ** solver.power,
    "sigmoid": _sigmoid,
}
