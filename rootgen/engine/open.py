"""Opening a net or a solver in one of the engines, or in the one that "auto" means here."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from rootgen import errors, scratch
from rootgen.caffe_build.prefix import import_path
from rootgen.engine.api import ENGINES, Network, Trainer
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
) -> Trainer:
    """The solver of a solver.prototxt with fresh weights, at iteration 0.

    `seed` goes over its random_seed; `lenient` as of open_network.
    """
    path = errors.needed_path("solver_path", solver_path)
    return _load(engine).open_trainer(
        path,
        device=errors.word("device", device) or "auto",
        seed=errors.whole("seed", seed, 0),
        lenient=errors.flag("lenient", lenient),
    )


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
