"""Opening a net or a solver in one of the engines, or in the one that "auto" means here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rootgen import errors, scratch
from rootgen.caffe_build.prefix import import_path
from rootgen.engine.api import ENGINES, PRECISIONS, Network, Trainer
from rootgen.engine.processes import ToldError, place
from rootgen.engine.stop import Stop
from rootgen.errors import RootgenError
from rootgen.net.graph import PHASES

_INSTALL = {
    "caffe": "`rootgen caffe build` makes one",
    "torch": "install it with `pip install rootgen[torch]`",
    "onnx": "install it with `pip install rootgen[onnx]`",
}

# A net that every engine runs.
_LEAST = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 } } }
layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }
"""


def open_network(
    net_path: str | Path,
    *,
    phase: str = "TEST",
    weights: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    batch: int | None = None,
    read_data: bool = True,
    lenient: bool = False,
    seed: int | None = None,
) -> Network:
    """The net of a prototxt (or of a .caffemodel, which brings its own weights) in one phase.

    `batch` replaces the batch size that the net gives. Without `read_data` no database is opened: the tops of
    Data layers then have to be given, and have the shape that the prototxt alone tells. `lenient` passes over fields
    and enum values that Caffe does not have, with a warning. Blobs that no `weights` are given for are filled; with
    `seed` as a trainer of that random_seed fills them.
    """
    path = errors.needed_path("net_path", net_path)
    options = {
        "phase": errors.word("phase", phase, PHASES),
        "weights": errors.path("weights", weights),
        "device": errors.word("device", device),
        "batch": errors.whole("batch", batch),
        "read_data": errors.flag("read_data", read_data),
        "lenient": errors.flag("lenient", lenient),
        "seed": errors.whole("seed", seed, 0),
    }
    return _load(engine).open_network(path, **options)


def open_trainer(
    solver_path: str | Path,
    *,
    engine: str = "auto",
    device: str = "auto",
    seed: int | None = None,
    lenient: bool = False,
    precision: str = "fp32",
) -> Trainer:
    """The solver of a solver.prototxt with fresh weights, at iteration 0.

    `seed` goes over its random_seed; `lenient` as of open_network. `precision` is "fp32", "tf32" (in a GPU's matrix
    units) or "bf16" (convolutions and inner products; normalization, losses and weights stay float32).
    """
    path = errors.needed_path("solver_path", solver_path)
    options: dict[str, Any] = {
        "device": errors.word("device", device) or "auto",
        "seed": errors.whole("seed", seed, 0),
        "lenient": errors.flag("lenient", lenient),
    }
    if errors.word("precision", precision, PRECISIONS) not in (None, PRECISIONS[0]):
        if engine == "caffe":
            raise RootgenError(f"pycaffe computes in float32, not in {precision}", hint="--engine torch")
        engine, options["precision"] = "torch", precision
    return _load(engine).open_trainer(path, **options)


@contextmanager
def opened_together(
    solver_path: str | Path,
    stop: Stop,
    *,
    engine: str = "auto",
    sync_bn: bool = False,
    scale_lr: bool = False,
    **options: Any,
) -> Iterator[Trainer]:
    """As open_trainer; where torchrun has started several processes, the trainer that they share (docs/distributed.md).

    Process 0 has one that `leads`, and is used as any other; the others have to `follow` it (engine.train). `stop` is
    asked of all when it is asked of one. `sync_bn` takes BatchNorm's statistics over the batches of all processes,
    `scale_lr` multiplies the learning rate by their number.
    """
    where = place()
    if where is None:
        yield open_trainer(solver_path, engine=engine, **options)
        return
    reason = _missing("torch")
    if engine not in ("auto", "torch") or reason:
        if where.rank:
            raise ToldError("no engine for several processes")
        if reason:
            raise RootgenError(f"engine 'torch' cannot run here: {reason}", hint=_INSTALL["torch"])
        raise RootgenError(f"engine '{engine}' trains in one process, not in {where}", hint="--engine torch")
    join, log = import_module("rootgen.engine.torch.join"), logging.getLogger("rootgen")
    log.disabled = where.rank != 0  # one tells what all would
    try:
        with join.joined(solver_path, where, stop, sync_bn=sync_bn, scale_lr=scale_lr, **options) as trainer:
            yield trainer
    finally:
        log.disabled = False


def place_of(engine: str = "auto", device: str = "auto") -> tuple[str, str]:
    """The engine and the device that these words mean here, as Network names them; RootgenError where one is not."""
    with scratch.folder("rootgen-place-") as folder:
        net = folder / "net.prototxt"
        net.write_text(_LEAST, encoding="utf-8")
        found = open_network(net, engine=engine, device=device)
    return found.engine, found.device


def _load(engine: str) -> ModuleType:
    """The module of an engine: open_network and open_trainer as above, without `engine`."""
    errors.word("engine", engine, ENGINES)
    name = _choose() if engine == "auto" else engine
    reason = _missing(name)
    if reason:
        raise RootgenError(f"engine '{name}' cannot run here: {reason}", hint=_INSTALL[name])
    return import_module(f"rootgen.engine.{name}")


def _missing(engine: str) -> str | None:
    """Why an engine cannot run here, or None where it can."""
    if engine == "caffe":
        return import_path()
    needs = {"torch": {"torch": "PyTorch"}, "onnx": {"onnx": "onnx", "onnxruntime": "ONNX Runtime"}}[engine]
    return next((f"{name} is not installed" for module, name in needs.items() if not find_spec(module)), None)


def usable() -> list[str]:
    """The engines that train here, Caffe's own first."""
    found = []
    if not _missing("caffe"):
        try:
            import_module("rootgen.engine.caffe.runtime").pycaffe()
        except Exception as error:  # pycaffe fails in many ways: a lost library, another NumPy, another Python
            log = logging.getLogger("rootgen")
            log.warning("pycaffe is there but does not import (%s); using PyTorch", error, extra={"once": True})
        else:
            found.append("caffe")
    return found if _missing("torch") else [*found, "torch"]


def _choose() -> str:
    """The engine that "auto" means here: pycaffe where it imports, else PyTorch."""
    log = logging.getLogger("rootgen")
    found = usable()
    if "caffe" in found:
        log.info("engine: pycaffe", extra={"once": True})
        return "caffe"
    if not found:
        raise RootgenError("neither pycaffe nor PyTorch is installed", hint=f"{_INSTALL['torch']}; {_INSTALL['caffe']}")
    log.info("engine: PyTorch", extra={"once": True})
    return "torch"
