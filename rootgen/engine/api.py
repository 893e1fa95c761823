"""What every engine offers: the two protocols, what they give back, and what comes into a net from outside.

Both protocols speak Caffe: blobs by name, NumPy arrays in Caffe's axis order, .caffemodel and .solverstate files
that either engine can go on from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rootgen.net.batch import images, sequences
from rootgen.net.graph import Layer, Shape
from rootgen.progress import Report, silent

ENGINES = ("auto", "caffe", "torch", "onnx")
PRECISIONS = ("fp32", "tf32", "bf16")  # of a training


@dataclass(frozen=True)
class StepResult:
    """What one iteration of a solver gave.

    `iteration` counts from 0; `loss` is the mean over iter_size, `smoothed_loss` the mean over the last
    average_loss iterations; `outputs` maps each scalar output blob of the train net to its value;
    `images` were seen in `seconds`, of which `data_seconds` were spent waiting for data.
    """

    iteration: int
    loss: float
    smoothed_loss: float
    learning_rate: float
    outputs: dict[str, float] = field(default_factory=dict)
    images: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0


@dataclass(frozen=True)
class LayerTime:
    """Milliseconds that one layer took, one entry per timed iteration; `backward` is empty where it has none."""

    name: str
    type: str
    forward: list[float]
    backward: list[float]


@dataclass(frozen=True)
class NetTime:
    """Milliseconds of whole passes, one entry per timed iteration, and of the layers, timed one by one."""

    batch: int
    layers: list[LayerTime]
    forward: list[float]
    backward: list[float]


class Network(Protocol):
    """A net of one phase with its weights, ready to run forward."""

    engine: str
    device: str
    blobs: Mapping[str, Shape]

    def forward(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The `wanted` blobs for one batch, as float arrays in Caffe's axis order.

        `inputs` gives the tops of Input or Data layers; without it Data layers read the next batch.
        """

    def time(self, iterations: int, *, warmup: int = 1, backward: bool = True, layers: bool = True) -> NetTime:
        """Milliseconds per pass and, with `layers`, per layer, on inputs made up in memory, so that no data is read."""


class TensorNetwork(Network, Protocol):
    """A network of the embedded engine, whose blobs can stay on the device that it runs on."""

    torch_device: Any  # torch.device

    def tensors(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """As `forward`, but PyTorch's tensors, on the device and in any order in memory: to read, not to write to."""


class Trainer(Protocol):
    """A solver with its train net and test nets."""

    engine: str
    device: str
    leads: bool  # False in a process that does what another says: see engine.train.follow
    iteration: int
    solver: Any  # schema.SolverParameter, with snapshot_prefix settled
    train_outputs: tuple[str, ...]
    test_outputs: tuple[tuple[str, ...], ...]

    def step(self) -> StepResult:
        """One iteration: forward and backward iter_size times, then the update. Does not test or snapshot."""

    def test(self, report: Report = silent) -> list[dict[str, float]]:
        """For each test net, the mean of each of its outputs over its test_iter batches; `report` hears of each."""

    def snapshot(self) -> tuple[Path, Path]:
        """Write the model and the solver state, each whole or not at all; their paths."""

    def restore(self, path: str | Path) -> None:
        """Go on from a .solverstate (or .solverstate.h5) and the model that it names."""

    def load_weights(self, paths: Sequence[str | Path]) -> None:
        """Copy blobs from .caffemodel (or .h5) files into the layers of the same name."""


def images_per_batch(feeders: Iterable[Layer], blobs: Mapping[str, Shape], layers: Sequence[Layer]) -> int:
    """Images in the first top of `feeders`, those of the net's `layers` that are fed; else in the net's first blob.

    Of a blob of T x N x ..., the N sequences.
    """
    first = next((layer.tops[0] for layer in feeders), next(iter(blobs)))
    return images(blobs[first], steps_first=first in sequences(layers, blobs))[0]


def made_up(feeders: Iterable[Layer], blobs: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """A value for every top of the layers that bring blobs in from outside: images of noise, labels of class 0."""
    random = np.random.default_rng(0)
    inputs = {}
    for layer in feeders:
        for i, top in enumerate(layer.tops):
            shape = blobs[top]
            label = i > 0 or len(shape) < 2
            inputs[top] = np.zeros(shape, np.float32) if label else random.standard_normal(shape, np.float32)
    return inputs
