"""A net and its model file as a .onnx file: made, checked, run beside our own engine, and only then put in place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

from rootgen.engine import weights as models
from rootgen.engine.datum import Transformer
from rootgen.engine.onnx import compare, learned
from rootgen.engine.onnx.model import InputTransform, deployed, model_of
from rootgen.engine.onnx.open import open_model
from rootgen.errors import RootgenError, did_you_mean
from rootgen.files import check_writable, locate, replacing
from rootgen.net.graph import Net
from rootgen.net.layers.registry import of
from rootgen.net.shapes import infer
from rootgen.text import shape_text

log = logging.getLogger("rootgen")

_LIMIT = 2**31 - 1  # bytes that protobuf takes in one message


@dataclass(frozen=True)
class Exported:
    """What was written: its nodes, its bytes, and the largest difference found; None where none could be sought."""

    nodes: int
    size: int
    difference: compare.Difference | None


def export(
    net: Net,
    weights: str | Path,
    out: str | Path,
    *,
    dynamic_batch: bool = False,
    transforms: Mapping[str, InputTransform] | None = None,
) -> Exported:
    """Write a net with its shapes and the blobs of the file `weights` as the ONNX model `out`, whole or not at all.

    Where ONNX Runtime and PyTorch are installed the file is run beside the embedded engine first: RootgenError where
    they differ by more than compare.TOLERANCE, or before a Softmax by more than compare.BEFORE_SOFTMAX.
    """
    _refuse_losses(net)
    check_writable(out)
    net, transforms = deployed(net), transforms or {}
    _check_transforms(net, transforms)
    blobs = learned.load(net, weights, whole=True) if any(layer.shapes.params for layer in net.layers) else {}
    models.check_trained(net.layers, blobs, weights)
    model = model_of(net, blobs, dynamic_batch=dynamic_batch, transforms=transforms)
    if model.ByteSize() > _LIMIT:
        raise RootgenError(f"would be {model.ByteSize():,} bytes, beyond the 2 GiB of an ONNX file", where=out)
    content = model.SerializeToString()
    _check_model(content, out)
    with replacing(out) as beside:
        beside.write_bytes(content)
        found = None
        for batch in _batches(net, dynamic_batch):
            found = _worse(found, _checked(beside, out, batch, blobs, transforms))
    return Exported(len(model.graph.node), len(content), found)


def transforms_of(net: Net, beside: Path | None) -> dict[str, InputTransform]:
    """Blob of images -> what the Data layer of `net` does to them in testing, but for the crop.

    RootgenError where no Data layer has a mean or a scale.
    """
    found = {}
    for layer in net.layers:
        param = layer.param.transform_param
        if not of(layer).fed or not layer.param.HasField("transform_param"):
            continue
        if not param.scale:
            raise layer.error("scale is 0, which leaves nothing of an image")
        path = locate(param.mean_file, beside, layer.where) if param.HasField("mean_file") else None
        transformer = Transformer(param, "TEST", layer.where, path)
        shape = net.blobs[layer.tops[0]]
        mean: np.ndarray | None = None
        if transformer.mean is not None:
            mean = _centre(transformer.mean, shape[2:])
            if mean.shape != shape[1:]:
                raise layer.error(f"mean of {shape_text(mean.shape)} does not fit images of {shape_text(shape[1:])}")
        elif param.mean_value:
            mean = np.array(param.mean_value, np.float32).reshape(-1, 1, 1)
            if len(mean) not in (1, shape[1]):
                raise layer.error(f"{len(mean)} mean_value for {shape[1]} channels (1, or one each)")
        if mean is not None or param.scale != 1:
            found[layer.tops[0]] = InputTransform(mean, param.scale)
    if not found:
        raise RootgenError("has no Data layer with a mean or a scale", where=net.source, hint="pass the train_val net")
    return found


def _centre(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The middle of an image, as a crop in testing takes it."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape[1:], size, strict=True))
    return image[:, top : top + size[0], left : left + size[1]] if min(top, left) >= 0 else image


def _refuse_losses(net: Net) -> None:
    for layer in net.layers:
        if of(layer).is_loss:
            raise layer.error(
                f"a {layer.type} is for training; a deploy net is wanted",
                "`rootgen deploy` makes one of a train_val net",
            )


def _check_transforms(net: Net, transforms: Mapping[str, InputTransform]) -> None:
    """RootgenError for a transform of a blob that is no input, or whose mean does not fit it."""
    inputs = {top: net.blobs[top] for layer in net.layers if of(layer).fed for top in layer.tops}
    for name, transform in transforms.items():
        if name not in inputs:
            what = f"no input '{name}' to take a mean off and scale"
            raise RootgenError(what, where=net.source, hint=did_you_mean(name, inputs))
        mean = () if transform.mean is None else transform.mean.shape
        if any(size not in (1, of_input) for size, of_input in zip(mean, inputs[name][1:], strict=False)):
            what = f"a mean of {shape_text(mean)} does not fit input '{name}' of {shape_text(inputs[name])}"
            raise RootgenError(what, where=net.source)


def _check_model(content: bytes, where: object) -> None:
    """What ONNX itself asks of a model: operators, types, shapes."""
    try:
        onnx.checker.check_model(content, full_check=True)
    except Exception as error:  # of the checker, of shape inference
        reason = " ".join(str(error).split())[:300]
        raise RootgenError(f"ONNX's own check refuses the model: {reason}", where=where) from error


def _batches(net: Net, dynamic: bool) -> list[Net]:
    """The net, and where its batch may change, the net with one more image."""
    if not dynamic:
        return [net]
    batch = next(shape[0] for layer in net.layers if of(layer).fed for shape in layer.shapes.tops)
    return [net, infer(replace(net, notes=()), batch=batch + 1)]


def _checked(
    model: Path, out: str | Path, net: Net, blobs: learned.Learned, transforms: Mapping[str, InputTransform]
) -> compare.Difference | None:
    """The largest difference of the model in a file from the embedded engine; None where it cannot be told."""
    for module, name in (("onnxruntime", "ONNX Runtime"), ("torch", "PyTorch")):
        if not find_spec(module):
            log.warning("%s: not compared with our own engine: %s is not installed", out, name)
            return None
    network = open_model(model, where=out)
    try:
        engine = compare.reference(net, blobs)
    except RootgenError as error:
        log.warning("%s: not compared with our own engine, which does not run this net: %s", out, error)
        network.forward(net.outputs, compare.inputs_for(net))  # it runs, at least
        return None
    worst = None
    for found, tolerance in compare.differences(network, engine, net, transforms):
        if not found.value <= tolerance:
            raise RootgenError(
                f"ONNX Runtime gives other numbers than our own engine: blob '{found.blob}' differs by "
                f"{found.value:.2g} of its largest value, over {tolerance:g}; nothing is written",
                where=out,
            )
        worst = _worse(worst, found)
    return worst


def _worse(a: compare.Difference | None, b: compare.Difference | None) -> compare.Difference | None:
    return max((one for one in (a, b) if one is not None), key=lambda one: one.value, default=None)
