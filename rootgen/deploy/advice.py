"""What the layers of a trained net can bear and the plans that follow from it, as tables and rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, log
from shlex import quote
from typing import Any

from rootgen.deploy.budget import COUNTED
from rootgen.text import Shown, Table, percent_change
from rootgen.transform.regroup import Kept
from rootgen.transform.result import Transformed

LEAST = 1e-9  # a share that is not 0, for the product


@dataclass(frozen=True)
class Bearing:
    """What one layer keeps, by number of groups, and what that saves; `kept` begins with the groups that it has.

    `saved` is in the budget's unit (multiply-adds, parameters, nanoseconds); it may be negative where groups take
    longer. `times` are the milliseconds of the layer alone, empty where the budget is none of time.
    """

    layer: str
    kept: tuple[Kept, ...]
    saved: tuple[int, ...]
    times: tuple[float, ...] = ()


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


@dataclass(frozen=True)
class PlanTimes:
    """Milliseconds of whole nets: by the layers' times, and measured, by the plan's name; ORIGINAL is the net as it is.

    Both as shares of the original's tell how far off the sum of the layers' times is, as the machine may have become
    slower or faster since the layers were timed. `about` says what ran them.
    """

    about: str
    told: Mapping[str, float]
    measured: Mapping[str, float]

    def share(self, plan: str) -> tuple[float, float]:
        """What a plan takes of the original's time, by the layers' times and measured."""
        return self.told[plan] / self.told[ORIGINAL], self.measured[plan] / self.measured[ORIGINAL]

    def off(self, plan: str) -> float:
        """How much longer a plan takes than the layers' times say, as a share of that."""
        told, measured = self.share(plan)
        return measured / told - 1


ADVISED, ORIGINAL = "advised", "original"


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """What each layer can bear, the best plan within the budget, and the rules' plans of the same budget.

    `times` has the plans' times where the budget is one of time.
    """

    bearings: tuple[Bearing, ...]
    groups: Mapping[str, int]
    plans: tuple[Planned, ...] = field(default=())
    times: PlanTimes | None = None

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
                **({"milliseconds": one.times[i]} if one.times else {}),
            }
            for one in self.bearings
            for i, (kept, saved) in enumerate(zip(one.kept, one.saved, strict=True))
        ]

    def tables(self) -> list[Table]:
        """Layers and what they keep by number of groups (and how long they take); plans and what they keep."""
        kept = [{own.group: f"{100 * own.permuted:.1f}%" for own in one.kept} for one in self.bearings]
        found = [self._by_groups("kept by groups", kept)]
        if self.times:
            taken = [
                {own.group: f"{ms:.3f}" for own, ms in zip(one.kept, one.times, strict=True)} for one in self.bearings
            ]
            found.append(self._by_groups("ms by groups", taken, f"each layer alone; {self.times.about}"))
        return [*found, self._plans()]

    def _by_groups(self, title: str, cells: list[dict[int, str]], about: str | None = None) -> Table:
        counts = sorted({count for own in cells for count in own})
        rows = [
            [one.layer, *(own.get(count, "") for count in counts), self.groups.get(one.layer, one.kept[0].group)]
            for one, own in zip(self.bearings, cells, strict=True)
        ]
        return Table([title, *map(str, counts), "chosen"], rows, about)

    def _plans(self) -> Table:
        timed = ["time by layers", "time measured", "off", "ms"] if self.times else []
        rows = [
            [
                plan.name,
                f"{100 * plan.kept:.1f}%",
                f"{100 * min(plan.shares.values()):.1f}%",
                *(percent_change(getattr(plan.made.before, one), getattr(plan.made.after, one)) for one in COUNTED),
                *self._times(plan.name),
            ]
            for plan in self.plans
        ]
        if self.times:
            rows.append([ORIGINAL, "100.0%", "100.0%", *("" for _ in COUNTED), *self._times(ORIGINAL)])
        return Table(["plan", "kept per layer", "least", *COUNTED, *timed], rows)

    def _times(self, plan: str) -> list[str]:
        if self.times is None:
            return []
        shares = ["" if plan == ORIGINAL else f"{100 * (share - 1):+.1f}%" for share in self.times.share(plan)]
        off = "" if plan == ORIGINAL else f"{100 * self.times.off(plan):+.1f}%"
        return [*shares, off, f"{self.times.measured[plan]:.3f}"]
