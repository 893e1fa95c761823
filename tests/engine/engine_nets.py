"""What the engine's tests share: nets from text, and small databases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install rootgen[torch]")

from rootgen.engine import blobs  # noqa: E402
from rootgen.engine.torch.network import NetworkOptions, TorchNetwork  # noqa: E402
from rootgen.net import read as nets  # noqa: E402
from rootgen.proto import schema  # noqa: E402

torch.set_num_threads(1)  # these nets are too small to share out

CPU = torch.device("cpu")


def network(text: str, phase: str = "TEST", *, dtype=torch.float32, seed: int = 0) -> TorchNetwork:
    """The net that a prototxt text describes."""
    return TorchNetwork(nets.parse(text, phase), NetworkOptions(phase, CPU, seed, dtype=dtype))


def input_layer(name: str, *dims: int) -> str:
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def one_layer(body: str, *dims: int, phase: str = "TEST") -> TorchNetwork:
    """An Input "x" of shape `dims` and a layer from "x" to "y" whose other fields are `body`."""
    return network(input_layer("x", *dims) + f'layer {{ name: "y" bottom: "x" top: "y" {body} }}', phase)


def apply(net: TorchNetwork, x: np.ndarray, wanted: str = "y") -> np.ndarray:
    return net.forward([wanted], {"x": x.astype(np.float32)})[wanted]


def write_database(path: Path, images: Sequence[np.ndarray], labels: Sequence[int]) -> Path:
    """An LMDB of raw Datum, keys as convert_imageset writes them."""
    data = [
        schema.Datum(channels=i.shape[0], height=i.shape[1], width=i.shape[2], data=i.tobytes(), label=label)
        for i, label in zip(images, labels, strict=True)
    ]
    return write_records(path, [datum.SerializeToString() for datum in data])


def write_records(path: Path, records: Sequence[bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as txn:
        for i, record in enumerate(records):
            txn.put(f"{i:08d}".encode(), record)
    return path


def write_mean(path: Path, mean: np.ndarray) -> Path:
    path.write_bytes(blobs.from_array(mean[None]).SerializeToString())
    return path


def randomize(net: TorchNetwork, seed: int = 1) -> None:
    """Weights around 0 with the variance of msra, and statistics that a trained BatchNorm could have."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for unit in net.units:
            for i, blob in enumerate(unit.blobs):
                values = random.standard_normal(tuple(blob.shape))
                if unit.layer.type == "BatchNorm":
                    values = (values * 0.1, np.abs(values) + 0.5, np.full(1, 1.7))[i]
                elif blob.dim() > 1:
                    values *= np.sqrt(2 / (blob.numel() / blob.shape[0]))
                elif unit.layer.type == "Scale" and i == 0:
                    values = 1 + 0.1 * values
                else:
                    values *= 0.1
                blob.copy_(torch.from_numpy(values))
