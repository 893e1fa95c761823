"""What is checked and settled before Caffe sees a net: Caffe ends the process where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootgen.engine.caffe.runtime import pycaffe
from rootgen.engine.checks import check_filler, check_multipliers, fillers_in
from rootgen.engine.feed import Feed
from rootgen.files import locate
from rootgen.net import forks
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.read import is_binary
from rootgen.net.shapes import infer
from rootgen.proto import prototxt, schema

_SOURCES = ("data_param", "image_data_param", "window_data_param", "hdf5_data_param")
_NEEDS = {"ImageData": "--opencv", "WindowData": "--opencv"}  # layer type -> the option of `rootgen caffe build`
LMDB = 1


@dataclass(frozen=True)
class Checked:
    """A net that Caffe will take: shapes of blobs and of learnable blobs, records of each database."""

    net: Net
    blobs: dict[str, Shape]
    params: dict[str, list[Shape]] = field(default_factory=dict)  # layer name -> its learnable blobs
    records: dict[str, int] = field(default_factory=dict)  # Data layer name -> records in its LMDB
    outside: tuple[Layer, ...] = ()  # Data and Input layers whose tops are given, in the shapes of `blobs`


def check_net(net: Net, phase: str, beside: Path, *, batch: int | None = None, read_data: bool = True) -> Checked:
    """`net` held against Caffe's rules; RootgenError names file, line and layer where one is broken.

    `batch` replaces the batch size that the net gives; without `read_data` no database is looked for.
    """
    known = set(pycaffe().layer_type_list())
    given: dict[str, Shape] = {}
    records, outside = {}, []
    for layer in net.layers:
        if of(layer).origin:
            what = (
                f"pycaffe does not run {layer.type} layers, which {of(layer).origin}'s Caffe has and Caffe 1.0 has not"
            )
            raise layer.error(what, "use --engine torch")
        if layer.type not in known:
            option = _NEEDS.get(layer.type)
            hint = f"rootgen caffe build {option}" if option else None
            raise layer.error(f"this Caffe has no layer type '{layer.type}'", hint)
        for filler in fillers_in(layer.param):
            check_filler(filler, layer.where)
        check_multipliers(layer)
        if layer.type == "Input" or (layer.type == "Data" and not _reads(layer, beside, read_data)):
            outside.append(layer)
        if layer.type != "Data" or layer in outside or layer.param.data_param.backend != LMDB:
            continue
        if batch:
            layer.param.data_param.batch_size = batch
        feed = Feed(layer, phase, 0, beside)
        feed.close()
        records[layer.name] = feed.database.size
        given.update(feed.shapes)
    net = infer(net, batch=batch, given=given, partial=True)
    params: dict[str, list[Shape]] = {}
    for layer in net.layers:
        found = layer.shapes
        if found.params and layer.name in params and phase == "TRAIN":
            raise layer.error("has the name of a layer above, so files could not tell their blobs apart", "rename it")
        if found.params:
            params[layer.name] = list(found.params)
    return Checked(net, net.blobs, params, records, tuple(outside))


def _reads(layer: Layer, beside: Path, read_data: bool) -> bool:
    """Whether a Data layer will read its database."""
    return read_data and locate(layer.param.data_param.source, beside, layer.where).exists()


def settle(net_param: Any, beside: Path) -> None:
    """Put into a NetParameter the places where the files that it names were found."""
    for layer in (*net_param.layer, *net_param.layers):
        for message, name in _named_files(layer):
            setattr(message, name, str(locate(getattr(message, name), beside, f"layer '{layer.name}'")))


def _named_files(layer: Any) -> Iterator[tuple[Any, str]]:
    """(message, field) of each file that a layer reads."""
    for param in _SOURCES:
        if layer.HasField(param) and getattr(layer, param).source:
            yield getattr(layer, param), "source"
    if layer.HasField("transform_param") and layer.transform_param.mean_file:
        yield layer.transform_param, "mean_file"


def net_text(path: str | Path, checked: Checked, *, lenient: bool = False) -> str:
    """The prototxt to give to Caffe for the net in `path`.

    It is the file's own, with its files found; Data layers that do not read become Input layers, and a
    .caffemodel gives its layers without their blobs. What a `lenient` reader passes over is not in it.
    """
    beside = Path(path).parent
    if is_binary(path) or checked.outside:
        param = schema.NetParameter(name=checked.net.name)
        for layer in checked.net.layers:
            param.layer.add().CopyFrom(_as_input(layer, checked) if layer in checked.outside else layer.param)
            param.layer[-1].ClearField("blobs")
    else:
        param = forks.read_message(path, "NetParameter", lenient=lenient, told=True)
    settle(param, beside)
    return prototxt.format(param)


def _as_input(layer: Layer, checked: Checked) -> Any:
    """An Input layer with the tops of a Data or Input layer, in the shapes that were checked."""
    param = schema.LayerParameter(name=layer.name, type="Input", top=layer.tops)
    for top in layer.tops:
        param.input_param.shape.add(dim=checked.blobs[top])
    return param
