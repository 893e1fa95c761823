"""The key of a picture of a net: what its blocks, colours, ribbons and frames stand for, of those that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rootgen.figures.canvas import FC, FRAME, INSET, POINTWISE, SPATIAL, Canvas
from rootgen.figures.layout import Layout
from rootgen.figures.routes import Mouth, bend, ribbons
from rootgen.figures.sizes import EMPTY, LETTER, SMALL, Extent

ROW = 0.27  # inches from line to line of the key
SAMPLE = 0.42  # inches before the words
LARGER = 1.06  # the key's letters against those of labels

Entry = tuple[Callable[[Canvas, float, float], None] | None, str]
"""What draws the sample round a point, if there is one, and the words."""


def rows(layout: Layout, width: float) -> list[list[tuple[float, Entry]]]:
    """The entries in lines of at most `width` inches, each with where it begins."""
    lines: list[list[tuple[float, Entry]]] = [[]]
    at = 0.0
    for entry in _entries(layout):
        wide = SAMPLE * (entry[0] is not None) + LETTER * len(entry[1]) + 0.1
        if lines[-1] and at + wide > width:
            lines.append([])
            at = 0.0
        lines[-1].append((at, entry))
        at += wide
    return lines


def draw(canvas: Canvas, lines: list[list[tuple[float, Entry]]], left: float, top: float) -> None:
    """The key's lines from the corner at its upper left on."""
    for k, line in enumerate(lines):
        y = top - ROW * (k + 0.5)
        for at, (sample, words) in line:
            if sample:
                sample(canvas, left + at + SAMPLE / 2, y)
            start = left + at + (SAMPLE if sample else 0.1)
            canvas.text(start, y, words, fontsize=SMALL * LARGER, color="#444444")


def _entries(layout: Layout) -> Iterator[Entry]:
    nodes, upright = layout.diagram.nodes, layout.one_line
    filters = [node for node in nodes if node.filters]
    plain = [node for node in filters if node.group == 1 and node.layer.type != "InnerProduct"]
    for found, colour, words in (
        (any(node.kernel > 1 for node in plain), SPATIAL, "spatial convolution"),
        (any(node.kernel == 1 for node in plain), POINTWISE, "1 × 1 convolution"),
        (any(node.layer.type == "InnerProduct" for node in nodes), FC, "fully connected"),
    ):
        if found:
            yield _solid(colour, upright), words
    most = max((node.group for node in nodes), default=1)
    if most > 1:
        slices = max(size.slices for size in layout.extents)
        more = f" (of more than {slices}, {slices} are drawn)" if most > slices else ""
        yield _grouped(upright), f"filter groups, a block each{more}"
        yield _ribbons(upright), "channels: a ribbon per group, merged where all are read"
    if filters:
        sides = ("height", "width") if upright else ("width", "height")
        yield None, f"a block's {sides[0]}: filters (log), {sides[1]}: kernel, depth: channels per filter (log)"
    if layout.diagram.repeats:
        yield _frame, "alike blocks, drawn once"
    if any(node.aside for node in nodes):
        yield _inset, "another output size than the panel's"


def _solid(colour: str, upright: bool) -> Callable[[Canvas, float, float], None]:
    size = Extent(0.16, 0.1, 0.12)
    return lambda canvas, x, y: canvas.filters(size, x, y, 1, colour, upright=upright)


def _grouped(upright: bool) -> Callable[[Canvas, float, float], None]:
    size = Extent(0.2, 0.1, 0.05, slices=3, gap=EMPTY * 0.2 / 3)
    return lambda canvas, x, y: canvas.filters(size, x, y, 3, SPATIAL, upright=upright)


def _ribbons(upright: bool) -> Callable[[Canvas, float, float], None]:
    size = Extent(0.2, 0.1, slices=3, gap=EMPTY * 0.2 / 3)

    def sample(canvas: Canvas, x: float, y: float) -> None:
        along, across = (x, -y) if upright else (-y, x)
        half = 0.15 if upright else 0.11
        begins, ends = Mouth(along - half, across, 0.05, size), Mouth(along + half, across, 0.05)
        for outline, group in ribbons(begins, ends, (3, 1), bend(10)):
            canvas.ribbon([(s, -a) if upright else (a, -s) for s, a in outline], group)

    return sample


def _frame(canvas: Canvas, x: float, y: float) -> None:
    canvas.panel((x - 0.14, y - 0.08, x + 0.14, y + 0.08), edgecolor=FRAME, linestyle="--", linewidth=0.8)


def _inset(canvas: Canvas, x: float, y: float) -> None:
    canvas.panel((x - 0.14, y - 0.08, x + 0.14, y + 0.08), INSET)
