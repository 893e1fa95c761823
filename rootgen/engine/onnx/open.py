"""Networks of ONNX Runtime, from a .onnx file or from Caffe's own files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NoReturn

import onnx

from rootgen.engine.api import images_per_batch
from rootgen.engine.feed import open_feeds
from rootgen.engine.onnx import learned
from rootgen.engine.onnx.model import check_types, deployed, model_of
from rootgen.engine.onnx.network import OnnxNetwork
from rootgen.errors import RootgenError
from rootgen.files import read_bytes
from rootgen.net.graph import Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.read import is_binary, read
from rootgen.net.shapes import infer

log = logging.getLogger("rootgen")

SUFFIX = ".onnx"


def open_network(
    net_path: str | Path,
    *,
    phase: str = "TEST",
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    read_data: bool = True,
    lenient: bool = False,
    seed: int | None = None,
) -> OnnxNetwork:
    """See engine.open_network. A .onnx file runs as it is; of Caffe's nets an ONNX model is made in memory.

    Nets run as in phase TEST. The model's batch may change wherever ONNX can say so; it lacks those losses that ONNX
    cannot say. Without weights they are made up, which serves for times alone.
    """
    if phase != "TEST":
        raise RootgenError(
            f"engine 'onnx' runs nets as in phase TEST, not {phase}", where=net_path, hint="--phase TEST"
        )
    if seed is not None:
        raise RootgenError("engine 'onnx' runs trained nets, and fills none", where=net_path, hint="--engine torch")
    if Path(net_path).suffix == SUFFIX:
        if weights is not None:
            raise RootgenError("a .onnx file has its weights in it", where=net_path, hint="leave out the weights")
        return open_model(net_path, where=net_path, device=device, batch=batch)
    net = read(net_path, phase, lenient=lenient)
    check_types(net)
    feeds = open_feeds(net, phase, beside=Path(net_path).parent, batch=batch) if read_data else {}
    given: dict[str, Shape] = {}
    for feed in feeds.values():
        given.update(feed.shapes)
    net = deployed(infer(net, batch=batch, given=given), scored=True)
    for note in net.notes:
        log.info("%s", note)
    if weights is None and is_binary(net_path):
        weights = net_path
    blobs = learned.made_up(net) if weights is None else learned.load(net, weights, whole=False)
    feeders = [layer for layer in net.layers if of(layer).fed]
    feeds = {layer.name: feeds[layer.name] for layer in feeders if layer.name in feeds}
    size = images_per_batch(feeders, net.blobs, net.layers)
    return OnnxNetwork(_model(net, blobs), net_path, device=device, feeders=feeders, feeds=feeds, batch=size)


def open_trainer(solver_path: str | Path, **_: object) -> NoReturn:
    """Refuses: ONNX Runtime runs nets forward."""
    raise RootgenError("engine 'onnx' runs nets, but does not train them", where=solver_path, hint="--engine torch")


def _model(net: Net, blobs: learned.Learned) -> onnx.ModelProto:
    """The model of a net, for batches of any size where that can be said."""
    try:
        return model_of(net, blobs, dynamic_batch=True)
    except RootgenError:
        return model_of(net, blobs)


def open_model(path: str | Path, *, where: object, device: str = "auto", batch: int | None = None) -> OnnxNetwork:
    """The network of a .onnx file; `where` names it in errors."""
    try:
        model = onnx.load_from_string(read_bytes(path))
        onnx.checker.check_model(model)
    except RootgenError:
        raise
    except Exception as error:  # of protobuf or of the checker
        raise RootgenError(f"no ONNX model: {' '.join(str(error).split())[:200]}", where=where) from error
    fixed = {d.dim_value for info in model.graph.input for d in info.type.tensor_type.shape.dim[:1] if d.dim_value}
    if batch is not None and fixed - {batch}:
        raise RootgenError(
            f"its batch size is {max(fixed)}, not {batch}", where=where, hint="export with --dynamic-batch"
        )
    return OnnxNetwork(model, where, device=device, batch=batch or max(fixed, default=1))
