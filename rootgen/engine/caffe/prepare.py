"""What is checked and settled before Caffe sees a net: Caffe ends the process where something is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootgen.engine.caffe.runtime import pycaffe
from rootgen.engine.checks import check_filled, check_filler, check_param, fillers_in
from rootgen.engine.feed import Feed
from rootgen.files import check_regular, locate
from rootgen.net import forks
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.read import is_binary, upgraded
from rootgen.net.shapes import infer
from rootgen.proto import prototxt, schema

log = logging.getLogger("rootgen")

_SOURCES = ("data_param", "image_data_param", "window_data_param", "hdf5_data_param", "infogain_loss_param")
NEEDS = {"ImageData": "--opencv", "WindowData": "--opencv"}  # layer type -> the option of `rootgen caffe build`
LMDB = 1


@dataclass(frozen=True)
class Checked:
    """A net that Caffe will take: shapes of blobs and of learnable blobs, and the data that it is given.

    `feeds` read the LMDBs, as they do for the embedded engine: batch i is the same in either, in a run that was
    resumed too, and a damaged record or database is an error. Caffe's own reader ends the process there, and
    where a run goes on it draws other crops.
    """

    net: Net
    blobs: dict[str, Shape]
    params: dict[str, list[Shape]] = field(default_factory=dict)  # layer name -> its learnable blobs
    feeds: dict[str, Feed] = field(default_factory=dict)  # Data layer name -> what reads its LMDB
    outside: tuple[Layer, ...] = ()  # Data and Input layers whose tops are given, in the shapes of `blobs`


def check_net(
    net: Net, phase: str, beside: Path, *, seed: int = 0, batch: int | None = None, read_data: bool = True
) -> Checked:
    """`net` held against Caffe's rules; RootgenError names file, line and layer where one is broken.

    `seed` is that of crops and mirrors, `batch` replaces the batch size that the net gives; without `read_data` no
    database is looked for.
    """
    known = set(pycaffe().layer_type_list())
    given: dict[str, Shape] = {}
    feeds, outside = {}, []
    for layer in net.layers:
        if of(layer).origin:
            what = (
                f"pycaffe does not run {layer.type} layers, which {of(layer).origin}'s Caffe has and Caffe 1.0 has not"
            )
            raise layer.error(what, "use --engine torch")
        if layer.type not in known:
            option = NEEDS.get(layer.type)
            hint = f"rootgen caffe build {option}" if option else None
            raise layer.error(f"this Caffe has no layer type '{layer.type}'", hint)
        for filler in fillers_in(layer.param):
            check_filler(filler, layer.where)
        _check_matrix(layer, beside)
        check_param(layer)
        if layer.type == "Input" or (layer.type == "Data" and not _reads(layer, beside, read_data)):
            outside.append(layer)
        if layer.type != "Data" or layer in outside or layer.param.data_param.backend != LMDB:
            continue
        if layer.param.data_param.rand_skip:  # a batch follows from its number alone: see Feed
            log.warning("%s: rand_skip is left out", layer.where)
        feeds[layer.name] = Feed(layer, phase, seed, beside, batch_size=batch)
        given.update(feeds[layer.name].shapes)
    net = infer(net, batch=batch, given=given, partial=True)
    params: dict[str, list[Shape]] = {}
    for layer in net.layers:
        found = layer.shapes
        check_filled(layer)
        if found.params and layer.name in params and phase == "TRAIN":
            raise layer.error("has the name of a layer above, so files could not tell their blobs apart", "rename it")
        if found.params:
            params[layer.name] = list(found.params)
    fed = {id(layer.param) for layer in outside}  # a layer with its shapes is no longer equal to the one without
    return Checked(net, net.blobs, params, feeds, tuple(layer for layer in net.layers if id(layer.param) in fed))


def _check_matrix(layer: Layer, beside: Path) -> None:
    """Refuse an InfogainLoss whose matrix is nowhere, at which Caffe ends the process."""
    if layer.type != "InfogainLoss" or len(layer.bottoms) > 2:
        return
    name = layer.param.infogain_loss_param.source
    if not name:
        raise layer.error("has no infogain matrix", "give infogain_loss_param.source, or the matrix as a third bottom")
    schema.read_binary(locate(name, beside, layer.where), schema.BlobProto)


def check_device(checked: Checked, gpu: bool) -> None:
    """RootgenError where a layer does not run on the device; Caffe finds it in the first pass."""
    for layer in () if gpu else checked.net.layers:
        if layer.type == "Pooling" and layer.param.pooling_param.pool == schema.PoolingParameter.STOCHASTIC:
            raise layer.error("STOCHASTIC pooling runs on a GPU only, in Caffe", "use MAX or AVE")


def _reads(layer: Layer, beside: Path, read_data: bool) -> bool:
    """Whether a Data layer will read its database."""
    return read_data and locate(layer.param.data_param.source, beside, layer.where).exists()


def settle(net_param: Any, beside: Path) -> None:
    """Put into a NetParameter the places where the files that it names were found."""
    for layer in (*net_param.layer, *net_param.layers):
        for message, name in _named_files(layer):
            place = locate(getattr(message, name), beside, f"layer '{layer.name}'")
            if not place.is_dir():
                check_regular(place)  # Caffe would wait for a pipe
            setattr(message, name, str(place))


def _named_files(layer: Any) -> Iterator[tuple[Any, str]]:
    """(message, field) of each file that a layer reads."""
    for param in _SOURCES:
        if layer.HasField(param) and getattr(layer, param).source:
            yield getattr(layer, param), "source"
    if layer.HasField("transform_param") and layer.transform_param.mean_file:
        yield layer.transform_param, "mean_file"


def net_text(
    path: str | Path,
    checked: Checked,
    losses: Mapping[str, Sequence[float]] | None = None,
    *,
    lenient: bool = False,
) -> str:
    """The prototxt to give to Caffe for the net in `path`, with the loss_weight of `losses` for layers of that name.

    It is the file's own, with its files found, where Caffe reads all its data itself. What a `lenient` reader passes
    over is not in it.
    """
    beside = Path(path).parent
    if is_binary(path) or checked.outside or checked.feeds or losses:
        param = net_param(checked, beside)
        for layer in param.layer:
            layer.loss_weight.extend((losses or {}).get(layer.name, ()))
        return prototxt.format(param)
    param = upgraded(forks.read_message(path, "NetParameter", lenient=lenient, told=True), path)
    settle(param, beside)
    return prototxt.format(param)


def net_param(checked: Checked, beside: Path) -> Any:
    """The NetParameter to give to Caffe: the layers of one phase without their blobs, the files that they read found.

    Data and Input layers whose tops are given, from outside or by a feed, become Input layers.
    """
    param = schema.NetParameter(name=checked.net.name)
    for layer in checked.net.layers:
        given = layer in checked.outside or layer.name in checked.feeds
        schema.copy(_as_input(layer, checked) if given else layer.param, param.layer.add())
        for name in ("blobs", "include", "exclude"):  # the rules have been gone by
            param.layer[-1].ClearField(name)
    settle(param, beside)
    return param


def _as_input(layer: Layer, checked: Checked) -> Any:
    """An Input layer with the tops of a Data or Input layer, in the shapes that were checked."""
    param = schema.LayerParameter(name=layer.name, type="Input", top=layer.tops)
    for top in layer.tops:
        param.input_param.shape.add(dim=checked.blobs[top])
    return param
