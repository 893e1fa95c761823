"""How large what stands for a layer is on paper, in inches: solids for filters, boxes for the rest, and labels."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from rootgen.errors import printable
from rootgen.figures.node import Node

SMALL, LARGE = 7.0, 9.5  # points
LINE = 0.128  # inches from line to line of a label
LETTER = 0.0585  # inches that a letter of a label takes
LABEL_GAP = 0.08  # from a node to its label
NAME = 28  # letters of a name that are shown
MANY = 1000  # nodes: larger pictures show fewer slices of each, which takes most of the time
SLICES, FEW_SLICES = 32, 8  # blocks that are drawn of a layer with more groups
APART = 16  # groups: the blocks of more stand close together
EDGED = 0.05  # inches: smaller blocks have no white edges, which would hide them
EMPTY = 0.25  # share of the room of a layer's blocks that is between them


@dataclass(frozen=True)
class Extent:
    """A node on paper: how far its front goes `across` the flow and `along` it, and how deep it is.

    `gap` is between its `slices` blocks; `label` are the lines beside it, the last one coloured where it has groups.
    """

    across: float
    along: float
    depth: float = 0.0
    slices: int = 1
    gap: float = 0.0
    label: tuple[str, ...] = ()

    @property
    def slice(self) -> float:
        """How far one block goes across the flow."""
        return (self.across - self.gap * (self.slices - 1)) / self.slices

    @property
    def right(self) -> float:
        """How far its depth shows to the right of the front."""
        return 0.6 * self.depth

    @property
    def rise(self) -> float:
        """How far its depth shows above the front."""
        return 0.35 * min(self.depth, 2 * self.slice) if self.slices > 1 else 0.35 * self.depth

    @property
    def wide(self) -> float:
        """Width of the label."""
        return LETTER * max(map(len, self.label), default=0)

    @property
    def high(self) -> float:
        """Height of the label."""
        return LINE * len(self.label)

    def span(self, start: float, end: float) -> tuple[float, float]:
        """Where a share of the channels lies across the flow, from the first channel's side; within one block."""
        i = min(int(start * self.slices + 1e-9), self.slices - 1)
        first = i * (self.slice + self.gap)
        return tuple(first + self.slice * (share * self.slices - i) - self.across / 2 for share in (start, end))  # type: ignore[return-value]


def extent(node: Node, doubling: float, most_slices: int) -> Extent:
    """The size of `node` where each doubling of its filters takes `doubling` inches."""
    label = _label(node)
    if node.filters:
        across = max(0.12, doubling * (log2(node.width) - 1))
        along = 0.05 + 0.05 * min(node.kernel, 7)
        depth = 0.35 * doubling * log2(2 * max(1, node.channels // node.group))
        slices = min(node.group, most_slices)
        gap = EMPTY * across / slices if 1 < node.group <= APART else 0.0
        return Extent(across, along, depth, slices, gap, label)
    slices = min(node.parts, most_slices)
    kind = node.layer.type
    if kind == "Eltwise":
        return Extent(0.2, 0.2, label=label)
    if kind == "Concat":
        return Extent(0.5, 0.06, label=label)
    across, along = (0.34, 0.22) if kind == "Pooling" else (0.26, 0.26)
    return Extent(across, along, slices=slices, label=label)


def trunk(channels: int) -> float:
    """Thickness of the line of a blob with so many channels."""
    return 0.012 + 0.0045 * log2(max(1, channels))


def _label(node: Node) -> tuple[str, ...]:
    name = printable(node.layer.name)
    if len(name) > NAME:
        name = f"{name[: NAME // 2 - 1]}…{name[-NAME // 2 :]}"
    groups = [f"{node.group} groups"] if node.group > 1 else []
    return (name, *(printable(line) for line in node.details), *groups)
