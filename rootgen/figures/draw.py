"""A picture of a net (SVG, PNG or PDF): filters as blocks, one per group, as in the paper's Figs. 4 and 7.

Each convolution is drawn as solids: as tall as it has filters, as wide as its kernel, as deep as the channels
that one filter sees. So filter groups show as a stack of thin, shallow blocks. Stages go from left to right;
short nets stand in one line, longer ones with a column per stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log2
from typing import Any

from rootgen.errors import printable
from rootgen.figures.diagram import CONVOLUTIONS, Diagram, Node
from rootgen.figures.layout import Layout, Point
from rootgen.figures.save import DPI, Drawing

MANY = (
    1000  # nodes: in larger pictures labels have no backing against lines that pass behind, which takes half the time
)
PNG_PIXELS = 20_000  # the longer side of a PNG; larger pictures get fewer dots per inch
SPATIAL, POINTWISE, FC, OTHER, LINE, BAND = "#5b7fa6", "#b4c5d8", "#7d9b76", "#e9e6df", "#8a8a8a", "#f5f6f8"
GROUPS = ("#c44e52", "#4c72b0", "#55a868", "#dd8452", "#8172b3", "#b59a57", "#da8bc3", "#64b5cd")
SMALL, LARGE = 7.0, 9.5  # points


def picture(diagram: Diagram, title: str) -> Drawing:
    """The picture of `diagram` under `title`."""
    from matplotlib.figure import Figure

    place = Layout(diagram)
    left, bottom, right, top = place.frame()
    width, height = right - left, top - bottom
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.axis("off")
    _Picture(axes, diagram, place).draw(title)
    return Drawing(figure, min(DPI, PNG_PIXELS / max(width, height)))


class _Picture:
    """Draws the parts of a diagram on matplotlib axes."""

    def __init__(self, axes: Any, diagram: Diagram, place: Layout) -> None:
        self.axes = axes
        self.diagram = diagram
        self.place = place
        self.crossings: dict[int, dict[float, int]] = {}  # stage -> where the lines that enter it come from, numbered
        small = len(diagram.nodes) <= MANY
        self.backing = (
            {"facecolor": BAND, "edgecolor": "none", "alpha": 0.8, "pad": 0.4} if small else None
        )  # of labels
        self.faces: list[tuple[list[Point], tuple[float, ...], float]] = []  # of solids: corners, colour, width of edge
        self.lines: list[list[Point]] = []

    def draw(self, title: str) -> None:
        left, bottom, _, top = self.place.frame()
        self._text(left + 0.15, top - 0.1, title, fontsize=LARGE + 1.5, va="top", weight="bold")
        for stage, resolution in enumerate(self.diagram.resolutions):
            start, end = self.place.band(stage)
            self._rectangle(start, bottom + 0.1, end - start, top - bottom - 0.45, BAND, edge="none", z=0)
            label = " × ".join(map(str, resolution))
            self._text((start + end) / 2, top - 0.42, label, fontsize=LARGE, ha="center", va="top", color="#555555")
        for repeat in self.diagram.repeats:
            self._repeat(self.diagram.nodes[repeat.first : repeat.last + 1], repeat.times)
        for i, node in enumerate(self.diagram.nodes):
            for edge in node.edges:
                self._edge(edge, i)
        for node in self.diagram.nodes:
            self._node(node)
        self._add_collections()

    def _add_collections(self) -> None:
        """Add all lines and all faces as one artist each: thousands of artists take matplotlib minutes."""
        from matplotlib.collections import LineCollection, PolyCollection

        lines = LineCollection(self.lines, colors=LINE, linewidths=0.8, joinstyle="round", zorder=2)
        self.axes.add_collection(lines, autolim=False)
        corners, colours, widths = zip(*self.faces, strict=True) if self.faces else ((), (), ())
        faces = PolyCollection(corners, facecolors=colours, edgecolors="white", linewidths=widths, zorder=4)
        self.axes.add_collection(faces, autolim=False)

    def _text(self, x: float, y: float, words: str, **style: Any) -> None:
        """`words` as they are, on one line: a `$` in a layer's name starts no formula."""
        self.axes.text(x, y, printable(words), zorder=5, parse_math=False, **style)

    def _node(self, node: Node) -> None:
        x, y = self.place.at(node.rank, node.lane)
        kind = node.layer.type
        if kind in (*CONVOLUTIONS, "InnerProduct"):
            half = self._filters(node, x, y)
        else:
            half = self._other(node, x, y)
        lines = [node.layer.name, *node.details]
        group = node.group
        if self.place.one_line:
            self._lines(x, y - half[1] - 0.1, lines, group, ha="center")
        else:
            self._lines(x + half[0] + 0.08, y + 0.0625 * (len(lines) + (group > 1)), lines, group, ha="left")

    def _lines(self, x: float, y: float, lines: Sequence[str], group: int, ha: str) -> None:
        """A node's label: its name, what it does, and its groups in colour."""
        for i, line in enumerate([*lines, *([f"{group} groups"] if group > 1 else [])]):
            coloured = i == len(lines)
            self._text(
                x,
                y - 0.125 * i,
                line,
                fontsize=SMALL,
                ha=ha,
                va="top",
                color=GROUPS[0] if coloured else "#222222" if i == 0 else "#666666",
                weight="bold" if coloured else "normal",
                bbox=self.backing,
            )

    def _filters(self, node: Node, x: float, y: float) -> Point:
        """The filters of a layer, a solid per group; half its width and height."""
        group = node.group
        outputs = node.output[1] if len(node.output) > 1 else 1
        height = max(0.12, self.place.size * (log2(outputs) - 1))
        width = 0.05 + 0.05 * min(node.kernel, 7)
        depth = 0.35 * self.place.size * log2(2 * max(1, node.channels // group))
        gap = 0.25 * height / group if group > 1 else 0.0
        piece = (height - gap * (group - 1)) / group
        x0, y0 = x - width / 2, y + height / 2
        for g in reversed(range(group)):  # the lower blocks first, so that the upper ones stand before them
            colour = GROUPS[g % len(GROUPS)] if group > 1 else _plain(node)
            self._solid((x0, y0 - g * (piece + gap) - piece), width, piece, depth, colour)
        return width / 2 + 0.6 * depth, height / 2

    def _solid(self, corner: Point, width: float, height: float, depth: float, colour: str) -> None:
        """A box in oblique projection: front, top and right side."""
        from matplotlib.colors import to_rgb

        (x, y), red = corner, to_rgb(colour)
        across, up = 0.6 * depth, 0.35 * min(depth, 2 * height)
        line = min(0.5, 8 * height)
        faces = {
            1.0: [(x, y), (x + width, y), (x + width, y + height), (x, y + height)],
            1.25: [
                (x, y + height),
                (x + width, y + height),
                (x + width + across, y + height + up),
                (x + across, y + height + up),
            ],
            0.8: [
                (x + width, y),
                (x + width + across, y + up),
                (x + width + across, y + height + up),
                (x + width, y + height),
            ],
        }
        for shade, points in faces.items():
            self.faces.append((points, tuple(min(1.0, shade * part) for part in red), line))

    def _other(self, node: Node, x: float, y: float) -> Point:
        """A layer without filters; half its width and height."""
        kind = node.layer.type
        if kind == "Eltwise":
            from matplotlib.patches import Circle

            self.axes.add_artist(Circle((x, y), 0.1, facecolor="white", edgecolor=LINE, linewidth=0.8, zorder=4))
            self._text(x, y - 0.005, "+", fontsize=LARGE, ha="center", va="center", color="#444444")
            return 0.1, 0.1
        if kind == "Concat":
            self._rectangle(x - 0.03, y - 0.2, 0.06, 0.4, "#555555", z=4)
            return 0.03, 0.2
        wide, high = (0.11, 0.17) if kind == "Pooling" else (0.13, 0.13)
        self._rectangle(x - wide, y - high, 2 * wide, 2 * high, OTHER, z=4)
        return wide, high

    def _rectangle(
        self, x: float, y: float, width: float, height: float, face: str, *, edge: str = LINE, z: int
    ) -> None:
        from matplotlib.patches import FancyBboxPatch

        style = "round,pad=0,rounding_size=0.04"
        box = FancyBboxPatch(
            (x, y), width, height, boxstyle=style, facecolor=face, edgecolor=edge, linewidth=0.8, zorder=z
        )
        self.axes.add_artist(box)

    def _edge(self, start: int, end: int) -> None:
        """The blob that goes from one node to another, bent round the nodes between."""
        nodes = self.diagram.nodes
        stops = [(nodes[start].rank, nodes[start].lane), *self.diagram.bends.get((start, end), [])]
        stops.append((nodes[end].rank, nodes[end].lane))
        points = [self.place.at(*stops[0])]
        for (rank, _), (next_rank, next_lane) in pairwise(stops):
            target = self.place.at(next_rank, next_lane)
            if not self.place.one_line and self.diagram.stages[rank] != self.diagram.stages[next_rank]:
                points += self._to_next_column(points[-1], target, self.diagram.stages[next_rank])
            points.append(target)
        self.lines.append(points)

    def _to_next_column(self, start: Point, target: Point, stage: int) -> list[Point]:
        """The way from the foot of one column to the head of the next, through the gap between them.

        Lines from different nodes keep apart.
        """
        sources = self.crossings.setdefault(stage, {})
        aside = 0.07 * sources.setdefault(start[0], len(sources))
        gap = self.place.band(stage)[0] - 0.22 + aside
        foot, head = start[1] - 0.58 + aside, target[1] + 0.58 - aside
        return [(start[0], foot), (gap, foot), (gap, head), (target[0], head)]

    def _repeat(self, nodes: Sequence[Node], times: int) -> None:
        """A frame round a block that stands for several, with how many."""
        from matplotlib.patches import FancyBboxPatch

        points = [self.place.at(node.rank, node.lane) for node in nodes]
        first, last = self.place.lanes[self.diagram.stages[nodes[0].rank]]
        if self.place.one_line:
            left, right = min(x for x, _ in points) - 0.55, max(x for x, _ in points) + 0.55
            below, above = min(y for _, y in points) - 1.1, max(y for _, y in points) + 0.9
        else:
            left = self.place.at(nodes[0].rank, first)[0] - 0.4
            right = self.place.at(nodes[0].rank, last)[0] + 1.5
            below, above = min(y for _, y in points) - 0.42, max(y for _, y in points) + 0.42
        style = "round,pad=0,rounding_size=0.08"
        box = FancyBboxPatch(
            (left, below),
            right - left,
            above - below,
            boxstyle=style,
            fill=False,
            edgecolor="#b0b0b0",
            linestyle="--",
            zorder=1,
        )
        self.axes.add_artist(box)
        words = f"× {times}, to {nodes[-1].last}"
        self._text(right - 0.06, below + 0.05, words, fontsize=SMALL + 1, ha="right", va="bottom", weight="bold")


def _plain(node: Node) -> str:
    """Colour of the filters of a layer without groups."""
    if node.layer.type == "InnerProduct":
        return FC
    return SPATIAL if node.kernel > 1 else POINTWISE
