"""Which convolutions of a net are adjacent, and which blobs hold their responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Net
from rootgen.net.layers.registry import of
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS, groups

SUMS = {"Eltwise": slice(None), "Axpy": slice(1, None)}  # types that add blobs -> the bottoms that they add
HANDED_ON = slice(1)  # of other types: what they scale by, or take a mask or a size from, is no response


@dataclass(frozen=True)
class AdjacentPair:
    """Two convolutions with no other between them, the blobs of their responses, and how the later is grouped.

    The later convolution reads blob `input`; `before` are the blobs that a Concat puts ahead of the earlier
    convolution's channels in it.
    """

    layers: tuple[str, str]
    blobs: tuple[str, str]
    group: int
    input: str
    before: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join(self.layers)


def adjacent(net: Net) -> tuple[AdjacentPair, ...]:
    """Every adjacent pair of convolutions of `net`, in the order of the later one.

    A response is taken after batch normalisation and the activation; where those do not follow the
    convolution alone (a residual sum comes first, or the net ends), as near to them as it goes. A residual
    sum joins the convolutions it adds, not those that only reach it through another sum.
    """
    return _Graph(net).pairs()


def choose_pairs(pairs: Sequence[AdjacentPair], names: Sequence[str]) -> tuple[AdjacentPair, ...]:
    """The pairs called `names` (`conv2c-conv3a`), in that order."""
    known = {str(pair): pair for pair in pairs}
    for name in names:
        if name not in known:
            raise RootgenError(f"no pair '{name}' of adjacent convolutions", hint=did_you_mean(name, known))
    return tuple(known[name] for name in names)


class _Graph:
    """Who makes what each layer reads, with layers that work in place told apart."""

    def __init__(self, net: Net) -> None:
        self.layers = net.layers
        self.sources: list[tuple[int, ...]] = []
        self.readers: list[list[int]] = [[] for _ in net.layers]
        maker: dict[str, int] = {}
        for index, layer in enumerate(net.layers):
            self.sources.append(tuple(maker[blob] for blob in layer.bottoms if blob in maker))
            for source in self.sources[-1]:
                self.readers[source].append(index)
            maker.update(dict.fromkeys(layer.tops, index))

    def pairs(self) -> tuple[AdjacentPair, ...]:
        found: list[AdjacentPair] = []
        for index, later in enumerate(self.layers):
            if later.type not in FORWARD_CONVOLUTIONS or not self.sources[index]:
                continue
            for source, before in self._convolutions(self.sources[index][0]):
                earlier = self.layers[source]
                pair = AdjacentPair(
                    layers=(earlier.name, later.name),
                    blobs=(self._response(source), self._response(index)),
                    group=groups(later),
                    input=later.bottoms[0],
                    before=before,
                )
                if pair.layers not in {other.layers for other in found}:
                    found.append(pair)
        return tuple(found)

    def _convolutions(
        self, index: int, before: tuple[str, ...] = (), summed: bool = False
    ) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The convolutions whose responses layer `index` hands on, each with the blobs concatenated ahead of it."""
        layer = self.layers[index]
        if layer.type in FORWARD_CONVOLUTIONS:
            yield index, before
        elif layer.type == "Concat" and layer.param.concat_param.axis == 1:
            for position, source in enumerate(self.sources[index]):
                yield from self._convolutions(source, (*before, *layer.bottoms[:position]), summed)
        elif of(layer).keeps_channels and not (layer.type in SUMS and summed):
            for source in self.sources[index][SUMS.get(layer.type, HANDED_ON)]:
                yield from self._convolutions(source, before, summed or layer.type in SUMS)

    def _response(self, index: int) -> str:
        """The blob of convolution `index` after its normalisation and activation."""
        blob = self.layers[index].tops[0]
        while len(self.readers[index]) == 1:
            index = self.readers[index][0]
            layer = self.layers[index]
            if of(layer).kind not in ("activation", "per channel"):  # these may stand before the activation
                break
            blob = layer.tops[0]
            if of(layer).kind == "activation":
                break
        return blob
