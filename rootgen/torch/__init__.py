"""Caffe nets as PyTorch modules, and any PyTorch model with filter groups (docs/pytorch.md).

>>> import rootgen.torch
>>> model = rootgen.torch.load("deploy.prototxt", weights="model.caffemodel")
>>> scores = model(images)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("rootgen.torch needs PyTorch: pip install rootgen[torch]", name="torch") from error

from rootgen import errors
from rootgen.engine import weights as models
from rootgen.engine.torch.layers.loss import find_matrices
from rootgen.engine.torch.module import NetModule
from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import PHASES, Shape
from rootgen.net.load import LoadedNet, load_text
from rootgen.net.load import load as load_net
from rootgen.net.read import is_binary
from rootgen.torch.roots import RootModule, to_roots

if TYPE_CHECKING:
    from rootgen.grouping import Plan

__all__ = ["NetModule", "RootModule", "load", "net", "save_caffemodel", "to_roots"]


def load(
    net_path: str | PathLike[str],
    weights: str | PathLike[str] | None = None,
    *,
    phase: str = "TEST",
    batch_size: int | None = None,
    input: tuple[int, int, int] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    lenient: bool = False,
) -> NetModule:
    """The net of a prototxt (or of a .caffemodel, which brings its own weights) as a module; see NetModule.

    `weights` is a .caffemodel or .h5; layers that it lacks keep what their fillers gave, drawn from `seed`. `phase`
    chooses the layers, and whether the module begins in train mode. `input` (channels, height, width), `batch_size`
    and `shapes` (by blob) go over what the net says. `outputs` are the blobs that a call returns, by default those that
    no layer reads. `lenient` as of rootgen.read.
    """
    path = errors.needed_path("net_path", net_path)
    found = load_net(
        path,
        errors.word("phase", phase, PHASES) or PHASES[1],
        lenient=bool(errors.flag("lenient", lenient)),
        input_shape=_size(input),
        batch=errors.whole("batch_size", batch_size),
        given=dict(shapes) if shapes else None,
    )
    module = _module(find_matrices(found, Path(path).parent), outputs, device, dtype, seed)
    model = errors.path("weights", weights) or (path if is_binary(path) else None)
    if model is not None:
        module.load_caffemodel(model)
    return module


def net(
    arch: str,
    *,
    root: int | None = None,
    column: int | None = None,
    tree: int | None = None,
    group: Mapping[str, int] | None = None,
    plan: Plan | None = None,
    classes: int | None = None,
    batch_size: int | None = None,
    crop: int | None = None,
    outputs: Sequence[str] | None = None,
    weights: str | PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> NetModule:
    """A network of the paper as a module, in eval mode; the options are those of rootgen.emit and of `load`."""
    from rootgen.paper.emit import emit

    plans: dict[str, Any] = {"root": root, "column": column, "tree": tree, "group": group, "plan": plan}
    text = emit(arch, **plans, phase="deploy", classes=classes, batch_size=batch_size, crop=crop)
    module = _module(load_text(text, where=arch), outputs, device, dtype, seed)
    if weights is not None:
        module.load_caffemodel(errors.needed_path("weights", weights))
    return module


def save_caffemodel(module: NetModule, path: str | PathLike[str]) -> None:
    """Write the module's net with its blobs, in float32, as a .caffemodel (.h5: Caffe's HDF5 form)."""
    if not isinstance(module, NetModule):
        raise errors.wrong_type("module", module, "a module of rootgen.torch.load or net")
    where = errors.needed_path("path", path)
    models.write(where, module.net.name, module.phase, module.net.layers, module.learned())


def _module(
    found: LoadedNet,
    outputs: Sequence[str] | None,
    device: torch.device | str,
    dtype: torch.dtype,
    seed: int,
) -> NetModule:
    """The module of a net whose shapes are known; RootgenError where they are not, or an output is not there."""
    for layer in found.layers:
        if not layer.shapes.known:
            raise layer.error("its shapes are not known", "say the images' size: input=(3, 224, 224), or shapes={...}")
    module = NetModule(found, found.phase, seed=errors.integer("seed", seed), device=device, dtype=dtype)
    for learnable in module.learnable:
        learnable.blob.requires_grad_(learnable.lr_mult != 0)
    if outputs is not None:
        if isinstance(outputs, str) or not outputs:
            raise errors.wrong_type("outputs", outputs, "a list of blobs")
        for name in outputs:
            if name not in found.blobs:
                raise RootgenError(f"no blob '{name}'", where=found.source, hint=did_you_mean(name, found.blobs))
        module.outputs = tuple(outputs)
    return module


def _size(input: object) -> tuple[int, int, int] | None:
    """The argument `input`: channels, height and width."""
    if input is None:
        return None
    if not isinstance(input, Sequence) or isinstance(input, str) or len(input) != 3:
        raise errors.wrong_type("input", input, "channels, height and width: (3, 224, 224)")
    sizes = [errors.whole("input", size) or 0 for size in input]
    return sizes[0], sizes[1], sizes[2]
