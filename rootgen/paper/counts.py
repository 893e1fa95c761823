"""The paper's printed figures beside what its networks really count: every cell, and every percentage in the text.

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
from rootgen.paper.tables import Claim, claims, reported


@dataclass(frozen=True)
class Counts:
    """A network counted: `flops` and `params` as the paper's table counts, `macs` and `weights` as they are.

    `weights` are convolution and fc weights and biases, which is all that the paper means by parameters. They
    differ from `params` in ResNet-200 alone, whose table is a miscount. `conv_weights` are without biases.
    """

    flops: int
    params: int
    macs: int
    weights: int
    conv_weights: int


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


@dataclass(frozen=True)
class Percentage:
    """A claim of the text beside the same figure `found`: counted, or for times and accuracies from the table.

    `printed` is the figure that the paper's own table gives, None where it prints none.
    """

    claim: Claim
    printed: float | None
    found: float

    @property
    def verdict(self) -> str:
        """confirmed: rounds to what is claimed; rounding: off by less than one unit of its last digit; else wrong."""
        places = -int(Decimal(self.claim.percent).as_tuple().exponent)
        claimed = float(self.claim.percent)
        if round(self.found, places) == claimed:
            return "confirmed"
        return "rounding" if abs(self.found - claimed) < 10**-places else "wrong"


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
    total = cost.count(load_text(text, "TRAIN", input_shape=(3, crop, crop)), "paper")
    flops, params = _miscount(total) if miscounted else (total.macs, total.params)
    return Counts(
        flops,
        params,
        macs=sum(layer.macs - layer.biases for layer in total.layers),
        weights=total.params,
        conv_weights=sum(layer.weights for layer in total.layers if layer.type == "Convolution"),
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


def percentages() -> Iterator[Percentage]:
    """Every percentage of the paper's text, in its order."""
    for claim in claims():
        printed = None
        if claim.row in reported(claim.arch) and claim.against in reported(claim.arch):
            printed = _compare(claim, *(float(_cell(claim, row)) for row in (claim.row, claim.against)))
        if claim.quantity in ("flops", "params"):
            yield Percentage(
                claim, printed, _compare(claim, *(_count(claim, row) for row in (claim.row, claim.against)))
            )
        elif printed is not None:
            yield Percentage(claim, printed, printed)


def _cell(claim: Claim, row: str) -> str:
    return reported(claim.arch)[row][claim.quantity]


def _count(claim: Claim, row: str) -> float:
    counts = counted(claim.arch, row)
    return float(counts.macs if claim.quantity == "flops" else counts.weights)


def _compare(claim: Claim, value: float, base: float) -> float:
    """`value` against `base` in the way that the claim speaks."""
    if claim.kind == "more":
        return round(100 * (value - base), 6)  # of decimals: 0.1 is to be 0.1
    return 100 * value / base if claim.kind == "of" else saved(value, base)


def saved(value: float, base: float) -> float:
    """By how many percent `value` is less than `base`."""
    return 100 * (1 - value / base)


def rounds_to(count: int, unit: int, cell: str) -> bool:
    """Whether `count`, in units of 10^`unit`, is the printed `cell` to the digits it has."""
    printed = Decimal(cell)
    half = Decimal(1).scaleb(int(printed.as_tuple().exponent)) / 2
    return abs(Decimal(count).scaleb(-unit) - printed) <= half
