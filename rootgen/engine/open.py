"""Opening a net or a solver in one of the engines, or in the one that "auto" means here."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from rootgen.caffe_build.prefix import import_path
from rootgen.engine.api import ENGINES, Network, Trainer
from rootgen.errors import RootgenError, did_you_mean

_INSTALL = {
    "caffe": "`rootgen caffe build` makes one",
    "torch": "install it with `pip install rootgen[torch]`",
    "onnx": "install it with `pip install rootgen[onnx]`",
}


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
    needs = {"torch": {"torch": "PyTorch"}, "onnx": {"onnx": "onnx", "onnxruntime": "ONNX Runtime"}}[engine]
    return next((f"{name} is not installed" for module, name in needs.items() if not find_spec(module)), None)


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
