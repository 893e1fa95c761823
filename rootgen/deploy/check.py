"""Whether a net gives what it gave before it was changed: both run in the embedded engine, in float64, on one input."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from rootgen.engine.api import made_up
from rootgen.errors import RootgenError
from rootgen.net.graph import Net
from rootgen.net.layers.registry import of

if TYPE_CHECKING:
    from rootgen.engine.torch.network import TorchNetwork

log = logging.getLogger("rootgen")
Blobs = Mapping[str, Sequence[np.ndarray]]


def largest_difference(before: Net, blobs_before: Blobs, after: Net, blobs_after: Blobs) -> float | None:
    """The largest difference between what two nets give with their blobs, relative to the largest value of each blob.

    Their outputs are compared, and what losses and Softmax make theirs of. None, and why in the log, where PyTorch is
    not there, or the engine does not run the first net. RootgenError where the second lacks an output, or has it in
    another shape.
    """
    if not find_spec("torch"):
        log.warning("not checked: PyTorch, which would run both nets, is not installed")
        return None
    try:
        first = _network(before, blobs_before)
    except RootgenError as error:
        log.warning("not checked: the embedded engine does not run this net: %s", error)
        return None
    second = _network(after, blobs_after)
    wanted = {name: name for name in before.outputs} | _scores(before, after)
    inputs = made_up(first.feeders, first.blobs)
    ours, theirs = _run(first, wanted, inputs), _run(second, wanted.values(), inputs)
    worst = 0.0
    for name, one in ours.items():
        other = theirs[wanted[name]]
        if other.shape != one.shape:
            raise RootgenError(f"output '{name}' has another shape", where=after.source)
        scale = float(np.abs(one).max(initial=0.0)) or 1.0
        gap = float(np.abs(one - other).max(initial=0.0)) / scale
        worst = max(worst, gap) if np.isfinite(gap) else float("inf")
    return worst


def _scores(before: Net, after: Net) -> dict[str, str]:
    """What layers that saturate, or make one number of many, read in the two nets."""
    later = {layer.name: layer.bottoms for layer in after.layers}
    return {
        layer.bottoms[0]: later[layer.name][0]
        for layer in before.layers
        if layer.name in later and (of(layer).kind in ("loss", "measure") or layer.type == "Softmax")
    }


def _run(network: TorchNetwork, wanted: Iterable[str], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The `wanted` blobs of one pass, in float64, which `forward` rounds."""
    import torch

    with torch.inference_mode():
        values, _ = network.run(0, inputs, names := list(wanted))
    return {name: values[name].numpy() for name in names}


def _network(net: Net, blobs: Blobs) -> TorchNetwork:
    """The embedded engine with a net that holds `blobs`."""
    import torch

    from rootgen.engine.torch.network import NetworkOptions, TorchNetwork

    options = NetworkOptions("TEST", torch.device("cpu"), dtype=torch.float64, read_data=False)
    network = TorchNetwork(net, options)
    with torch.no_grad():
        for name, own in network.named().items():
            if len(blobs.get(name, ())) != len(own):
                raise RootgenError(f"the model has other blobs for layer '{name}' than the net", where=net.source)
            for blob, values in zip(own, blobs[name], strict=True):
                blob.copy_(torch.from_numpy(np.asarray(values, np.float64)).reshape(blob.shape))
    return network
