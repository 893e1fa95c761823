"""Whether two nets give the same outputs: both run in the embedded engine, in float64, on the same made-up input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from rootgen.engine.api import made_up
from rootgen.errors import RootgenError
from rootgen.net.graph import Net

Blobs = Mapping[str, Sequence[np.ndarray]]


def largest_difference(before: Net, blobs_before: Blobs, after: Net, blobs_after: Blobs) -> float | None:
    """The largest difference between the outputs of two nets with their blobs, relative to the largest of each output.

    None where PyTorch, which runs them, is not installed. RootgenError where an output is gone or has another shape.
    """
    if not find_spec("torch"):
        return None
    first, second = _outputs(before, blobs_before, before.outputs), _outputs(after, blobs_after, before.outputs)
    worst = 0.0
    for name, one in first.items():
        if second[name].shape != one.shape:
            raise RootgenError(f"output '{name}' has another shape", where=after.source)
        scale = float(np.abs(one).max(initial=0.0)) or 1.0
        gap = float(np.abs(one - second[name]).max(initial=0.0)) / scale
        worst = max(worst, gap) if np.isfinite(gap) else float("inf")
    return worst


def _outputs(net: Net, blobs: Blobs, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """The `wanted` blobs of a net that holds `blobs`."""
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
    return network.forward(wanted, made_up(network.feeders, network.blobs))
