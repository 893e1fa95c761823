"""Milliseconds of a net's layers and passes, on inputs made up in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rootgen.engine.api import LayerTime, NetTime, made_up
from rootgen.engine.torch import device as devices
from rootgen.engine.torch.blobs import Learnable
from rootgen.engine.torch.layer import Unit
from rootgen.net.graph import Layer, Shape


class Runs(Protocol):
    """What is timed of a TorchNetwork, which is described there."""

    torch_device: torch.device
    feeders: list[Layer]
    blobs: dict[str, Shape]
    learnable: list[Learnable]
    outputs: tuple[str, ...]

    @property
    def units(self) -> list[Unit]: ...

    @property
    def batch_size(self) -> int: ...

    def run(self, batch: int, inputs: Mapping[str, np.ndarray] | None = None) -> tuple[dict[str, Tensor], Tensor]: ...

    def tensor(self, values: np.ndarray) -> Tensor: ...


def measure(network: Runs, iterations: int, warmup: int, backward: bool, layers: bool = True) -> NetTime:
    """Times of `iterations` passes after `warmup` ones; `layers` are timed one by one, in passes of their own.

    Whole passes run as in training (with `backward`) or in testing; a layer's backward gives the gradients of its
    bottoms and blobs from gradients of ones.
    """
    inputs = made_up(network.feeders, network.blobs)
    grads = [learnable.blob.requires_grad for learnable in network.learnable]
    backward = backward and bool(network.learnable)
    try:
        for learnable in network.learnable:
            learnable.blob.requires_grad_(backward and learnable.lr_mult != 0)
        with torch.set_grad_enabled(backward):
            whole = [_whole(network, inputs, backward) for _ in range(warmup + iterations)][warmup:]
        each = _layers(network, inputs, iterations, warmup, backward) if layers else []
    finally:
        for learnable, grad in zip(network.learnable, grads, strict=True):
            learnable.blob.requires_grad_(grad)
            learnable.blob.grad = None
    return NetTime(network.batch_size, each, [f for f, _ in whole], [b for _, b in whole if b is not None])


def _whole(network: Runs, inputs: dict[str, np.ndarray], backward: bool) -> tuple[float, float | None]:
    """Milliseconds of one pass forward and, where wanted and there is a loss, backward."""
    prepared: dict[str, Any] = inputs
    forward, (values, loss) = _clocked(network, lambda: network.run(0, prepared))
    if not backward:
        return forward, None
    if not loss.requires_grad:  # a deploy net: take its outputs for the loss
        loss = sum((values[name].sum() for name in network.outputs if values[name].requires_grad), start=loss)
    if not loss.requires_grad:
        return forward, None
    took, _ = _clocked(network, loss.backward)
    return forward, took


def _clocked(network: Runs, work: Callable[[], Any]) -> tuple[float, Any]:
    devices.wait(network.torch_device)
    begun = time.perf_counter()
    result = work()
    devices.wait(network.torch_device)
    return (time.perf_counter() - begun) * 1e3, result


def _layers(
    network: Runs, inputs: dict[str, np.ndarray], iterations: int, warmup: int, backward: bool
) -> list[LayerTime]:
    """Times of each layer, on the bottoms that the pass gives it."""
    values = {name: network.tensor(array) for name, array in inputs.items()}
    times = []
    for unit in network.units:
        bottoms = [values[name] for name in unit.layer.bottoms]
        runs = [_layer(network, unit, bottoms, backward) for _ in range(warmup + iterations)][warmup:]
        with torch.no_grad():
            tops = unit.run(*[bottom.clone() for bottom in bottoms])
        values.update(zip(unit.layer.tops, (tops,) if isinstance(tops, Tensor) else tops, strict=False))
        took = [b for _, b in runs if b is not None]
        times.append(LayerTime(unit.layer.name, unit.layer.type, [f for f, _ in runs], took))
    return times


def _layer(network: Runs, unit: Unit, bottoms: list[Tensor], backward: bool) -> tuple[float, float | None]:
    """Milliseconds of one layer forward and backward."""
    leaves = [bottom.detach().requires_grad_(backward) for bottom in bottoms]
    sources = [leaf for leaf in leaves if leaf.requires_grad] + [blob for blob in unit.blobs if blob.requires_grad]
    with torch.set_grad_enabled(backward):
        own = [leaf.clone() for leaf in leaves]  # an in-place layer may not write into a leaf
        forward, tops = _clocked(network, lambda: unit.run(*own))
        tops = [top for top in ((tops,) if isinstance(tops, Tensor) else tops) if top.requires_grad]
        if not tops or not sources:
            return forward, None
        ones = [torch.ones_like(top) for top in tops]
        took, _ = _clocked(network, lambda: torch.autograd.grad(tops, sources, ones, allow_unused=True))
    return forward, took
