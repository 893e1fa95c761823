"""What a plan of groups has to save: multiply-adds, parameters, or time on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rootgen.deploy.layer_times import LayerTimes
from rootgen.net.cost import Cost
from rootgen.transform.result import Transformed

COUNTED = ("macs", "params")
TIME = "time"
BUDGETS = (*COUNTED, TIME)
NS = 1e6  # in a millisecond


class Budget(Protocol):
    """Whole numbers of what is saved: multiply-adds of an image, parameters, nanoseconds of a pass."""

    @property
    def name(self) -> str:
        """One of BUDGETS."""

    @property
    def total(self) -> int:
        """Of the net as it is."""

    def saved(self, layer: str, groups: Sequence[int]) -> tuple[int, ...]:
        """What one layer saves in each number of `groups`, of which the first is what it has."""

    def left(self, made: Transformed) -> int:
        """What is left of a net that a plan made."""

    def told(self, value: int) -> str:
        """A value in words, without its unit where it is to be followed by the total."""


@dataclass(frozen=True)
class Counted:
    """Multiply-adds ("macs") or parameters ("params"), as `rootgen cost` counts them."""

    name: str
    cost: Cost

    @property
    def total(self) -> int:
        return int(getattr(self.cost, self.name))

    def saved(self, layer: str, groups: Sequence[int]) -> tuple[int, ...]:
        row = next(row for row in self.cost.layers if row.name == layer)
        whole = row.macs if self.name == "macs" else row.weights
        return tuple(whole - whole * groups[0] // count for count in groups)

    def left(self, made: Transformed) -> int:
        return int(getattr(made.after, self.name))

    def told(self, value: int) -> str:
        return f"{value:,}"


@dataclass(frozen=True)
class Timed:
    """Time of a forward pass: what is left is the net's own less what each layer saves."""

    times: LayerTimes
    name: str = TIME

    @property
    def total(self) -> int:
        return round(self.times.whole * NS)

    def saved(self, layer: str, groups: Sequence[int]) -> tuple[int, ...]:
        return tuple(round(self.times.saved(layer, groups[0], count) * NS) for count in groups)

    def left(self, made: Transformed) -> int:
        changes = [change for change in made.changes if change.before != change.after]
        return self.total - sum(self.saved(one.layer.name, (one.before, one.after))[1] for one in changes)

    def told(self, value: int) -> str:
        return f"{value / NS:.3f} ms"
