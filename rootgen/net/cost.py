"""What a net costs: learnable parameters and multiply-adds per image, per layer, by one of two conventions.

* "macs" (what is true): the multiply-adds of weights, none for biases; every learnable blob is a parameter;
  the statistics of BatchNorm stand apart.
* "paper" (Tables 2, 4 and 6 of the paper): convolutions and inner products alone; FLOPs are weights times output
  pixels, plus every bias once (not once per pixel); parameters are weights and biases.

Elementwise work (BatchNorm, Scale, ReLU, LRN, pooling, ...) is no multiply-add of a weight: it counts as zero in
both. A blob shared by name counts once, in the layer that owns it. Layers whose shapes are not known count as
zero and are listed in `Cost.unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.layers.vision import groups

CONVENTIONS = ("macs", "paper")
FLOAT_BYTES = 4  # single precision


@dataclass(frozen=True)
class LayerCost:
    """One layer's share. `output` is the first top without its batch axis, None where it is not known.

    `weights` are the values multiplied with inputs, `biases` those added once per output, `values` all that the
    layer's blobs hold; `macs` and `params` follow the convention.
    """

    name: str
    type: str
    group: int
    output: Shape | None
    params: int
    macs: int
    weights: int = 0
    biases: int = 0
    statistics: int = 0
    values: int = 0

    @property
    def known(self) -> bool:
        """Whether the layer's shapes could be told."""
        return self.output is not None


@dataclass(frozen=True)
class Cost:
    """Totals of a net and the rows they are made of; `input` is one image, `batch` the images of a batch."""

    net: str
    phase: str
    convention: str
    input: Shape
    batch: int
    layers: tuple[LayerCost, ...]

    @property
    def params(self) -> int:
        """Learnable parameters."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds per image; by the "paper" convention its FLOPs."""
        return sum(layer.macs for layer in self.layers)

    @property
    def statistics(self) -> int:
        """Values that BatchNorm keeps and no gradient changes."""
        return sum(layer.statistics for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all the net's blobs in single precision, BatchNorm's statistics included."""
        return FLOAT_BYTES * sum(layer.values for layer in self.layers)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the layers counted as zero because their shapes are not known."""
        return tuple(layer.name for layer in self.layers if not layer.known)

    @property
    def complete(self) -> bool:
        """Whether every layer was counted; where not, the totals are at least what they say."""
        return all(layer.known for layer in self.layers)


@dataclass(frozen=True)
class Stage:
    """Totals of the layers whose outputs have one resolution."""

    resolution: Shape
    layers: int
    params: int
    macs: int


def count(net: Net, convention: str = "macs") -> Cost:
    """Parameters and multiply-adds per image of `net`, whose shapes were inferred, by `convention`."""
    if convention not in CONVENTIONS:
        raise RootgenError(f"no convention '{convention}'", hint=did_you_mean(convention, CONVENTIONS))
    batch, image = _input(net)
    shared: set[str] = set()
    rows = []
    for layer in net.layers:
        rows.append(_row(layer, _owned(layer, shared), batch, convention))
    return Cost(net.name or net.source, net.phase, convention, image, batch, tuple(rows))


def stages(cost: Cost) -> list[Stage]:
    """Totals per output resolution, in the order in which the net first reaches it; () is what has no pixels."""
    groups: dict[Shape, list[LayerCost]] = {}
    for layer in cost.layers:
        if layer.output is not None and (layer.params or layer.macs):
            groups.setdefault(layer.output[1:], []).append(layer)
    return [
        Stage(resolution, len(rows), sum(row.params for row in rows), sum(row.macs for row in rows))
        for resolution, rows in groups.items()
    ]


def _input(net: Net) -> tuple[int, Shape]:
    """(images per batch, shape of one image), from the first blob that comes in from outside."""
    for layer in net.layers:
        tops = layer.shapes.tops
        if of(layer).kind in ("data", "code") and not layer.bottoms and tops and tops[0]:
            return tops[0][0], tops[0][1:]
    return 1, ()


def _owned(layer: Layer, shared: set[str]) -> list[bool]:
    """Per blob of a layer, whether it counts here: not if a layer above has shared it under the same name."""
    owned = []
    for i in range(len(layer.shapes.params)):
        name = layer.param.param[i].name if i < len(layer.param.param) else ""
        owned.append(not name or name not in shared)
        if name:
            shared.add(name)
    return owned


def _row(layer: Layer, owned: Sequence[bool], batch: int, convention: str) -> LayerCost:
    """The cost of one layer, whose blobs count where they are `owned`."""
    found, uses = layer.shapes, of(layer).uses
    positions = uses(layer) if uses and found.known else {}
    sizes = [prod(shape) if mine else 0 for shape, mine in zip(found.params, owned, strict=True)]
    weights = sum(sizes[i] for i in positions)
    others = sum(sizes) - weights
    biases = others if positions else 0
    statistics = sum(size for i, size in enumerate(sizes) if of(layer).is_statistic(layer, i))
    macs = sum(prod(found.params[i]) * times for i, times in positions.items())
    macs = -(-macs // batch)  # rounded up where a layer's work does not divide by the batch
    paper = convention == "paper"
    return LayerCost(
        layer.name,
        layer.type,
        groups(layer) if layer.param.HasField("convolution_param") else 1,
        (found.tops[0][1:] if found.tops else ()) if found.known else None,
        params=weights + (biases if paper else others - statistics),
        macs=macs + (biases if paper else 0),
        weights=weights,
        biases=biases,
        statistics=statistics,
        values=sum(sizes),
    )
