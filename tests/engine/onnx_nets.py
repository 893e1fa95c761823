"""What the tests of ONNX share: nets from text with random weights, in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: pip install rootgen[onnx]")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install rootgen[onnx]")

from rootgen.engine import weights
from rootgen.net import read as nets
from rootgen.net.graph import Net
from rootgen.net.shapes import infer


def input_layer(name: str, *dims: int) -> str:
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def layer(kind: str, bottoms: str = "x", tops: str = "y", fields: str = "", name: str = "") -> str:
    """A layer, called after its first top unless it has a name."""
    wired = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in tops.split()]
    return f'layer {{ name: "{name or tops.split(maxsplit=1)[0]}" type: "{kind}" {" ".join(wired)} {fields} }}\n'


def shaped(text: str, batch: int | None = None) -> Net:
    return infer(nets.parse(text, "TEST"), batch=batch)


def random_blobs(net: Net, seed: int = 1) -> dict[str, list[np.ndarray]]:
    """Weights with the variance of msra, and statistics that a trained BatchNorm could have."""
    random = np.random.default_rng(seed)
    shared: dict[str, np.ndarray] = {}
    found: dict[str, list[np.ndarray]] = {}
    for one in net.layers:
        for i, shape in enumerate(one.shapes.params):
            values = random.standard_normal(shape)
            if one.type == "BatchNorm":
                values = (values * 0.1, np.abs(values) + 0.5, np.full(1, 1.7))[i]
            elif len(shape) > 1:
                values *= np.sqrt(2 / np.prod(shape[1:]))
            elif one.type in ("Scale", "PReLU") and i == 0:
                values = 0.5 + 0.1 * values
            else:
                values *= 0.3
            name = one.param.param[i].name if i < len(one.param.param) else ""
            if name:  # the file holds what the last one has
                values = shared.setdefault(name, values.reshape(shape)).reshape(shape)
            found.setdefault(one.name, []).append(values.astype(np.float32))
    return found


def saved(folder: Path, text: str, blobs: dict[str, list[np.ndarray]] | None = None) -> tuple[Path, Path]:
    """Files net.prototxt and net.caffemodel; random blobs where none are given."""
    net = shaped(text)
    prototxt, model = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(text)
    weights.write(model, "net", "TEST", net.layers, random_blobs(net) if blobs is None else blobs)
    return prototxt, model
