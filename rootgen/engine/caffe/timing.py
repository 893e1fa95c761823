"""Milliseconds of a pycaffe net's layers and passes, on inputs made up in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rootgen.engine.api import LayerTime, NetTime, made_up
from rootgen.engine.caffe.runtime import pycaffe
from rootgen.errors import RootgenError
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import loss_weights, of

_NO_GRADIENT = ("Accuracy", "ArgMax", "Threshold")  # whose Backward ends the process where it is asked for


class Runs(Protocol):
    """What is timed of a CaffeNetwork, which is described there."""

    caffe_net: Any
    net: Net
    device: str
    blobs: dict[str, Shape]
    layer_names: list[str]
    outputs: tuple[str, ...]
    feeders: list[Layer]

    @property
    def batch_size(self) -> int: ...

    def put(self, inputs: Mapping[str, np.ndarray]) -> None: ...


def measure(network: Runs, iterations: int, warmup: int, backward: bool, layers: bool = True) -> NetTime:
    """Times of `iterations` passes after `warmup` ones; `layers` are timed one by one, in passes of their own.

    Only what Caffe runs backward has a time of it: layers between a learnable blob and the loss.
    """
    net, end = network.caffe_net, len(network.layer_names) - 1
    begin = _check_order(network)
    computing = [place for place in range(begin, end + 1) if net.layers[place].type != "Input"]
    places = computing if layers else []
    network.put(made_up(network.feeders, network.blobs))
    for name in network.outputs if backward else ():
        net.blobs[name].diff[...] = 1
    needs = runs_backward(network) if backward else set()
    back = [place for place in reversed(computing) if place in needs]
    clock = _gpu_clock if network.device.startswith("gpu") else _cpu_clock
    each = {place: LayerTime(network.layer_names[place], net.layers[place].type, [], []) for place in places}
    whole_forward, whole_backward = [], []
    for turn in range(warmup + iterations):
        forward = clock(net._forward, begin, end)
        took = [clock(net._backward, end, begin)] if back else []
        forwards = [clock(net._forward, place, place) for place in places]
        backwards = [clock(net._backward, place, place) for place in back if layers]
        if turn < warmup:
            continue
        whole_forward.append(forward)
        whole_backward.extend(took)
        for place, milliseconds in zip(places, forwards, strict=True):
            each[place].forward.append(milliseconds)
        for place, milliseconds in zip(back if layers else [], backwards, strict=True):
            each[place].backward.append(milliseconds)
    return NetTime(network.batch_size, list(each.values()), whole_forward, whole_backward)


def with_loss(net: Net) -> dict[str, list[float]]:
    """loss_weight by layer name that make a net without a loss run backward, as the sum of its outputs would.

    Empty where it has a loss, or nothing that a gradient could come from.
    """
    if any(any(loss_weights(layer)) for layer in net.layers):
        return {}
    lost: set[str] = set()  # blobs that no gradient passes
    makers: dict[str, Layer] = {}
    for layer in net.layers:
        if layer.type in _NO_GRADIENT or lost.intersection(layer.bottoms):
            lost.update(layer.tops)
        else:
            lost.difference_update(layer.tops)
        makers.update(dict.fromkeys(layer.tops, layer))
    found = {}
    for name in net.outputs:
        layer = makers[name]
        if name not in lost and of(layer).kind != "data":
            found[layer.name] = [float(top in net.outputs) for top in layer.tops]
    return found


def runs_backward(network: Runs) -> set[int]:
    """Places of the layers that Caffe runs backward (Net::Init): a blob before them learns, and the loss is behind."""
    net = network.caffe_net
    count = len(network.layer_names)
    bottoms = [list(net._bottom_ids(place)) for place in range(count)]
    tops = [list(net._top_ids(place)) for place in range(count)]
    described = iter(network.net.layers)
    params: list[Any] = [None if _inserted(net, place, network) else next(described).param for place in range(count)]
    learns, needs = set[int](), set[int]()
    for place in range(count):
        param = params[place]
        specs = param.param if param is not None else ()
        blobs = range(len(net.layers[place].blobs))
        own = any(i >= len(specs) or specs[i].lr_mult != 0 for i in blobs)
        if own or learns.intersection(bottoms[place]):
            learns.update(tops[place])
            needs.add(place)
    weights = net._blob_loss_weights
    under, skipped = set[int](), set[int]()  # blobs that the loss hangs on; blobs whose gradient nobody wants
    for place in reversed(range(count)):
        counts = any(weights[top] or top in under for top in tops[place])
        if not counts or all(top in skipped for top in tops[place]):
            needs.discard(place)
        wanted = _propagates(params[place], bottoms[place], learns if counts and place in needs else set())
        under.update(bottoms[place] if counts else ())
        skipped.update(bottom for bottom in bottoms[place] if bottom not in wanted)
    return needs


def _propagates(param: Any, bottoms: Sequence[int], learns: set[int]) -> set[int]:
    """The bottoms that a layer hands a gradient to."""
    given = list(param.propagate_down) if param is not None else []
    return {bottom for i, bottom in enumerate(bottoms) if (given[i] and bool(learns) if given else bottom in learns)}


def _inserted(net: Any, place: int, network: Runs) -> bool:
    """Whether Caffe put in the layer, a Split, by itself."""
    named = {layer.name for layer in network.net.layers if layer.type == "Split"}
    return net.layers[place].type == "Split" and network.layer_names[place] not in named


def _check_order(network: Runs) -> int:
    """Place of the first layer to time; RootgenError where layers that read data stand behind it."""
    types = [layer.type for layer in network.caffe_net.layers]
    names = {layer.name for layer in network.feeders}
    fed = [name in names for name in network.layer_names]
    begin = next((place for place, one in enumerate(fed) if not one), len(fed))
    if any(one and kind != "Input" for one, kind in zip(fed[begin:], types[begin:], strict=True)):
        what = "layers that read data stand between others; they cannot be timed"
        raise RootgenError(what, where=network.net.source)
    return begin


def _cpu_clock(work: Callable[[int, int], Any], first: int, last: int) -> float:
    """Milliseconds of `work` from layer `first` to layer `last`; Caffe's own timer has whole ones on the CPU."""
    begun = time.perf_counter()
    work(first, last)
    return (time.perf_counter() - begun) * 1e3


def _gpu_clock(work: Callable[[int, int], Any], first: int, last: int) -> float:
    """The same by CUDA's events, on the device that is in use."""
    timer = pycaffe()._caffe.Timer()
    timer.start()
    work(first, last)
    timer.stop()
    return float(timer.ms)
