"""What a net costs: learnable parameters and multiply-adds per image, per layer, by one of two conventions.

Of a net whose input is the steps of sequences, T x N x ..., an image is a sequence of T steps (batch.py).

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
from typing import Any

from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.batch import images, sequences
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.layers.vision import groups
from rootgen.net.memory import FLOAT_BYTES, Memory, activations
from rootgen.text import Shown, Table, byte_size, percent_change, shape_text

CONVENTIONS = ("macs", "paper")
COLUMNS = ("name", "type", "group", "output", "params", "macs")  # of a layer, wherever rows are given out


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

    def told(self, column: str) -> Any:
        """What one of COLUMNS says: None of what is not known."""
        counted = column not in ("params", "macs")
        return getattr(self, column) if counted or self.known else None


@dataclass(frozen=True, repr=False)
class Cost(Shown):
    """Totals of a net and the rows they are made of; `input` is one image, `batch` the images of a batch.

    `memory` are the bytes of its activations.
    """

    net: str
    phase: str
    convention: str
    input: Shape
    batch: int
    layers: tuple[LayerCost, ...]
    memory: Memory

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

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per layer, for pandas.DataFrame: name, type, group, output, params, macs; None: not known."""
        return [{name: layer.told(name) for name in COLUMNS} for layer in self.layers]

    def tables(self, every: bool = False) -> list[Table]:
        """Layers that cost something (or `every` one), stages of one output size, and totals."""
        return [_layers_table(self, every), _stages_table(self), _totals_table(self)]

    def at_least(self, value: int) -> str:
        """One of the totals, marked where some layers could not be counted."""
        return f"{value:,}" if self.complete else f"at least {value:,}"


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
    steps_first = sequences(net.layers, net.blobs)
    batch, image = _input(net, steps_first)
    shared: set[str] = set()
    rows = []
    for layer in net.layers:
        rows.append(_row(layer, _owned(layer, shared), batch, convention, steps_first))
    return Cost(net.name or net.source, net.phase, convention, image, batch, tuple(rows), activations(net, batch))


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


def summary(costs: Sequence[tuple[str, Cost]]) -> Table:
    """One row per net of several: the file that it is from, and its totals."""
    rows = [
        [
            path,
            one.net,
            shape_text(one.input),
            one.at_least(one.params),
            one.at_least(one.macs),
            byte_size(one.memory.forward),
        ]
        for path, one in costs
    ]
    return Table(["file", "net", "input", "params", _macs_word(costs[0][1]), "activations"], rows)


def totals(before: Cost, after: Cost, title: str) -> Table:
    """Parameters and multiply-adds of two nets, and how they change."""
    whole = before.complete and after.complete
    rows = [
        [name, before.at_least(old), after.at_least(new), percent_change(old, new) if whole else "not known"]
        for name, old, new in (
            ("params", before.params, after.params),
            ("macs per image", before.macs, after.macs),
        )
    ]
    return Table([title, "before", "after", "change"], rows)


def _layers_table(cost: Cost, every: bool) -> Table:
    rows = [
        [
            layer.name,
            layer.type,
            layer.group,
            "not known" if layer.output is None else shape_text(layer.output),
            f"{layer.params:,}",
            f"{layer.macs:,}",
        ]
        for layer in cost.layers
        if every or layer.params or layer.macs or not layer.known
    ]
    title = f"{cost.net} ({cost.phase}, input {shape_text(cost.input)})"
    return Table(["layer", "type", "group", "output", "params", _macs_word(cost)], rows, title)


def _stages_table(cost: Cost) -> Table:
    rows = [
        [
            shape_text(stage.resolution),
            stage.layers,
            f"{stage.params:,}",
            f"{stage.macs:,}",
            f"{100 * stage.macs / cost.macs:.1f}%" if cost.macs else "-",
        ]
        for stage in stages(cost)
    ]
    return Table(["output size", "layers", "params", _macs_word(cost), "share"], rows)


def _totals_table(cost: Cost) -> Table:
    rows: list[list[object]] = [
        ["params", cost.at_least(cost.params)],
        ["BatchNorm statistics", f"{cost.statistics:,}"],
        ["bytes of all blobs", byte_size(cost.weight_bytes)],
        [f"{_macs_word(cost)} per image", cost.at_least(cost.macs)],
        *cost.memory.cells(),
    ]
    title = "total"
    if not cost.complete:
        names = ", ".join(cost.unknown[:3]) + (", ..." if len(cost.unknown) > 3 else "")
        title = f"total, INCOMPLETE: without {len(cost.unknown)} layers ({names})"
    return Table([title, ""], rows)


def _macs_word(cost: Cost) -> str:
    return "FLOPs" if cost.convention == "paper" else "macs"


def _input(net: Net, steps_first: frozenset[str]) -> tuple[int, Shape]:
    """(images per batch, shape of one image), from the first blob that comes in from outside; or of sequences."""
    for layer in net.layers:
        tops = layer.shapes.tops
        if of(layer).kind in ("data", "code") and not layer.bottoms and tops and tops[0]:
            return images(tops[0], steps_first=layer.tops[0] in steps_first)
    return 1, ()


def _output(layer: Layer, steps_first: frozenset[str]) -> Shape:
    """Shape of the first top of one image, or of one sequence."""
    tops = layer.shapes.tops
    return images(tops[0], steps_first=bool(layer.tops) and layer.tops[0] in steps_first)[1] if tops else ()


def _owned(layer: Layer, shared: set[str]) -> list[bool]:
    """Per blob of a layer, whether it counts here: not if a layer above has shared it under the same name."""
    owned = []
    for i in range(len(layer.shapes.params)):
        name = layer.param.param[i].name if i < len(layer.param.param) else ""
        owned.append(not name or name not in shared)
        if name:
            shared.add(name)
    return owned


def _row(layer: Layer, owned: Sequence[bool], batch: int, convention: str, steps_first: frozenset[str]) -> LayerCost:
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
        _output(layer, steps_first) if found.known else None,
        params=weights + (biases if paper else others - statistics),
        macs=macs + (biases if paper else 0),
        weights=weights,
        biases=biases,
        statistics=statistics,
        values=sum(sizes),
    )
