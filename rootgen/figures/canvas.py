"""What pictures of nets are made of, on matplotlib's axes: words, boxes, solids, lines and ribbons.

All lines and all faces become an artist each when the canvas is finished: thousands of artists take matplotlib minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Any

from rootgen.errors import printable
from rootgen.figures.layout import Box, Point
from rootgen.figures.save import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from rootgen.figures.sizes import EDGED, LABEL_GAP, LINE, SMALL, Extent

SPATIAL, POINTWISE, FC, OTHER = "#5d6b7a", "#b9c3cd", "#98866f", "#e9e6df"
EDGE, INK, GREY = "#8a8a8a", "#222222", "#5f5f5f"
FLOW, PANEL, INSET, FRAME = "#c3c8ce", "#f5f6f8", "#e8ebef", "#a0a0a0"
GROUPS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
RIBBON = 0.4  # share of white in a ribbon of a group's colour

Colour = tuple[float, float, float]


class Canvas:
    """Collects what is drawn; the unit is an inch, y points up."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self._lines: list[tuple[Sequence[Point], float, str]] = []
        self._ribbons: list[tuple[Sequence[Point], Colour]] = []
        self._faces: list[tuple[Sequence[Point], Any, Any, float]] = []  # corners, face, edge and its width

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        """`words` as they are, on one line: a `$` in a layer's name starts no formula."""
        style = {"fontsize": SMALL, "va": "center", "color": INK, "zorder": 5} | style
        self.axes.text(x, y, printable(words), parse_math=False, **style)

    def label(self, size: Extent, x: float, y: float, *, below: bool, grouped: bool) -> None:
        """What a node's label says, below it or to its right: the name, what it does, and its groups."""
        x, y, side = (x, y - LABEL_GAP, "center") if below else (x + LABEL_GAP, y + size.high / 2, "left")
        for i, line in enumerate(size.label):
            last = grouped and i == len(size.label) - 1
            style = {"weight": "bold"} if last else {"color": INK if i == 0 else GREY}
            self.text(x, y - LINE * (i + 0.5), line, ha=side, **style)

    def panel(self, box: Box, face: str = "none", **given: Any) -> None:
        """A rectangle with round corners."""
        from matplotlib.patches import FancyBboxPatch

        left, bottom, right, top = box
        shape = "round,pad=0,rounding_size=0.06"
        style: dict[str, Any] = {"edgecolor": "none", "zorder": 0, "facecolor": face, **given}
        patch = FancyBboxPatch((left, bottom), right - left, top - bottom, boxstyle=shape, **style)
        self.axes.add_artist(patch)

    def line(self, points: Sequence[Point], width: float, colour: str = FLOW) -> None:
        """A line so many inches wide."""
        self._lines.append((points, 72 * width, colour))

    def ribbon(self, outline: Sequence[Point], group: int) -> None:
        """A ribbon in the colour of a group."""
        from matplotlib.colors import to_rgb

        red, green, blue = to_rgb(GROUPS[group % len(GROUPS)])
        tint = (red + RIBBON * (1 - red), green + RIBBON * (1 - green), blue + RIBBON * (1 - blue))
        self._ribbons.append((outline, tint))

    def box(self, middle: Point, wide: float, high: float, face: str = OTHER, edge: str = EDGE) -> None:
        """A rectangle."""
        (x, y), x_half, y_half = middle, wide / 2, high / 2
        x0, x1, y0, y1 = x - x_half, x + x_half, y - y_half, y + y_half
        self._faces.append(([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], face, edge, 0.7))

    def plus(self, x: float, y: float, radius: float) -> None:
        """A sum: a cross in a circle."""
        round_it = [(x + radius * cos(pi * k / 12), y + radius * sin(pi * k / 12)) for k in range(24)]
        self._faces.append((round_it, "white", EDGE, 0.7))
        for wide, high in ((1.0, 0.12), (0.12, 1.0)):
            self.box((x, y), radius * wide, radius * high, GREY, "none")

    def filters(self, size: Extent, x: float, y: float, group: int, plain: str, *, upright: bool) -> None:
        """The filters of a layer round a point, a solid per group; `upright` where the flow goes from left to right."""
        edge = 0.5 if size.slice >= EDGED else 0.0
        order = range(size.slices)
        for g in reversed(order) if upright else order:  # those that stand before others last
            colour = GROUPS[g % len(GROUPS)] if group > 1 else plain
            start = g * (size.slice + size.gap)
            if upright:
                corner = x - size.along / 2, y + size.across / 2 - start - size.slice
                self._solid(corner, (size.along, size.slice), size, colour, edge)
            else:
                corner = x - size.across / 2 + start, y - size.along / 2
                self._solid(corner, (size.slice, size.along), size, colour, edge)

    def _solid(self, corner: Point, front: Point, size: Extent, colour: str, edge: float) -> None:
        """A box in oblique projection: top and right side, then the front."""
        from matplotlib.colors import to_rgb

        (x, y), (wide, high), right, rise, red = corner, front, size.right, size.rise, to_rgb(colour)
        a, b, c, d = (x, y), (x + wide, y), (x + wide, y + high), (x, y + high)
        back_b, back_c, back_d = ((px + right, py + rise) for px, py in (b, c, d))
        for shade, points in ((1.25, [d, c, back_c, back_d]), (0.8, [b, back_b, back_c, c]), (1.0, [a, b, c, d])):
            face = tuple(min(1.0, shade * part) for part in red)
            self._faces.append((points, face, "white" if edge else face, edge or 0.2))

    def finish(self) -> None:
        """Put all that was collected on the axes."""
        from matplotlib.collections import LineCollection, PolyCollection

        if self._lines:
            points, widths, colours = zip(*self._lines, strict=True)
            style = {"joinstyle": "round", "capstyle": "butt"}
            lines = LineCollection(points, colors=colours, linewidths=widths, zorder=2, **style)
            self.axes.add_collection(lines, autolim=False)
        if self._ribbons:
            outlines, tints = zip(*self._ribbons, strict=True)
            ribbons = PolyCollection(outlines, facecolors=tints, edgecolors="none", zorder=3)
            self.axes.add_collection(ribbons, autolim=False)
        if self._faces:
            corners, faces, edges, wide = zip(*self._faces, strict=True)
            solids = PolyCollection(corners, facecolors=faces, edgecolors=edges, linewidths=wide, zorder=4)
            self.axes.add_collection(solids, autolim=False)
