"""How near an ONNX model comes to the embedded engine, on random inputs that suit the net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rootgen.engine.onnx.model import InputTransform
from rootgen.engine.onnx.network import OnnxNetwork
from rootgen.errors import RootgenError
from rootgen.net.graph import Layer, Net
from rootgen.net.layers.registry import of
from rootgen.text import shape_text

if TYPE_CHECKING:
    from rootgen.engine.torch.network import TorchNetwork

TOLERANCE = 1e-4  # of a blob's largest value
BEFORE_SOFTMAX = 1e-3  # scores may differ by more, from the rounding of hundreds of layers


@dataclass(frozen=True)
class Difference:
    """The largest difference found, relative to the largest value of the `blob` that has it."""

    blob: str
    value: float


def inputs_for(net: Net, seed: int = 0) -> dict[str, np.ndarray]:
    """A value for every blob that comes from outside: noise, but whole numbers and flags where a layer wants them."""
    random = np.random.default_rng(seed)
    found = {
        top: random.standard_normal(shape, np.float32)
        for layer in net.layers
        if of(layer).fed
        for top, shape in zip(layer.tops, layer.shapes.tops, strict=True)
    }
    for layer in net.layers:
        for i, name in enumerate(layer.bottoms):
            most = _choices(layer, i)
            if most and name in found:
                found[name] = random.integers(0, most, found[name].shape).astype(np.float32)
                found[name].flat[0] = most - 1  # at least one image has to be selected
    return found


def _choices(layer: Layer, bottom: int) -> int:
    """How many whole numbers from 0 a bottom may hold; 0 where it may hold any number."""
    if layer.type == "Embed":
        return layer.param.embed_param.input_dim
    if layer.type == "BatchReindex" and bottom == 1:
        return layer.shapes.bottoms[0][0]
    flags = {"Filter": len(layer.bottoms) - 1, "RNN": 1, "LSTM": 1, "LSTMUnit": 2}
    return 2 if flags.get(layer.type) == bottom else 0


def compared(outputs: Sequence[str], net: Net) -> list[str]:
    """Blobs to compare for the `outputs`: these, but for places of the largest what they were chosen from.

    Of two values alike but for rounding either may be the larger.
    """
    fed = {top for layer in net.layers if of(layer).fed for top in layer.tops}
    choices = [layer for layer in net.layers if layer.type == "ArgMax" and layer.bottoms[0] not in fed]
    chosen = {top: layer.bottoms[0] for layer in choices for top in layer.tops}
    return list(dict.fromkeys(chosen.get(name, name) for name in outputs))


def scores_of(outputs: Sequence[str], net: Net) -> list[str]:
    """The blobs that a Softmax makes some of the `outputs` of, but for the net's own inputs."""
    fed = {top for layer in net.layers if of(layer).fed for top in layer.tops}
    makers = [layer for layer in net.layers if layer.type == "Softmax" and layer.tops[0] in outputs]
    return list(dict.fromkeys(layer.bottoms[0] for layer in makers if layer.bottoms[0] not in (*fed, *outputs)))


def largest_difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], where: object) -> Difference:
    """The largest difference of blobs, relative to each one's largest value; RootgenError where shapes differ."""
    worst = Difference(next(iter(ours)), 0.0)
    for name, mine in ours.items():
        other = theirs[name]
        if mine.shape != other.shape:
            sizes = f"{shape_text(other.shape)} in ONNX Runtime, {shape_text(mine.shape)} in our engine"
            raise RootgenError(f"blob '{name}' is {sizes}", where=where)
        value = _relative(mine.astype(np.float64), other.astype(np.float64))
        if not value <= worst.value:
            worst = Difference(name, value)
    return worst


def _relative(mine: np.ndarray, other: np.ndarray) -> float:
    """Largest difference over the largest value; what is NaN or infinite in both alike is no difference."""
    alike = (mine == other) | (np.isnan(mine) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        differences = np.where(alike, 0.0, np.abs(mine - other))
    finite = np.abs(mine[np.isfinite(mine)])
    largest = float(finite.max()) if finite.size else 0.0
    worst = float(differences.max()) if differences.size else 0.0
    return worst / largest if largest else worst


def reference(net: Net, blobs: Mapping[str, Sequence[np.ndarray]]) -> TorchNetwork:
    """The embedded engine with `net` and its `blobs`, in double precision; RootgenError where it cannot run the net."""
    import torch

    from rootgen.engine.torch.blobs import from_numpy
    from rootgen.engine.torch.network import NetworkOptions, TorchNetwork

    options = NetworkOptions("TEST", torch.device("cpu"), dtype=torch.float64, read_data=False)
    network = TorchNetwork(net, options)
    with torch.no_grad():
        for name, tensors in network.named().items():
            for tensor, values in zip(tensors, blobs[name], strict=True):
                tensor.copy_(from_numpy(values))
    return network


def differences(
    model: OnnxNetwork, engine: TorchNetwork, net: Net, transforms: Mapping[str, InputTransform]
) -> list[tuple[Difference, float]]:
    """How far `model` is from `engine`, which has the same net without the transforms of its inputs; and may be.

    Of the outputs; and of what a Softmax makes them of, as it turns scores far apart into zeros and a one.
    """
    inputs = inputs_for(net)
    outputs, scores = compared(net.outputs, net), scores_of(net.outputs, net)
    wanted = engine.forward([*outputs, *scores], inputs)
    for name, transform in transforms.items():
        if name in inputs:
            inputs[name] = transform.undone(inputs[name])
    found = model.forward([*outputs, *scores], inputs)
    both = [(outputs, TOLERANCE), (scores, BEFORE_SOFTMAX)]
    return [(largest_difference({n: wanted[n] for n in names}, found, model.where), t) for names, t in both if names]
