"""Every printed cell of the paper's tables beside what its networks really count.

Networks are rendered to prototxt and that text is counted, so that neither the generator nor the counter
knows of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from math import prod

from rootgen.generator import render
from rootgen.generator.architectures import Arch, architecture
from rootgen.grouping import Plan
from rootgen.net import cost
from rootgen.net.load import load_text
from rootgen.paper.tables import reported


@dataclass(frozen=True)
class Counts:
    """A network counted: `flops` and `params` as the paper's table counts, `macs` and `weights` as they are.

    `weights` are convolution and fc weights and biases, which is all that the paper means by parameters. They
    differ from `params` in ResNet-200 alone, whose table is a miscount. `conv_weights` are without biases.
    `convolutions` are how many there are, `spatial` those of them with kernels above 1x1, and `filters` the most that
    one of these has.
    """

    flops: int
    params: int
    macs: int
    weights: int
    conv_weights: int
    convolutions: int
    spatial: int
    filters: int


@dataclass(frozen=True)
class CountedRow:
    """One row of Table 2, 4, 5 or 6: the cells as printed, and the counts behind them."""

    arch: Arch
    model: str
    counts: Counts
    flops_paper: str
    params_paper: str

    @property
    def flops_match(self) -> bool:
        """Whether the printed FLOPs are the count, rounded to the digits printed."""
        return rounds_to(self.counts.flops, self.arch.flops_unit, self.flops_paper)

    @property
    def params_match(self) -> bool:
        """Whether the printed params are the count, rounded to the digits printed."""
        return rounds_to(self.counts.params, self.arch.params_unit, self.params_paper)


def rows(arch: Arch) -> Iterator[CountedRow]:
    """The rows of an architecture's results table, in the paper's order; none where the paper has no such table."""
    for model, cells in reported(arch.name).items():
        yield CountedRow(arch, model, counted(arch.name, model), cells["flops"], cells["params"])


@cache
def counted(arch: str, model: str) -> Counts:
    """The network of one row (or of any rule: `tree-4`), rendered and counted."""
    # A train_val net: the auxiliary heads, which the paper counts, are in no deploy net.
    found = architecture(arch)
    return count_text(render.net(found, Plan.named(model)), found.crop, miscounted=found.miscounted)


def count_text(text: str, crop: int, *, miscounted: bool = False) -> Counts:
    """The train_val net `text` counted for images of 3 x crop x crop; `miscounted` as Table 5 does."""
    net = load_text(text, "TRAIN", input_shape=(3, crop, crop))
    total = cost.count(net, "paper")
    shapes = [layer.shapes.params[0] for layer in net.layers if layer.type == "Convolution"]
    spatial = [shape for shape in shapes if max(shape[2:]) > 1]
    flops, params = _miscount(total) if miscounted else (total.macs, total.params)
    return Counts(
        flops,
        params,
        macs=sum(layer.macs - layer.biases for layer in total.layers),
        weights=total.params,
        conv_weights=sum(layer.weights for layer in total.layers if layer.type == "Convolution"),
        convolutions=len(shapes),
        spatial=len(spatial),
        filters=max((shape[0] for shape in spatial), default=0),
    )


def _miscount(total: cost.Cost) -> tuple[int, int]:
    """FLOPs and params as Table 5 prints them for ResNet-200.

    Each convolution's weights are multiplied by all the values of its output instead of by its pixels, so
    the output channels count twice; the fc layer counts inputs plus outputs instead of inputs times outputs
    plus biases.
    """
    fc = sum(layer.weights // layer.biases + layer.biases for layer in total.layers if layer.type == "InnerProduct")
    convolutions = [layer for layer in total.layers if layer.type == "Convolution"]
    flops = sum(layer.weights * prod(layer.output or ()) for layer in convolutions)
    return flops + fc, sum(layer.weights for layer in convolutions) + fc


def saved(value: float, base: float) -> float:
    """By how many percent `value` is less than `base`."""
    return 100 * (1 - value / base)


def rounds_to(count: int, unit: int, cell: str) -> bool:
    """Whether `count`, in units of 10^`unit`, is the printed `cell` to the digits it has."""
    printed = Decimal(cell)
    half = Decimal(1).scaleb(int(printed.as_tuple().exponent)) / 2
    return abs(Decimal(count).scaleb(-unit) - printed) <= half
