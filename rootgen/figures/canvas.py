"""What pictures of nets are made of, on matplotlib's axes: words, boxes, solids, lines and ribbons.

Shapes that look the same become one path when the canvas is finished, or a path per TOGETHER of them: thousands of
artists take matplotlib minutes, and thousands of paths many seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from math import cos, pi, sin
from typing import Any, NamedTuple

from rootgen.figures.layout import Box, Point
from rootgen.figures.save import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from rootgen.figures.sizes import EDGED, LABEL_GAP, LINE, SMALL, Extent

SPATIAL, POINTWISE, FC, OTHER = "#5d6b7a", "#b9c3cd", "#98866f", "#e9e6df"
EDGE, INK, GREY = "#8a8a8a", "#222222", "#5f5f5f"
FLOW, PANEL, INSET, FRAME = "#c3c8ce", "#f5f6f8", "#e8ebef", "#a0a0a0"
GROUPS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
TOGETHER = 500  # shapes in a path; matplotlib's rasterizer has bounds
RIBBON = 0.4  # share of white in a ribbon of a group's colour

Colour = tuple[float, float, float]


class _Look(NamedTuple):
    """How a shape is drawn: over those of lower levels; `width` of its edge in points."""

    level: int
    face: str | Colour
    edge: str | Colour = "none"
    width: float = 0.0


class Canvas:
    """Collects what is drawn; the unit is an inch, y points up. A label is of one colour and weight if `plain`."""

    def __init__(self, axes: Any, *, plain: bool = False) -> None:
        self.axes = axes
        self.plain = plain
        self._shapes: dict[_Look, list[Sequence[Point]]] = {}

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        """`words` as they are: a `$` in a layer's name starts no formula."""
        style = {"fontsize": SMALL, "va": "center", "color": INK, "zorder": 5} | style
        self.axes.text(x, y, words, parse_math=False, clip_on=False, **style)

    def label(self, size: Extent, x: float, y: float, *, below: bool, grouped: bool) -> None:
        """What a node's label says, below it or to its right: the name, what it does, and its groups."""
        x, y, side = (x, y - LABEL_GAP, "center") if below else (x + LABEL_GAP, y + size.high / 2, "left")
        if self.plain:
            style: dict[str, Any] = {"va": "top", "linespacing": 72 * LINE / SMALL / 1.2}
            self.text(x, y, "\n".join(size.label), ha=side, **style)
            return
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

    def line(self, points: Sequence[Point], width: float) -> None:
        """A blob's line, so many inches wide."""
        self._add(_Look(2, "none", FLOW, round(72 * width, 2)), points)

    def ribbon(self, outline: Sequence[Point], group: int) -> None:
        """A ribbon in the colour of a group."""
        self._add(_Look(3, _mixed(GROUPS[group % len(GROUPS)], 1 - RIBBON, 1.0)), outline)

    def box(self, middle: Point, wide: float, high: float, face: str = OTHER, edge: str = EDGE) -> None:
        """A rectangle."""
        (x, y), x_half, y_half = middle, wide / 2, high / 2
        x0, x1, y0, y1 = x - x_half, x + x_half, y - y_half, y + y_half
        self._add(_Look(7, face, edge, 0.7), [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])

    def plus(self, x: float, y: float, radius: float) -> None:
        """A sum: a cross in a circle."""
        around = [(x + radius * cos(pi * k / 12), y + radius * sin(pi * k / 12)) for k in range(24)]
        self._add(_Look(7, "white", EDGE, 0.7), around)
        wide, thin = radius / 2, radius / 16
        for a, b in ((wide, thin), (thin, wide)):
            self._add(_Look(8, GREY), [(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)])

    def filters(self, size: Extent, x: float, y: float, group: int, plain: str, *, upright: bool) -> None:
        """The filters of a layer round a point, a solid per group; `upright` where the flow goes from left to right."""
        for g in range(size.slices):
            colour = GROUPS[g % len(GROUPS)] if group > 1 else plain
            start = g * (size.slice + size.gap)
            if upright:
                corner = x - size.along / 2, y + size.across / 2 - start - size.slice
                self._solid(corner, (size.along, size.slice), size, colour, top=4, side=5)
            else:
                corner = x - size.across / 2 + start, y - size.along / 2
                self._solid(corner, (size.slice, size.along), size, colour, top=5, side=4)

    def _solid(self, corner: Point, front: Point, size: Extent, colour: str, *, top: int, side: int) -> None:
        """A box in oblique projection: its top and right side, which a block beside it may hide, and its front."""
        (x, y), (wide, high), right, rise = corner, front, size.right, size.rise
        a, b, c, d = (x, y), (x + wide, y), (x + wide, y + high), (x, y + high)
        back_b, back_c, back_d = ((px + right, py + rise) for px, py in (b, c, d))
        edged = size.slice >= EDGED
        for level, shade, points in (
            (top, 1.25, [d, c, back_c, back_d]),
            (side, 0.8, [b, back_b, back_c, c]),
            (6, 1.0, [a, b, c, d]),
        ):
            face = _mixed(colour, 1.0, shade)
            self._add(_Look(level, face, "white" if edged else face, 0.5 if edged else 0.2), points)

    def _add(self, look: _Look, points: Sequence[Point]) -> None:
        self._shapes.setdefault(look, []).append(points)

    def finish(self) -> None:
        """Put all that was collected on the axes."""
        from matplotlib.collections import PathCollection
        from matplotlib.path import Path

        looks = sorted(self._shapes, key=lambda look: look.level)
        for level, same in groupby(looks, key=lambda look: look.level):
            paths, styles = [], []
            for look in same:
                closed, shapes = look.face != "none", self._shapes[look]
                for start in range(0, len(shapes), TOGETHER):
                    paths.append(_compound(Path, shapes[start : start + TOGETHER], closed))
                    styles.append(look)
            drawn = PathCollection(
                paths,
                facecolors=[look.face for look in styles],
                edgecolors=[look.edge for look in styles],
                linewidths=[look.width for look in styles],
                joinstyle="round" if level == 2 else "miter",
                zorder=2 + level / 10,
            )
            self.axes.add_collection(drawn, autolim=False)


def _compound(path: Any, shapes: Sequence[Sequence[Point]], closed: bool) -> Any:
    """Several lines or outlines as one path of matplotlib's."""
    places: list[Point] = []
    codes: list[int] = []
    for shape in shapes:
        places += shape
        codes += [path.MOVETO, *[path.LINETO] * (len(shape) - 1)]
        if closed:
            places.append(shape[0])
            codes.append(path.CLOSEPOLY)
    return path(places, codes)


@cache
def _mixed(colour: str, share: float, shade: float) -> Colour:
    """So much of `colour` in white, made brighter or darker."""
    from matplotlib.colors import to_rgb

    red, green, blue = (min(1.0, shade * (1 - share + share * part)) for part in to_rgb(colour))
    return red, green, blue
