"""Where the ranks, lanes and stages of a diagram lie on paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from rootgen.figures.diagram import Diagram

ONE_LINE = 16  # ranks: a longer net gets a column per stage

Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Where ranks, lanes and stages lie, in inches; y points up."""

    diagram: Diagram

    @property
    def one_line(self) -> bool:
        return len(self.diagram.stages) <= ONE_LINE

    @property
    def size(self) -> float:
        """How tall blocks are drawn: inches per doubling of the filters."""
        return 0.17 if self.one_line else 0.085

    def at(self, rank: int, lane: float) -> Point:
        """Centre of a node."""
        stage = self.diagram.stages[rank]
        if self.one_line:
            return 1.15 * rank + 0.35 * stage, -2.3 * lane
        return self._columns[stage] + 1.9 * (lane - self.lanes[stage][0]), -1.0 * (rank - self._ranks[stage][0])

    @cached_property
    def lanes(self) -> list[tuple[float, float]]:
        """First and last lane that each stage uses."""
        diagram = self.diagram
        used: list[list[float]] = [[] for _ in diagram.resolutions]
        for node in diagram.nodes:
            used[diagram.stages[node.rank]].append(node.lane)
        for bend in diagram.bends.values():
            for rank, lane in bend:
                used[diagram.stages[rank]].append(lane)
        return [(min(lanes), max(lanes)) for lanes in used]

    @cached_property
    def _columns(self) -> list[float]:
        """x of each stage's first lane."""
        return list(accumulate((1.9 * (last - first) + 2.4 for first, last in self.lanes[:-1]), initial=0.0))

    @cached_property
    def _ranks(self) -> list[tuple[int, int]]:
        """First and last rank of each stage."""
        found: dict[int, tuple[int, int]] = {}
        for rank, stage in enumerate(self.diagram.stages):
            found[stage] = (found.get(stage, (rank, rank))[0], rank)
        return [found[stage] for stage in sorted(found)]

    def band(self, stage: int) -> tuple[float, float]:
        """Left and right edge of a stage."""
        if self.one_line:
            start, end = self._ranks[stage]
            return self.at(start, 0)[0] - 0.65, self.at(end, 0)[0] + 0.65
        first, last = self.lanes[stage]
        return self._columns[stage] - 0.5, self._columns[stage] + 1.9 * (last - first) + 1.6

    def frame(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of the picture."""
        points = [self.at(node.rank, node.lane) for node in self.diagram.nodes]
        margin = 1.5 if self.one_line else 0.75
        left, right = self.band(0)[0], self.band(len(self.diagram.resolutions) - 1)[1]
        return left - 0.15, min(y for _, y in points) - margin, right + 0.15, max(y for _, y in points) + margin + 0.5
