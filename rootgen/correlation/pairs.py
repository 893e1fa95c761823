"""Which convolutions of a net are adjacent, and which blobs hold their responses."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rootgen.errors import UnknownNameError
from rootgen.net.graph import Layer, Net
from rootgen.net.layers.registry import of
from rootgen.net.layers.utility import joined_axis
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS, groups

AXES = 4  # of a response: N x C x H x W; what has others is refused when it is measured
CHANNELS = 1
SUMS = {"Eltwise": slice(None), "Axpy": slice(1, None)}  # types that add blobs -> the bottoms that they add
HANDED_ON = slice(1)  # of other types: what they scale by, or take a mask or a size from, is no response


@dataclass(frozen=True)
class AdjacentPair:
    """Two convolutions with no other between them, the blobs of their responses, and how the later is grouped.

    The later convolution reads blob `input`; `before` are the blobs that a Concat puts ahead of the earlier
    convolution's channels in it. No other pair of the net has this `name`. Convolutions between a Slice and a Concat
    are the groups of one, which is called like its blob (like the Concat where a layer has that name); `parts` are then
    the blobs that each of them reads and makes.
    """

    name: str
    layers: tuple[str, str]
    blobs: tuple[str, str]
    group: int
    input: str
    before: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    def sizes(self, channels: Mapping[str, int]) -> str:
        """The inputs and outputs of the later convolution's groups, `48/96+48/96`, where they have blobs; else ""."""
        return "+".join(f"{channels[bottom]}/{channels[top]}" for bottom, top in self.parts)

    def __str__(self) -> str:
        return self.name


def adjacent(net: Net) -> tuple[AdjacentPair, ...]:
    """Every adjacent pair of convolutions of `net`, in the order of the later one.

    A response is taken after batch normalisation and the activation; where those do not follow the
    convolution alone (a residual sum comes first, or the net ends), as near to them as it goes. A residual
    sum joins the convolutions it adds, not those that only reach it through another sum.
    """
    found: dict[tuple[str, str], AdjacentPair] = {}
    joined = {index: slicer for index in range(len(net.layers)) if (slicer := _slice_of(net, index)) is not None}
    inside = {part for index in joined for part in net.makers[index]}
    for index, later in enumerate(net.layers):
        convolves = later.type in FORWARD_CONVOLUTIONS and net.makers[index] and index not in inside
        if not convolves and index not in joined:
            continue
        reader = joined.get(index, index)
        parts = [net.layers[part] for part in net.makers[index]] if index in joined else []
        for source, before in _convolutions(net, net.makers[reader][0]):
            pair = AdjacentPair(
                name="",
                layers=(_name(net, source), _name(net, index)),
                blobs=(_response(net, source), _response(net, index)),
                group=len(parts) or groups(later),
                input=net.layers[reader].bottoms[0],
                before=before,
                parts=tuple((part.bottoms[0], part.tops[0]) for part in parts),
            )
            found.setdefault(pair.layers, pair)
    names = pair_names(found)
    return tuple(replace(pair, name=names[layers]) for layers, pair in found.items())


def pair_names(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name for each pair of layers: a-b, and a-b--c and a--b-c of (a-b, c) and (a, b-c), which would share one."""
    plain = {pair: "-".join(pair) for pair in pairs}
    counts = Counter(plain.values())
    taken = {name for name, count in counts.items() if count == 1}
    names: dict[tuple[str, str], str] = {}
    for pair, name in plain.items():
        names[pair] = name
        if counts[name] > 1:
            tries = itertools.chain(["--".join(pair)], (f"{name}~{number}" for number in itertools.count(2)))
            names[pair] = next(each for each in tries if each not in taken)
            taken.add(names[pair])
    return names


def _slice_of(net: Net, index: int) -> int | None:
    """The Slice whose tops are read by the convolutions that layer `index`, a Concat, joins; None without one."""
    layer, makers = net.layers[index], net.makers[index]
    if layer.type != "Concat" or joined_axis(layer, AXES) != CHANNELS:
        return None
    parts = [net.layers[maker] for maker in makers]
    if any(part.type not in FORWARD_CONVOLUTIONS or groups(part) > 1 for part in parts):
        return None
    sources = {source for maker in makers for source in net.makers[maker]}
    if len(sources) != 1 or any(net.readers[maker] != (index,) for maker in makers):
        return None
    slicer = net.layers[next(iter(sources))]
    cut = slicer.type == "Slice" and joined_axis(slicer, AXES) == CHANNELS
    return next(iter(sources)) if cut and slicer.tops == tuple(part.bottoms[0] for part in parts) else None


def _name(net: Net, index: int) -> str:
    """A convolution's name; that of the blob where a Concat joins its groups, unless another layer is called so."""
    layer = net.layers[index]
    blob = layer.tops[0]
    return blob if layer.type == "Concat" and all(blob != other.name for other in net.layers) else layer.name


def choose_pairs(pairs: Sequence[AdjacentPair], names: Sequence[str]) -> tuple[AdjacentPair, ...]:
    """The pairs called `names` (`conv2c-conv3a`), in that order."""
    known = {pair.name: pair for pair in pairs}
    for name in names:
        if name not in known:
            raise UnknownNameError(f"no pair '{name}' of adjacent convolutions", name, known)
    return tuple(known[name] for name in names)


def _convolutions(
    net: Net, index: int, before: tuple[str, ...] = (), summed: bool = False
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The convolutions whose responses layer `index` hands on, each with the blobs concatenated ahead of it."""
    layer, sources = net.layers[index], net.makers[index]
    if layer.type in FORWARD_CONVOLUTIONS or _slice_of(net, index) is not None:
        yield index, before
    elif layer.type == "Concat" and joined_axis(layer, AXES) == CHANNELS:
        for position, source in enumerate(sources):
            yield from _convolutions(net, source, (*before, *layer.bottoms[:position]), summed)
    elif _keeps_channels(layer) and not (layer.type in SUMS and summed):
        for source in sources[SUMS.get(layer.type, HANDED_ON)]:
            yield from _convolutions(net, source, before, summed or layer.type in SUMS)


def _keeps_channels(layer: Layer) -> bool:
    """Whether each channel of a layer's top comes of the same channel of the bottoms that it hands on."""
    if layer.type == "Crop":
        return bool(layer.param.crop_param.axis % AXES > CHANNELS)
    return of(layer).keeps_channels


def _response(net: Net, index: int) -> str:
    """The blob of convolution `index` after its normalisation and activation."""
    blob = net.layers[index].tops[0]
    while len(net.readers[index]) == 1:
        index = net.readers[index][0]
        layer = net.layers[index]
        kind = of(layer).kind
        if kind not in ("activation", "per channel") or layer.bottoms[0] != blob:
            break
        blob = layer.tops[0]
        if kind == "activation":
            break
    return blob
