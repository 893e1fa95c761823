"""Milliseconds of layers, from the profile that ONNX Runtime writes."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path

import onnx

from rootgen.engine.api import LayerTime
from rootgen.engine.onnx.model import PRODUCER

_NODE = "_kernel_time"
_FUSED = ("_nchwc", "_token")  # what ONNX Runtime's optimizers put behind the name of what a fused node makes


def layer_times(model: onnx.ModelProto, path: Path, iterations: int) -> list[LayerTime]:
    """Times of the layers of `model` in the last `iterations` passes of the profile at `path`.

    A node that ONNX Runtime put in place of several is called after the value that it makes: its time is that of the
    layer which makes this value, the last of them.
    """
    layers = _layers(model)
    events = json.loads(path.read_text("utf-8"))
    inner = _inner_nodes(model)
    passes = _passes(events)[-iterations:]
    times: dict[tuple[str, str], list[float]] = {layer: [0.0] * len(passes) for layer in dict.fromkeys(layers.values())}
    for i, nodes in enumerate(passes):
        for name, kind, milliseconds in nodes:
            if _original(name, inner):  # its time is in that of the Scan around it
                continue
            own = _original(name, layers)
            layer = layers[own] if own else (name, kind)
            times.setdefault(layer, [0.0] * len(passes))[i] += milliseconds
    return [LayerTime(name, kind, took, []) for (name, kind), took in times.items()]


def _inner_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes of graphs within nodes: the time steps of a Scan."""
    return {inner.name for node in model.graph.node for one in node.attribute for inner in one.g.node}


def _passes(events: list[dict]) -> list[list[tuple[str, str, float]]]:
    """Per pass: (name, operator, milliseconds) of each node that ran."""
    runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")
    found: list[list[tuple[str, str, float]]] = [[] for _ in runs]
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_NODE):
            place = next((i for i, (begin, end) in enumerate(runs) if begin <= event["ts"] <= end), None)
            if place is not None:
                name = event["name"].removesuffix(_NODE)
                found[place].append((name, event["args"].get("op_name", ""), event["dur"] / 1e3))
    return found


def _layers(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Node, and value -> the (name, type) of its layer; in a model that is not ours each node is a layer."""
    ours = model.producer_name == PRODUCER
    found: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        kind, _, name = node.doc_string.partition(" ") if ours else (node.op_type, "", node.name)
        layer = (name or node.output[0], kind or node.op_type)
        found[node.name or node.output[0]] = layer
        for value in node.output:
            found.setdefault(value, layer)
    return found


def _original(name: str, known: Container[str]) -> str | None:
    """The one of the names `known` that a node which ran is called after; None for one that came from elsewhere."""
    for ending in _FUSED:
        name = name.removesuffix(ending)
    return next((one for one in (name, name.rpartition("/")[0]) if one in known), None)  # NODE/MatMulAddFusion
