"""What a transformation did: each convolution it concerns, the new text, and what that saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rootgen.compound import Shaped, Sizes
from rootgen.net import cost
from rootgen.net.graph import Layer, Shape
from rootgen.net.load import LoadedNet
from rootgen.text import Shown, Table, shape_text


@dataclass(frozen=True)
class Change:
    """The groups of one convolution before and after; `kept` says why a rule leaves it as it is, else "".

    `unmixed` is `Spatial.unmixed`, "" where nothing needs saying. `sizes` are those of groups that are not alike, with
    their input channels; `basis` the kernels put in place of its own, each in `after` groups; `without_basis` says why
    a basis for all leaves it out, else "".
    """

    layer: Layer
    stage: int | None
    output: Shape
    channels: int
    before: int
    after: int
    kept: str = ""
    unmixed: str = ""
    sizes: Sizes | None = None
    basis: tuple[Shaped, ...] = ()
    without_basis: str = ""

    @property
    def needs_mixing(self) -> bool:
        """Whether the layer gets groups, or a basis, whose outputs no later layer mixes in time."""
        return bool(self.unmixed) and (bool(self.basis) or (self.after > 1 and not self.kept))

    @property
    def groups(self) -> int | Sizes:
        """The groups that it gets: how many, or their sizes."""
        return self.sizes or self.after

    @property
    def note(self) -> str:
        """What else there is to say: why it is kept, the kernels put in place of its own, why there are none."""
        basis = " + ".join(f"{one.num_output} of {one.height}x{one.width}" for one in self.basis)
        notes = [f"kept: {self.kept}" if self.kept else "", basis]
        if self.without_basis and self.without_basis != self.kept:
            notes.append(f"no basis: {self.without_basis}")
        return "; ".join(filter(None, notes))


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
                "sizes": str(change.sizes) if change.sizes else None,
                "basis": tuple(tuple(one) for one in change.basis) or None,
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
                change.before if change.before == change.groups else f"{change.before} -> {change.groups}",
                change.note,
            ]
            for change in self.changes
        ]
        title = f"{self.before.net} ({self.before.phase})"
        return [
            Table(["convolution", "stage", "output", "channels in", "group", ""], rows),
            cost.totals(self.before, self.after, title),
        ]
