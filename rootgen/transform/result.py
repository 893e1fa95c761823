"""What a transformation did: each convolution it concerns, the new text, and what that saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rootgen.net import cost
from rootgen.net.graph import Layer, Shape
from rootgen.net.load import LoadedNet
from rootgen.text import Shown, Table, shape_text


@dataclass(frozen=True)
class Change:
    """The groups of one convolution before and after; `kept` says why a rule leaves it as it is, else "".

    `index` is `Layer.index`; `unmixed` is `Spatial.unmixed`, "" where nothing needs saying.
    """

    layer: Layer
    stage: int | None
    output: Shape
    channels: int
    before: int
    after: int
    kept: str = ""
    unmixed: str = ""

    @property
    def needs_mixing(self) -> bool:
        """Whether the layer gets groups whose outputs no later layer mixes in time."""
        return self.after > 1 and bool(self.unmixed) and not self.kept


@dataclass(frozen=True, repr=False)
class Transformed(Shown):
    """The new text, what changed and was kept, what to look at, and the costs of both in the phase counted.

    `net` is the new net in that phase.
    """

    text: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    before: cost.Cost
    after: cost.Cost
    net: LoadedNet

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per convolution that the plan concerns, for pandas.DataFrame."""
        return [
            {
                "name": change.layer.name,
                "stage": change.stage,
                "output": change.output[1:],
                "channels": change.channels,
                "before": change.before,
                "after": change.after,
                "kept": change.kept,
            }
            for change in self.changes
        ]

    def tables(self) -> list[Table]:
        """What happens to each convolution that the plan concerns, and what that saves."""
        rows = [
            [
                change.layer.name,
                "-" if change.stage is None else change.stage + 1,
                shape_text(change.output[1:]),
                change.channels,
                change.before if change.before == change.after else f"{change.before} -> {change.after}",
                f"kept: {change.kept}" if change.kept else "",
            ]
            for change in self.changes
        ]
        title = f"{self.before.net} ({self.before.phase})"
        return [
            Table(["convolution", "stage", "output", "channels in", "group", ""], rows),
            cost.totals(self.before, self.after, title),
        ]
