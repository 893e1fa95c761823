"""Where the ranks, lanes and stages of a diagram lie on paper, in inches.

The flow goes from left to right in short nets, which stand in one line; longer ones have columns in which it goes
down, filled with panels, one a stage. A place is (along, across): along the flow, and across it, which is down in one
line, else to the right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rootgen.figures.diagram import Diagram
from rootgen.figures.sizes import FEW_SLICES, LABEL_GAP, MANY, SLICES, extent

ONE_LINE = 16  # ranks: a longer net gets columns
ASPECT = 1.6  # width over height of a screen
PAD, BETWEEN = 0.2, 0.12  # inside panels; between them
HEADER = 0.3  # for a panel's size
STRAIGHT, FAN, TURN = 0.2, 0.24, 0.3  # room between ranks: always; for ribbons that part or merge; for lines aside
FOOT = 0.2  # for the words at the foot of a repeated block's frame
CROSSING = 0.1  # from one line between columns to the next
GUTTER = 0.3  # between columns, beside the lines there

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right and top."""


@dataclass(frozen=True)
class Leg:
    """A piece of an edge, from one (rank, lane) to the next, and which of its ends are ribbons."""

    start: tuple[int, float]
    end: tuple[int, float]
    merges: bool
    parts: bool

    @property
    def turns(self) -> bool:
        """Whether it changes its lane."""
        return self.start[1] != self.end[1]


@dataclass(frozen=True)
class _Column:
    """Stages one after the other: where lane 0 lies, from lane to lane, and how far the column reaches across."""

    lane0: float
    pitch: float
    edges: tuple[float, float]


class Layout:
    """Where everything of a diagram lies; y points up on paper.

    `extents` has the size of each node, `bands` where the nodes of a rank and their labels begin and end along the
    flow, `column_of` the column of each stage.
    """

    def __init__(self, diagram: Diagram) -> None:
        self.diagram = diagram
        self.one_line = len(diagram.stages) <= ONE_LINE
        slices = SLICES if len(diagram.nodes) <= MANY else FEW_SLICES
        self.extents = [extent(node, 0.17 if self.one_line else 0.085, slices) for node in diagram.nodes]
        self._halves = self._all_halves()
        gaps = self._gaps()
        self._reach, self._lanes = self._reaches()
        lengths = self._lengths(gaps)
        self.column_of = self._packing(lengths)
        self.crossings = self._crossings()
        self._columns = self._place_columns()
        self.bands, self.panels = self._place_ranks(gaps)

    def on_paper(self, along: float, across: float) -> Point:
        """x and y of a place."""
        return (along, -across) if self.one_line else (across, -along)

    def box(self, along: tuple[float, float], across: tuple[float, float]) -> Box:
        """The box between places."""
        (x0, y0), (x1, y1) = (self.on_paper(along[i], across[i]) for i in (0, 1))
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def place(self, rank: int, lane: float) -> Point:
        """The middle of a node or a bend, along and across."""
        column = self._columns[self.column_of[self.diagram.stages[rank]]]
        return self.bands[rank][0] + self._halves[rank][0], column.lane0 + column.pitch * lane

    def of(self, i: int) -> Point:
        """The middle of node `i`, along and across."""
        return self.place(self.diagram.nodes[i].rank, self.diagram.nodes[i].lane)

    def around(self, ranks: tuple[int, int], lanes: tuple[float, float], margin: float) -> Box:
        """The box round what stands on these ranks and lanes of one stage, labels included."""
        stage = self.diagram.stages[ranks[0]]
        before, after = self._reach[stage]
        first, last = (self.place(ranks[0], lane)[1] for lane in lanes)
        along = self.bands[ranks[0]][0] - margin, self.bands[ranks[1]][1] + margin
        return self.box(along, (first - before - margin, last + after + margin))

    def column_start(self, column: int) -> float:
        """Where a column's panels begin, across the flow."""
        return self._columns[column].edges[0]

    def legs(self, start: int, end: int) -> Iterator[Leg]:
        """The pieces of an edge between two nodes."""
        nodes = self.diagram.nodes
        stops = [(nodes[start].rank, nodes[start].lane), *self.diagram.bends.get((start, end), [])]
        stops.append((nodes[end].rank, nodes[end].lane))
        merges, parts = nodes[start].parts > 1, max(nodes[end].group, nodes[end].parts) > 1
        for k, (one, other) in enumerate(pairwise(stops)):
            yield Leg(one, other, merges and k == 0, parts and k == len(stops) - 2)

    def frame(self) -> Box:
        """Round all panels."""
        lefts, bottoms, rights, tops = zip(*self.panels, strict=True)
        return min(lefts), min(bottoms), max(rights), max(tops)

    def _all_halves(self) -> list[Point]:
        """Per rank, how far its nodes and labels reach before and behind their middles, along the flow."""
        found = [(0.0, 0.0)] * len(self.diagram.stages)
        for node, size in zip(self.diagram.nodes, self.extents, strict=True):
            half, label = size.along / 2, (size.wide if self.one_line else size.high) / 2
            before = half if self.one_line else half + size.rise
            after = half + size.right if self.one_line else half
            found[node.rank] = max(found[node.rank][0], before, label), max(found[node.rank][1], after, label)
        return found

    def _gaps(self) -> list[float]:
        """Room after each rank for lines that turn, and ribbons that part and merge."""
        diagram = self.diagram
        turns: set[int] = set()
        fans: dict[int, set[str]] = defaultdict(set)
        for end, node in enumerate(diagram.nodes):
            for start in node.edges:
                for leg in self.legs(start, end):
                    rank = leg.start[0]
                    leaves = diagram.stages[rank] != diagram.stages[leg.end[0]]  # where there is room between panels
                    if leg.turns and not leaves:
                        turns.add(rank)
                    fans[rank] |= {"merges"} if leg.merges else set()
                    fans[rank] |= {"parts"} if leg.parts and not leaves else set()
        framed = {diagram.nodes[repeat.last].rank for repeat in diagram.repeats}
        return [
            STRAIGHT
            + (TURN + FAN * len(fans[rank]) if rank in turns else FAN * bool(fans[rank]))
            + FOOT * (rank in framed and not self.one_line)
            for rank in range(len(diagram.stages))
        ]

    def _reaches(self) -> tuple[list[Point], list[Point]]:
        """Per stage, how far nodes and labels reach from their lanes across the flow; and its first and last lane."""
        stages, count = self.diagram.stages, len(self.diagram.resolutions)
        reach, lanes = [(0.0, 0.0)] * count, [(0.0, 0.0)] * count
        used: list[list[float]] = [[] for _ in range(count)]
        for node, size in zip(self.diagram.nodes, self.extents, strict=True):
            stage, half = stages[node.rank], size.across / 2
            used[stage].append(node.lane)
            if self.one_line:
                before, after = half + size.rise, half + LABEL_GAP + size.high
            else:
                before, after = half, half + size.right + LABEL_GAP + size.wide
            reach[stage] = max(reach[stage][0], before), max(reach[stage][1], after)
        for bend in self.diagram.bends.values():
            for rank, lane in bend:
                used[stages[rank]].append(lane)
        lanes = [(min(each), max(each)) for each in used]
        return reach, lanes

    def _lengths(self, gaps: Sequence[float]) -> list[float]:
        """How long each stage is along the flow, with its panel's edges."""
        found = [self._lead + PAD + BETWEEN] * len(self.diagram.resolutions)
        for rank, stage in enumerate(self.diagram.stages):
            found[stage] += sum(self._halves[rank]) + gaps[rank]
        return found

    @property
    def _lead(self) -> float:
        """Room in a panel before its first rank."""
        return PAD + (0 if self.one_line else HEADER)

    def _packing(self, lengths: Sequence[float]) -> list[int]:
        """Per stage its column, for the columns' height that shows most on a screen."""
        if self.one_line:
            return [0] * len(lengths)
        least, count = max(lengths), len(lengths)
        if count <= ONE_LINE:
            limits = {sum(lengths[i:j]) for i in range(count) for j in range(i + 1, count + 1)}
        else:
            limits = {stretch * least for stretch in (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)}
        best: tuple[float, list[int]] | None = None
        for limit in sorted(limit for limit in limits if limit >= least):
            columns, filled, tallest = [0], lengths[0], lengths[0]
            for length in lengths[1:]:
                full = filled + length > limit + 1e-6
                columns.append(columns[-1] + full)
                filled = length if full else filled + length
                tallest = max(tallest, filled)
            width = sum(self._width(stages)[1] + GUTTER + CROSSING for stages in _per_column(columns))
            scale = max(width / ASPECT, tallest)
            if best is None or scale < best[0]:
                best = scale, columns
        assert best is not None
        return best[1]

    def _width(self, stages: Sequence[int]) -> tuple[float, float]:
        """(from lane to lane, width) of a column with these stages."""
        before = max(self._reach[stage][0] for stage in stages)
        after = max(self._reach[stage][1] for stage in stages)
        pitch = before + after + PAD
        lanes = max(self._lanes[stage][1] for stage in stages) - min(self._lanes[stage][0] for stage in stages)
        return pitch, lanes * pitch + before + after + 2 * PAD

    def _crossings(self) -> list[dict[float, int]]:
        """Per column, the lanes from which lines come out of the column before it, numbered."""
        found: list[dict[float, int]] = [{} for _ in range(self.column_of[-1] + 1)]
        for end, node in enumerate(self.diagram.nodes):
            for start in node.edges:
                for leg in self.legs(start, end):
                    one, other = (self.column_of[self.diagram.stages[stop[0]]] for stop in (leg.start, leg.end))
                    if one != other:
                        found[other].setdefault(leg.start[1], len(found[other]))
        return found

    def _place_columns(self) -> list[_Column]:
        columns, start = [], 0.0
        for number, stages in enumerate(_per_column(self.column_of)):
            if number:
                start += GUTTER + CROSSING * len(self.crossings[number])
            pitch, width = self._width(stages)
            before = max(self._reach[stage][0] for stage in stages)
            first = min(self._lanes[stage][0] for stage in stages)
            columns.append(_Column(start + PAD + before - pitch * first, pitch, (start, start + width)))
            start += width
        return columns

    def _place_ranks(self, gaps: Sequence[float]) -> tuple[list[Point], list[Box]]:
        """Where each rank begins and ends along the flow, and the panel of each stage."""
        bands: list[Point] = []
        panels: list[Box] = []
        begun, at, last = 0.0, 0.0, -1
        stages = [*self.diagram.stages, len(self.diagram.resolutions)]
        for rank, (stage, following) in enumerate(pairwise(stages)):
            column = self.column_of[stage]
            if stage != last:
                if last >= 0 and column != self.column_of[last]:
                    at = 0.0
                begun = at
                first_of_column = last >= 0 and column != self.column_of[last]
                at += self._lead + CROSSING * len(self.crossings[column]) * first_of_column
                last = stage
            before, after = self._halves[rank]
            bands.append((at, at + before + after))
            at += before + after + gaps[rank]
            if following != stage:
                ends_column = following < len(self.column_of) and self.column_of[following] != column
                at += CROSSING * len(self.crossings[column + 1]) if ends_column else 0.0
                across = self._columns[column].edges
                header = HEADER if self.one_line else 0.0
                panels.append(self.box((begun, at), (across[0] - header, across[1])))
                at += BETWEEN
        return bands, panels


def _per_column(columns: Sequence[int]) -> list[list[int]]:
    """The stages of each column."""
    found: list[list[int]] = [[] for _ in range(columns[-1] + 1)]
    for stage, column in enumerate(columns):
        found[column].append(stage)
    return found
