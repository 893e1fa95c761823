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
from dataclasses import dataclass
from math import log

import numpy as np

from rootgen.deploy.advice import ADVISED, LEAST, ORIGINAL, Advice, Bearing, Planned, PlanTimes
from rootgen.deploy.budget import BUDGETS, NS, Budget, Counted, Timed
from rootgen.deploy.layer_times import LayerTimes, Stopwatch
from rootgen.deploy.regroup import Data, blobs_of, importance_of, judged, opened
from rootgen.errors import RootgenError
from rootgen.grouping import RULES, Plan
from rootgen.net.graph import Net
from rootgen.net.load import LoadedNet, load_text
from rootgen.progress import Report, silent
from rootgen.transform import regroup
from rootgen.transform.regroup import Kept
from rootgen.transform.result import Transformed
from rootgen.transform.stages import spatial_convolutions
from rootgen.transform.transform import Nets, TransformOptions, read_phases, transform

MOST = 64  # groups, the paper's most
STARTS = 4  # of the search for orders, for each layer and number of groups
STEPS = 10_000


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
    watch: Stopwatch | None = None,
    report: Report = silent,
) -> Advice:
    """What the layers of the net `text`, trained to `weights`, can bear, and the plan of `share` of its `budget`.

    `budget` is macs (multiply-adds an image), params, or time: of a forward pass of phase `options.phase`, by layer
    times that `watch` takes or took; whole nets are then timed beside. With `data` weights are judged by what they do
    to its images, as `transform --data` does. RootgenError where no groups make the net so small; it says what the
    least is.
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
    judge = _Judge(text, where, options, nets, worth, seed)
    rules = list(judge.rules())
    if budget == Timed.name:
        found: Budget = _timed(judge, candidates, [made for _, made in rules], watch or Stopwatch(), report)
    else:
        found = Counted(budget, net.cost())
    needed = _needed(found, share, candidates, where)
    bearings: list[Bearing] = []
    for name, counts in candidates.items():
        report("layers", len(bearings), len(candidates))
        bearings.append(_bearing(judge, found, name, counts))
    report("layers", len(bearings), len(candidates))
    groups = best(bearings, needed)
    chosen = {name: count for name, count in groups.items() if count != candidates[name][0]}
    mine = Plan.of(group=chosen)
    plans = [judge.planned(ADVISED, transform(text, mine, where, options))]
    plans += [judge.planned(str(plan), made) for plan, made in _fewest(rules, found, found.total - needed)]
    times = _plan_times(judge, found, plans) if isinstance(found, Timed) else None
    return Advice(tuple(bearings), chosen, tuple(plans), times)


def _needed(budget: Budget, share: float, candidates: Mapping[str, Sequence[int]], where: object) -> int:
    """What has to be saved; RootgenError where that is more than can be."""
    needed = budget.total - int(share * budget.total)
    least = budget.total - sum(max(budget.saved(name, counts)) for name, counts in candidates.items())
    if budget.total - needed < least:
        raise RootgenError(
            f"groups cannot bring it to {share:g} of its {budget.name}: {least / budget.total:.3f} is the least "
            f"({budget.told(least)} of {budget.told(budget.total)})",
            where=where,
            hint=f"--{budget.name} {np.ceil(1000 * least / budget.total) / 1000:g} or more",
        )
    return needed


def _bearing(judge: _Judge, budget: Budget, name: str, counts: Sequence[int]) -> Bearing:
    kept = tuple(judge.alone(name, count) for count in counts)
    times = [budget.times.alone(name, count) for count in counts] if isinstance(budget, Timed) else []
    return Bearing(name, kept, budget.saved(name, counts), tuple(times))


def _fewest(
    rules: Sequence[tuple[Plan, Transformed]], budget: Budget, limit: int
) -> Iterator[tuple[Plan, Transformed]]:
    """Of each rule the plan with the fewest groups that is within the budget, if one is."""
    done = set()
    for plan, made in rules:
        if plan.kind not in done and budget.left(made) <= limit:
            done.add(plan.kind)
            yield plan, made


def _timed(
    judge: _Judge,
    candidates: Mapping[str, Sequence[int]],
    rules: Sequence[Transformed],
    watch: Stopwatch,
    report: Report,
) -> Timed:
    """The budget of time, with the times of all layers that a plan may change."""
    wanted = {name: set(counts) for name, counts in candidates.items()}
    for change in (change for made in rules for change in made.changes):
        if change.before != change.after:
            wanted.setdefault(change.layer.name, set()).update((change.before, change.after))
    times = LayerTimes(judge.loaded(judge.text, watch.batch), watch, report)
    times.prepare(wanted)
    return Timed(times)


def _plan_times(judge: _Judge, budget: Timed, plans: Sequence[Planned]) -> PlanTimes:
    """The whole nets of plans, timed, beside what the layers' times say of them."""
    batch = budget.times.watch.batch
    nets = {ORIGINAL: budget.times.net} | {plan.name: judge.loaded(plan.made.text, batch) for plan in plans}
    told = {ORIGINAL: budget.total / NS} | {plan.name: budget.left(plan.made) / NS for plan in plans}
    return PlanTimes(budget.times.about, told, budget.times.measured(nets))


def best(bearings: Sequence[Bearing], needed: int) -> dict[str, int]:
    """The groups of each layer that keep the most (as a product) and together save what is `needed`, which can be."""
    value = np.full(STEPS + 1, -np.inf)
    value[0] = 0.0
    chosen = []
    for one in bearings:
        now = np.full_like(value, -np.inf)
        choice, origin = np.zeros(STEPS + 1, int), np.zeros(STEPS + 1, int)
        for i, (kept, saved) in enumerate(zip(one.kept, one.saved, strict=True)):
            if saved < 0:  # groups that take longer
                continue
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
        return {one.layer: one.kept[int(np.argmax(one.saved))].group for one in bearings}
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

    def planned(self, name: str, made: Transformed) -> Planned:
        """A plan by what it made, and what the layers keep in it; those that it leaves as they are keep all."""
        groups = {one.layer.name: one.after for one in made.changes if not one.kept and one.layer.name in self.worth}
        found = regroup.choose(self.nets, groups, self.worth, starts=STARTS, seed=self.seed)
        shares = dict.fromkeys(self.worth, 1.0)
        shares |= {one.layer: one.permuted for orders in found.values() for one in orders.kept}
        return Planned(name, made, shares)

    def rules(self) -> Iterator[tuple[Plan, Transformed]]:
        """The plans of each rule that fit, those with the fewest groups first, and what they make."""
        for plan in (Plan(kind, 2**i) for kind in RULES for i in range(1, MOST.bit_length())):
            with suppress(RootgenError):  # groups that divide nothing
                yield plan, transform(self.text, plan, self.where, self.options)

    def loaded(self, text: str, batch: int | None) -> LoadedNet:
        """A net as this one was read, in batches of another size where `batch` says one."""
        options = self.options
        return load_text(
            text,
            next(iter(self.nets)),
            where=self.where,
            beside=options.beside,
            level=options.level,
            stages=options.stages,
            lenient=options.lenient,
            input_shape=options.input_shape,
            batch=batch,
            given=options.given,
        )
