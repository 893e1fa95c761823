"""The ways of blobs through a picture: lines as thick as they have channels, and ribbons between filter groups.

A blob that a grouped layer reads parts into ribbons, one a group; what a grouped layer makes goes on in ribbons, and
these merge where a layer reads all of it: the roots of the paper's Figs. 4 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from rootgen.figures.layout import CROSSING, FAN, FOOT, GUTTER, STRAIGHT, Layout, Leg, Point
from rootgen.figures.sizes import MANY, Extent, trunk

STEPS, FEW_STEPS = 16, 4  # straight pieces of a bent line


@dataclass
class Routes:
    """What is drawn of edges, on paper: lines with their widths in inches, ribbons with the number of their group."""

    lines: list[list[Point]] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    ribbons: list[list[Point]] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)


def routes(layout: Layout) -> Routes:
    """The ways of all edges of the diagram."""
    return _Router(layout).all()


@dataclass(frozen=True)
class Mouth:
    """Where ribbons begin or end: at the blocks of a node, or side by side on a line as `thick` as theirs."""

    along: float
    across: float
    thick: float
    blocks: Extent | None = None

    def span(self, start: float, end: float) -> Point:
        """Where a share of the channels lies across the flow."""
        if self.blocks is None:
            first, last = (self.thick * (share - 0.5) for share in (start, end))
        else:
            first, last = self.blocks.span(start, end)
        return self.across + first, self.across + last


def bend(steps: int) -> list[Point]:
    """A curve from (0, 0) to (1, 1) that begins and ends along the flow, a cubic Bezier curve, as so many steps."""
    shares = [k / steps for k in range(steps + 1)]
    return [(1.5 * t * (1 - t) + t**3, t * t * (3 - 2 * t)) for t in shares]


def ribbons(
    start: Mouth, end: Mouth, groups: tuple[int, int], curve: Sequence[Point]
) -> Iterator[tuple[list[Point], int]]:
    """Ribbons from one mouth to the other, out of so many groups and into so many: (outline, number of the group).

    The numbers are of the groups that they come out of, if these are several.
    """
    parts, into = groups
    cuts = sorted({i / parts for i in range(parts + 1)} | {i / into for i in range(into + 1)})
    ahead = end.along - start.along
    for one, other in pairwise(cuts):
        (a0, b0), (a1, b1) = start.span(one, other), end.span(one, other)
        there = [(start.along + ahead * s, a0 + (a1 - a0) * a) for s, a in curve]
        back = [(start.along + ahead * s, b0 + (b1 - b0) * a) for s, a in reversed(curve)]
        yield [*there, *back], int((one + other) / 2 * (parts if parts > 1 else into))


class _Router:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.nodes = layout.diagram.nodes
        self.made = Routes()
        steps = STEPS if len(self.nodes) <= MANY else FEW_STEPS
        self.bend = bend(steps)

    def all(self) -> Routes:
        for end, node in enumerate(self.nodes):
            for start in node.edges:
                self._edge(start, end)
        return self.made

    def _edge(self, start: int, end: int) -> None:
        legs = list(self.layout.legs(start, end))
        begins, ends = self._mouth(start, end, 1), self._mouth(start, end, -1)
        groups = self._slices(start, legs[0].merges), self._slices(end, legs[-1].parts)
        first, last = replace(begins, blocks=None), replace(ends, blocks=None)
        if len(legs) == 1 and begins.across == ends.across and self._same_column(legs[0]) and max(groups) > 1:
            self._ribbons(begins, ends, groups)
            return
        if legs[0].merges:
            first = replace(first, along=self.layout.bands[legs[0].start[0]][1] + FAN)
            self._ribbons(begins, first, (groups[0], 1))
        if legs[-1].parts:
            last = replace(last, along=self.layout.bands[legs[-1].end[0]][0] - FAN)
            self._ribbons(last, ends, (1, groups[1]))
        way = [(first.along, first.across)]
        for leg in legs:
            to = ends.across if leg is legs[-1] else self.layout.place(*leg.end)[1]
            way += self._turn(leg, way[-1][1], to) if self._same_column(leg) else self._crossing(leg, way[-1][1], to)
        way.append((last.along, last.across))
        self.made.lines.append([self.layout.on_paper(*place) for place in way])
        self.made.widths.append(begins.thick)

    def _ribbons(self, start: Mouth, end: Mouth, groups: tuple[int, int]) -> None:
        for outline, group in ribbons(start, end, groups, self.bend):
            self.made.ribbons.append([self.layout.on_paper(*place) for place in outline])
            self.made.groups.append(group)

    def _mouth(self, start: int, end: int, side: int) -> Mouth:
        """Where an edge leaves its first node (1) or comes to its last (-1)."""
        i = start if side > 0 else end
        size, (along, across) = self.layout.extents[i], self.layout.of(i)
        parted = self.nodes[i].parts > 1 if side > 0 else max(self.nodes[i].group, self.nodes[i].parts) > 1
        across += self._slot(start, end) if side < 0 else 0.0
        thick = trunk(self.nodes[start].width)
        return Mouth(along + side * size.along / 2, across, thick, size if parted else None)

    def _slices(self, i: int, parted: bool) -> int:
        return self.layout.extents[i].slices if parted else 1

    def _slot(self, start: int, end: int) -> float:
        """Where on a Concat's bar a line ends, from its middle: in the order in which the lines come."""
        node = self.nodes[end]
        if node.layer.type != "Concat" or len(node.edges) < 2:
            return 0.0
        come = sorted((list(self.layout.legs(edge, end))[-1].start[1], edge) for edge in node.edges)
        place = [edge for _, edge in come].index(start)
        return self.layout.extents[end].across * ((place + 0.5) / len(come) - 0.5)

    def _same_column(self, leg: Leg) -> bool:
        one, other = (self.layout.diagram.stages[stop[0]] for stop in (leg.start, leg.end))
        return self.layout.column_of[one] == self.layout.column_of[other]

    def _turn(self, leg: Leg, across: float, target: float) -> list[Point]:
        """The way of a leg from one lane to another, all of it between the two ranks."""
        if across == target:
            return []
        start, end = self.layout.bands[leg.start[0]][1], self.layout.bands[leg.end[0]][0]
        start, end = start + FAN * leg.merges, end - FAN * leg.parts
        return [(start + (end - start) * s, across + (target - across) * a) for s, a in self.bend]

    def _crossing(self, leg: Leg, across: float, target: float) -> list[Point]:
        """The way from the foot of one column to the head of the next; lines of different nodes keep apart."""
        layout = self.layout
        nodes, column = self.nodes, layout.column_of[layout.diagram.stages[leg.end[0]]]
        number = layout.crossings[column][leg.start[1]]
        framed = FOOT * any(nodes[repeat.last].rank == leg.start[0] for repeat in layout.diagram.repeats)
        foot = layout.bands[leg.start[0]][1] + STRAIGHT + framed + FAN * leg.merges + CROSSING * number
        head = layout.bands[leg.end[0]][0] - STRAIGHT / 2 - FAN * leg.parts - CROSSING * number
        gutter = layout.column_start(column) - GUTTER / 2 - CROSSING * (len(layout.crossings[column]) - 1 - number)
        return [(foot, across), (foot, gutter), (head, gutter), (head, target)]
