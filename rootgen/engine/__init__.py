"""Engines that run prototxt: pycaffe, or the embedded one on PyTorch, behind two protocols.

`open_network` runs a net forward; `open_trainer` runs a solver. Both speak Caffe: blobs by name, NumPy
arrays in Caffe's axis order, .caffemodel and .solverstate files that either engine can go on from.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from rootgen.caffe_build.prefix import import_path
from rootgen.errors import RootgenError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from rootgen.shapes import Shape

ENGINES = ("auto", "caffe", "torch")
_INSTALL = {
    "caffe": "`rootgen caffe build` makes one",
    "torch": "install it with `pip install rootgen[torch]`",
}


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

    def time(self, iterations: int, *, warmup: int = 1, backward: bool = True) -> NetTime:
        """Milliseconds per layer and per pass on inputs made up in memory, so that no data is read."""


class Trainer(Protocol):
    """A solver with its train net and test nets."""

    engine: str
    device: str
    iteration: int
    solver: Any  # schema.SolverParameter, with snapshot_prefix settled
    train_outputs: tuple[str, ...]
    test_outputs: tuple[tuple[str, ...], ...]

    def step(self) -> StepResult:
        """One iteration: forward and backward iter_size times, then the update. Does not test or snapshot."""

    def test(self) -> list[dict[str, float]]:
        """For each test net, the mean of each of its outputs over its test_iter batches."""

    def snapshot(self) -> tuple[Path, Path]:
        """Write the model and the solver state, each whole or not at all; their paths."""

    def restore(self, path: str | Path) -> None:
        """Go on from a .solverstate (or .solverstate.h5) and the model that it names."""

    def load_weights(self, paths: Sequence[str | Path]) -> None:
        """Copy blobs from .caffemodel (or .h5) files into the layers of the same name."""


def open_network(
    net_path: str | Path,
    *,
    phase: str = "TEST",
    weights: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    batch: int | None = None,
    read_data: bool = True,
) -> Network:
    """The net of a prototxt (or of a .caffemodel, which brings its own weights) in one phase.

    `batch` replaces the batch size that the net gives. Without `read_data` no database is opened: the tops of
    Data layers then have to be given, and have the shape that the prototxt alone tells.
    """
    module = _load(engine)
    return module.open_network(net_path, phase=phase, weights=weights, device=device, batch=batch, read_data=read_data)


def open_trainer(solver_path: str | Path, *, engine: str = "auto", device: str = "auto") -> Trainer:
    """The solver of a solver.prototxt with fresh weights, at iteration 0."""
    module = _load(engine)
    return module.open_trainer(solver_path, device=device)


def _load(engine: str) -> ModuleType:
    """The module of an engine: open_network and open_trainer as above, without `engine`."""
    if engine not in ENGINES:
        raise RootgenError(f"no engine '{engine}'", hint=did_you_mean(engine, ENGINES))
    name = _choose() if engine == "auto" else engine
    reason = _missing(name)
    if reason:
        raise RootgenError(f"engine '{name}' cannot run here: {reason}", hint=_INSTALL[name])
    return import_module(f"rootgen.engine.{name}")


def _missing(engine: str) -> str | None:
    """Why an engine cannot run here, or None where it can."""
    if engine == "caffe":
        return import_path()
    return None if find_spec("torch") else "PyTorch is not installed"


def _choose() -> str:
    """The engine that "auto" means here: pycaffe where it imports, else PyTorch."""
    log = logging.getLogger("rootgen")
    if not _missing("caffe"):
        try:
            import_module("rootgen.engine.caffe.runtime").pycaffe()
        except Exception as error:  # pycaffe fails in many ways: a lost library, another NumPy, another Python
            log.warning("pycaffe is there but does not import (%s); using PyTorch", error)
        else:
            log.info("engine: pycaffe")
            return "caffe"
    if _missing("torch"):
        raise RootgenError("neither pycaffe nor PyTorch is installed", hint=f"{_INSTALL['torch']}; {_INSTALL['caffe']}")
    log.info("engine: PyTorch")
    return "torch"
