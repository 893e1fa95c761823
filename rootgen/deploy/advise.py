"""How many groups each layer of a trained net can bear: the plan that keeps the most within a budget.

A layer's share is what its groups keep of its squared weights in the best orders of channels that it could have by
itself. A plan keeps the product of its layers' shares, as what is lost in one layer no other brings back. The best
plan is found by dynamic programming over what each layer saves, in steps of 1/10000 of what has to be saved: exact but
for that rounding, which is to the safe side. What a plan is said to keep is then found for the whole of it, as two
layers may want the channels between them in two orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import exp, log
from shlex import quote
from typing import Any

import numpy as np

from rootgen.deploy.regroup import Data, blobs_of, importance_of, judged, opened
from rootgen.errors import RootgenError
from rootgen.grouping import RULES, Plan
from rootgen.net.graph import Net
from rootgen.progress import Report, silent
from rootgen.text import Shown, Table, percent_change
from rootgen.transform import regroup
from rootgen.transform.regroup import Kept
from rootgen.transform.result import Transformed
from rootgen.transform.stages import spatial_convolutions
from rootgen.transform.transform import Nets, TransformOptions, read_phases, transform

BUDGETS = ("macs", "params")
MOST = 64  # groups, the paper's most
STARTS = 4  # of the search for orders, for each layer and number of groups
STEPS = 10_000
LEAST = 1e-9  # a share that is not 0, for the product


@dataclass(frozen=True)
class Bearing:
    """What one layer keeps, by number of groups, and what that saves; `kept` begins with the groups that it has."""

    layer: str
    kept: tuple[Kept, ...]
    saved: tuple[int, ...]


@dataclass(frozen=True)
class Planned:
    """A plan, the net that it makes, and the layers' shares in it; `kept` is the product of those, per layer."""

    name: str
    made: Transformed
    shares: Mapping[str, float]

    @property
    def kept(self) -> float:
        """The geometric mean of the shares."""
        return exp(sum(log(max(share, LEAST)) for share in self.shares.values()) / len(self.shares))


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """What each layer can bear, the best plan within the budget, and the rules' plans of the same budget."""

    bearings: tuple[Bearing, ...]
    groups: Mapping[str, int]
    plans: tuple[Planned, ...] = field(default=())

    @property
    def text(self) -> str:
        """The prototxt of the best plan."""
        return self.plans[0].made.text

    @property
    def options(self) -> str:
        """The best plan as options of `rootgen transform`."""
        return " ".join(f"--group {quote(f'{name}={group}')}" for name, group in self.groups.items())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per layer and number of groups, for pandas.DataFrame."""
        return [
            {
                "layer": one.layer,
                "group": kept.group,
                "sliced": kept.sliced,
                "permuted": kept.permuted,
                "shuffled": kept.control,
                "saved": saved,
                "chosen": self.groups.get(one.layer, one.kept[0].group) == kept.group,
            }
            for one in self.bearings
            for kept, saved in zip(one.kept, one.saved, strict=True)
        ]

    def tables(self) -> list[Table]:
        """Layers and what they keep by number of groups, the chosen one in brackets; plans and what they keep."""
        counts = sorted({kept.group for one in self.bearings for kept in one.kept})
        rows = []
        for one in self.bearings:
            cells = {kept.group: f"{100 * kept.permuted:.1f}%" for kept in one.kept}
            group = self.groups.get(one.layer, one.kept[0].group)
            rows.append([one.layer, *(cells.get(count, "") for count in counts), group])
        plans = [
            [
                plan.name,
                f"{100 * plan.kept:.1f}%",
                f"{100 * min(plan.shares.values()):.1f}%",
                *(percent_change(getattr(plan.made.before, one), getattr(plan.made.after, one)) for one in BUDGETS),
            ]
            for plan in self.plans
        ]
        return [
            Table(["kept by groups", *map(str, counts), "chosen"], rows),
            Table(["plan", "kept per layer", "least", *BUDGETS], plans),
        ]


def advise(
    text: str,
    weights: str,
    where: object,
    options: TransformOptions,
    *,
    budget: str = BUDGETS[0],
    share: float = 0.5,
    seed: int = 0,
    data: Data | None = None,
    report: Report = silent,
) -> Advice:
    """What the layers of the net `text`, trained to `weights`, can bear, and the plan of `share` of its `budget`.

    `budget` is macs (multiply-adds an image) or params. With `data` weights are judged by what they do to its images,
    as `transform --data` does. RootgenError where no groups make the net so small; it says what the least is.
    """
    nets, _ = read_phases(text, where, options)
    learned = blobs_of(nets, weights)
    net = next(iter(nets.values()))
    candidates = _candidates(net)
    if not candidates:
        raise RootgenError("has no spatial convolution that groups could divide", where=where)
    worth = importance_of(nets, dict.fromkeys(candidates, 1), learned)
    with opened(data, nets, weights, options, where) as images:
        if images:
            worth |= judged(nets, candidates, learned, images, report)
    cost = net.cost()
    rows = {row.name: row for row in cost.layers}
    total = getattr(cost, budget)
    judge = _Judge(text, where, options, nets, worth, seed)
    bearings: list[Bearing] = []
    for name, counts in candidates.items():
        report("layers", len(bearings), len(candidates))
        kept = tuple(judge.alone(name, count) for count in counts)
        saves = rows[name].macs if budget == "macs" else rows[name].weights
        bearings.append(Bearing(name, kept, tuple(saves - saves * counts[0] // count for count in counts)))
    report("layers", len(bearings), len(candidates))
    most = sum(one.saved[-1] for one in bearings)
    needed = total - int(share * total)
    if needed > most:
        raise RootgenError(
            f"groups cannot bring it to {share:g} of its {budget}: {(total - most) / total:.3f} is the least "
            f"({total - most:,} of {total:,})",
            where=where,
            hint=f"--{budget} {np.ceil(1000 * (total - most) / total) / 1000:g} or more",
        )
    groups = best(bearings, needed)
    chosen = {name: count for name, count in groups.items() if count != candidates[name][0]}
    plans = [judge.planned(Plan.of(group=chosen), "advised")]
    plans += [plan for kind in RULES for plan in judge.rule(kind, budget, total - needed)]
    return Advice(tuple(bearings), chosen, tuple(plans))


def best(bearings: Sequence[Bearing], needed: int) -> dict[str, int]:
    """The groups of each layer that keep the most (as a product) and together save what is `needed`, which can be."""
    value = np.full(STEPS + 1, -np.inf)
    value[0] = 0.0
    chosen = []
    for one in bearings:
        now = np.full_like(value, -np.inf)
        choice, origin = np.zeros(STEPS + 1, int), np.zeros(STEPS + 1, int)
        for i, (kept, saved) in enumerate(zip(one.kept, one.saved, strict=True)):
            step = min(STEPS, saved * STEPS // needed)
            gain = value + log(max(kept.permuted, LEAST))
            enough = STEPS - step + int(np.argmax(gain[STEPS - step :]))  # whence the last place is reached best
            starts = np.append(np.arange(STEPS - step), enough)
            places = np.append(np.arange(step, STEPS), STEPS)
            better = gain[starts] > now[places]
            places, starts = places[better], starts[better]
            now[places], choice[places], origin[places] = gain[starts], i, starts
        value = now
        chosen.append((choice, origin))
    if not np.isfinite(value[STEPS]):  # by the rounding alone
        return {one.layer: one.kept[-1].group for one in bearings}
    at, found = STEPS, {}
    for one, (choice, origin) in zip(reversed(bearings), reversed(chosen), strict=True):
        found[one.layer] = one.kept[choice[at]].group
        at = origin[at]
    return {one.layer: found[one.layer] for one in bearings}


def _candidates(net: Net) -> dict[str, list[int]]:
    """Numbers of groups that each spatial convolution can have: what it has, and that doubled as far as it divides."""
    found = {}
    for one in spatial_convolutions(net):
        counts = [one.group]
        while counts[-1] * 2 <= MOST and not (one.channels % (counts[-1] * 2) or one.num_output % (counts[-1] * 2)):
            counts.append(counts[-1] * 2)
        if one.stage is not None and not one.depthwise and len(counts) > 1:
            found[one.layer.name] = counts
    return found


@dataclass(frozen=True)
class _Judge:
    """Finds what the layers of a net keep: `net` is that of the phase looked at, `worth` what connections are worth."""

    text: str
    where: object
    options: TransformOptions
    nets: Nets
    worth: Mapping[str, np.ndarray]
    seed: int

    def alone(self, name: str, count: int) -> Kept:
        """What one layer keeps in `count` groups, when it chooses all orders that may be chosen."""
        found = regroup.choose(self.nets, {name: count}, self.worth, starts=STARTS, seed=self.seed)
        return next(one for orders in found.values() for one in orders.kept)

    def planned(self, plan: Plan, name: str = "") -> Planned:
        """A plan and what the layers keep in it; those that it leaves as they are keep all."""
        made = transform(self.text, plan, self.where, self.options)
        groups = {one.layer.name: one.after for one in made.changes if not one.kept and one.layer.name in self.worth}
        found = regroup.choose(self.nets, groups, self.worth, starts=STARTS, seed=self.seed)
        shares = dict.fromkeys(self.worth, 1.0)
        shares |= {one.layer: one.permuted for orders in found.values() for one in orders.kept}
        return Planned(name or str(plan), made, shares)

    def rule(self, kind: str, budget: str, limit: float) -> Iterator[Planned]:
        """The plan of a rule with the fewest groups that is within the budget, if one is."""
        for n in (2**i for i in range(1, MOST.bit_length())):
            plan = Plan(kind, n)
            with suppress(RootgenError):  # groups that divide nothing
                if getattr(transform(self.text, plan, self.where, self.options).after, budget) <= limit:
                    yield self.planned(plan)
                    return
