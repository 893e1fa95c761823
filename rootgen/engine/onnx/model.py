"""A net and its learnable blobs as an ONNX model.

Names stay: of layers, on the node that makes the top; of blobs, on the graph's inputs and on the value that a blob
has in the end. Where layers work in place, what a blob held before them is called BLOB/LAYER.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from rootgen import __version__
from rootgen.engine.onnx.graph import OPSET, Graph
from rootgen.engine.onnx.layer import Part, writer
from rootgen.engine.onnx.layers import WRITERS
from rootgen.engine.weights import owners
from rootgen.errors import RootgenError
from rootgen.net.graph import Layer, LayerShapes, Net
from rootgen.net.layers.registry import of
from rootgen.net.shapes import infer
from rootgen.proto import schema

LEFT_OUT = ("loss", "measure")
_BESIDE = ("Slice", "Split", "DummyData")  # what labels go through on their way to a loss
PRODUCER = "rootgen"
VALUES = "rootgen.values"  # metadata: blob -> its value, where that has another name
BATCH = "N"


@dataclass(frozen=True)
class InputTransform:
    """What is done to the images of an input first: `mean` (broadcast over N x C x H x W) off, then times `scale`."""

    mean: np.ndarray | None = None
    scale: float = 1.0

    def undone(self, images: np.ndarray) -> np.ndarray:
        """The images of which this makes `images`."""
        images = images / np.float32(self.scale)
        return np.asarray(images if self.mean is None else images + self.mean, np.float32)


def check_types(net: Net) -> None:
    """RootgenError, naming the layer and its type, where ONNX cannot say one."""
    for layer in net.layers:
        if not of(layer).fed and of(layer).kind not in LEFT_OUT:
            writer(layer)


def deployed(net: Net, *, scored: bool = False) -> Net:
    """The part of a net that gives scores: less losses and measures, layers that only they need, and unread inputs.

    With `scored`, losses and measures stay as far as they have a top and ONNX can say them.
    """
    kept: list[Layer] = []
    gone: list[Layer] = []
    for layer in net.layers:
        stays = of(layer).kind not in LEFT_OUT or (scored and layer.tops and layer.type in WRITERS)
        (kept if stays else gone).append(layer)
    made = {top for layer in kept for top in layer.tops}
    for layer in kept:
        for bottom in layer.bottoms:
            if bottom not in made:
                raise layer.error(f"reads '{bottom}', which a loss makes, and losses are left out")
    lost = {name for layer in gone for name in layer.bottoms}
    for layer in kept[::-1]:  # what only a loss reads, if it is no score: labels, cut or doubled
        read = {bottom for other in kept for bottom in other.bottoms}
        if layer.type in _BESIDE and lost.issuperset(layer.tops) and read.isdisjoint(layer.tops):
            lost.update(layer.bottoms)
            kept = [other for other in kept if other is not layer]
    read = {bottom for layer in kept if of(layer).kind != "sink" for bottom in layer.bottoms}
    kept = [_as_input(layer, read) if of(layer).fed else layer for layer in kept]
    blobs = {top: shape for layer in kept for top, shape in zip(layer.tops, layer.shapes.tops, strict=True)}
    sinks = [
        replace(layer, bottoms=tuple(name for name in layer.bottoms if name in blobs))
        for layer in kept
        if not layer.tops
    ]
    kept = [layer for layer in kept if layer.tops] + [layer for layer in sinks if layer.bottoms]
    return replace(net, layers=tuple(kept), blobs=blobs)


def _as_input(layer: Layer, read: Container[str]) -> Layer:
    """An Input layer for those tops of a layer fed from outside that are read."""
    shapes = {top: shape for top, shape in zip(layer.tops, layer.shapes.tops, strict=True) if top in read}
    param = schema.LayerParameter(name=layer.name, type="Input", top=list(shapes))
    for shape in shapes.values():
        param.input_param.shape.add(dim=shape)
    inner = LayerShapes((), tuple(shapes.values()))
    return replace(layer, type="Input", tops=tuple(shapes), param=param, shapes=inner)


def outputs_of(net: Net) -> tuple[str, ...]:
    """The blobs that no layer reads; RootgenError where there are none."""
    if not net.outputs:
        raise RootgenError("makes no blob but losses", where=net.source, hint="a deploy net is wanted")
    return net.outputs


def model_of(
    net: Net,
    learned: Mapping[str, Sequence[np.ndarray]],
    *,
    dynamic_batch: bool = False,
    transforms: Mapping[str, InputTransform] | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a net with its shapes (see `deployed`) and the blobs of its layers.

    With `dynamic_batch` the first axis of the inputs is open. RootgenError, naming layer and type, for what ONNX
    cannot say.
    """
    writing = _Writing(net, learned, dynamic_batch, transforms or {})
    model = helper.make_model(
        writing.graph(),
        producer_name=PRODUCER,
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", OPSET)]),
    )
    helper.set_model_props(model, {VALUES: json.dumps(writing.renamed)})
    return model


class _Writing:
    """One net on its way into an ONNX graph."""

    def __init__(
        self,
        net: Net,
        learned: Mapping[str, Sequence[np.ndarray]],
        dynamic: bool,
        transforms: Mapping[str, InputTransform],
    ) -> None:
        self.net, self.learned, self.dynamic, self.transforms = net, learned, dynamic, transforms
        self.owners = owners(net.layers)
        self.others = _in_another_batch(net, dynamic)
        self.outputs = outputs_of(net)
        self.inputs = tuple(top for layer in net.layers if of(layer).fed for top in layer.tops)
        self.last = {top: place for place, layer in enumerate(net.layers) for top in layer.tops}
        self._graph = Graph(net.blobs)
        self.values: dict[str, str] = {}  # blob -> the value that it has by now
        self.infos: dict[str, onnx.ValueInfoProto] = {}
        self.varies = {  # blob -> its shape in another batch
            top: shape for layer in self.others for top, shape in zip(layer.tops, layer.shapes.tops, strict=True)
        }

    @property
    def renamed(self) -> dict[str, str]:
        """Blob -> its value in the end, where that is called otherwise."""
        return {blob: value for blob, value in self.values.items() if blob != value}

    def graph(self) -> onnx.GraphProto:
        """The whole graph."""
        inputs = [self._info(name, name, is_input=True) for name in self.inputs]
        for name in self.inputs:
            self.values[name] = self._transformed(name)
        for place, (layer, other) in enumerate(zip(self.net.layers, self.others, strict=True)):
            if not of(layer).fed:
                self._write(place, layer, other.shapes)
        outputs = [self.infos.pop(self.values[name]) for name in self.outputs]
        known = [info for name, info in self.infos.items() if name not in self.inputs]
        name = self.net.name or "net"
        return helper.make_graph(self._graph.nodes, name, inputs, outputs, self._graph.constants, value_info=known)

    def _write(self, place: int, layer: Layer, other: LayerShapes) -> None:
        """Put one layer's nodes in, and name what they make."""
        graph = self._graph
        blobs = tuple(self.learned.get(layer.name, ()))
        keys = tuple(self.owners.get((layer.name, i), (layer.name, i)) for i in range(len(blobs)))
        part = Part(layer, other, graph, tuple(self.values[name] for name in layer.bottoms), blobs, keys)
        before = len(graph.nodes)
        made = writer(layer)(part)
        made = (made,) if isinstance(made, str) else made
        own = {value for node in graph.nodes[before:] for value in node.output}
        tops: list[str] = []
        for value in made:
            plain = value not in own or value in tops  # its bottom, a constant, or what another top is too
            tops.append(part.op("Identity", value) if plain else value)
        names = {value: self._name(place, top) for value, top in zip(tops, layer.tops, strict=True)}
        for node in graph.nodes[before:]:
            node.input[:] = [names.get(value, value) for value in node.input]
            node.output[:] = [names.get(value, value) for value in node.output]
        for node in graph.nodes[before:]:
            if tops and names[tops[0]] in node.output:
                graph.rename_node(node, layer.name)
        for value, top in zip(tops, layer.tops, strict=True):
            self.values[top] = names[value]
            self._info(top, names[value])

    def _name(self, place: int, top: str) -> str:
        """The name of the value that the layer at `place` leaves in the blob `top`."""
        final = self.last[top] == place and top not in self.inputs
        return top if final else self._graph.value(f"{top}/{self.net.layers[place].name}")

    def _info(self, blob: str, value: str, *, is_input: bool = False) -> onnx.ValueInfoProto:
        """The type and shape of a value, noted; open where the batch changes it."""
        shape, other = self.net.blobs[blob], self.varies[blob]
        batch = shape[0] if shape else 0
        dims: list[int | str | None] = [
            size if size == changed else BATCH if self.dynamic and size == batch and i == 0 else None
            for i, (size, changed) in enumerate(zip(shape, other, strict=True))
        ]
        if is_input and not self.dynamic:
            dims = list(shape)
        self.infos[value] = helper.make_tensor_value_info(value, TensorProto.FLOAT, dims)
        return self.infos[value]

    def _transformed(self, name: str) -> str:
        """The value of an input after what is to be done to it first."""
        transform, value = self.transforms.get(name), name
        for kind, operand in () if transform is None else (("Sub", transform.mean), ("Mul", transform.scale)):
            if operand is None or (kind == "Mul" and operand == 1):
                continue
            what = {"Sub": "mean", "Mul": "scale"}[kind]
            constant = self._graph.constant(np.asarray(operand, np.float32), f"{name}/{what}/constant", (name, what))
            value = self._graph.node(kind, [value, constant], f"{name}/{what}", doc=f"Data {name}").output[0]
            self._info(name, value)
        return value


def _in_another_batch(net: Net, dynamic: bool) -> tuple[Layer, ...]:
    """The net's layers with their shapes in another batch size, where the batch may change; else as they are.

    It also changes, in a net whose inputs have one size, behind a Filter.
    """
    if not dynamic and not any(layer.type == "Filter" for layer in net.layers):
        return net.layers
    for layer in net.layers:
        if layer.type in ("RNN", "LSTM"):
            raise layer.error(
                f"the batch cannot change: the first axis of its bottom is time, and Caffe's {layer.type} has a fixed "
                "number of steps",
                "export it without --dynamic-batch",
            )
    fed = [shape for layer in net.layers if of(layer).fed for shape in layer.shapes.tops]
    sizes = {shape[:1] for shape in fed}
    if len(sizes) != 1 or () in sizes:
        raise RootgenError(
            "the batch cannot change: its inputs do not all begin with one size",
            where=net.source,
            hint="export it without --dynamic-batch",
        )
    ((batch,),) = sizes
    try:
        other = infer(net, batch=batch + 1)
    except RootgenError as error:
        hint = "export it without --dynamic-batch"
        raise RootgenError(f"the batch cannot change: in one of {batch + 1}, {error}", hint=hint) from error
    for layer, changed in zip(net.layers, other.layers, strict=True):
        if layer.shapes.params != changed.shapes.params:
            raise layer.error("the batch cannot change: its learnable blobs' shapes hang on it")
    return other.layers
