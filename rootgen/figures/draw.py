"""A picture of a net (SVG, PNG or PDF): filters as blocks, one per group, as in the paper's Figs. 4 and 7.

Each convolution is drawn as solids, as long across the flow as it has filters, as long along it as its kernel, as deep
as the channels that one filter sees. So filter groups show as a row of short, shallow blocks; ribbons show what feeds
them (routes.py). Stages have a panel each, and below is a key.
"""

from __future__ import annotations

from collections.abc import Iterator

from rootgen.errors import printable
from rootgen.figures import key
from rootgen.figures.canvas import FC, FRAME, GREY, INSET, PANEL, POINTWISE, SPATIAL, Canvas
from rootgen.figures.diagram import Diagram
from rootgen.figures.fold import Repeat
from rootgen.figures.layout import FOOT, Box, Layout
from rootgen.figures.node import Node
from rootgen.figures.notes import notes
from rootgen.figures.routes import routes
from rootgen.figures.save import DPI, Drawing
from rootgen.figures.sizes import LARGE, LETTER, MANY, SMALL
from rootgen.net.cost import Cost
from rootgen.text import quantity

PNG_PIXELS = 20_000  # the longer side of a PNG; larger pictures get fewer dots per inch
MARGIN, TITLE = 0.15, 0.42  # inches


def picture(diagram: Diagram, cost: Cost) -> Drawing:
    """The picture of `diagram`, headed by what its net costs; an SVG says more of a layer where a mouse rests on it."""
    from matplotlib.figure import Figure

    layout = Layout(diagram)
    left, bottom, right, top = layout.frame()
    heading = _heading(cost)
    width = max(right - left, LETTER * LARGE / SMALL * 1.15 * len(heading), 4.0)
    legend = key.rows(layout, width)
    left, right = left - MARGIN, left + width + MARGIN
    bottom, top = bottom - key.ROW * len(legend) - MARGIN, top + TITLE
    figure = Figure(figsize=(right - left, top - bottom))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.axis("off")
    canvas = Canvas(axes, plain=len(diagram.nodes) > MANY)
    canvas.text(left + MARGIN, top - TITLE / 2, heading, fontsize=LARGE + 1, weight="bold", color="black")
    _draw(canvas, layout)
    key.draw(canvas, legend, left + MARGIN, bottom + key.ROW * len(legend) + MARGIN / 2)
    canvas.finish()
    hover = [((x0 - left, top - y1, x1 - left, top - y0), words) for (x0, y0, x1, y1), words in notes(layout, cost)]
    return Drawing(figure, min(DPI, PNG_PIXELS / max(right - left, top - bottom)), tuple(hover))


def _heading(cost: Cost) -> str:
    least = "" if cost.complete else "at least "
    sizes = f"{quantity(cost.params)} parameters, {quantity(cost.macs)} multiply-adds an image"
    return printable(f"{cost.net}: {least}{sizes}")


def _draw(canvas: Canvas, layout: Layout) -> None:
    diagram = layout.diagram
    for panel, resolution in zip(layout.panels, diagram.resolutions, strict=True):
        canvas.panel(panel, PANEL)
        _size(canvas, layout, panel, resolution, LARGE)
    for box, resolution in _insets(layout):
        canvas.panel(box, INSET, zorder=0.5)
        _size(canvas, layout, box, resolution, SMALL)
    for repeat in diagram.repeats:
        _repeat(canvas, layout, repeat)
    ways = routes(layout)
    for line, width in zip(ways.lines, ways.widths, strict=True):
        canvas.line(line, width)
    for ribbon, group in zip(ways.ribbons, ways.groups, strict=True):
        canvas.ribbon(ribbon, group)
    for i, node in enumerate(diagram.nodes):
        _node(canvas, layout, i, node)


def _size(canvas: Canvas, layout: Layout, box: Box, resolution: tuple[int, ...], points: float) -> None:
    """The size of what a panel holds, in its upper edge."""
    words = " × ".join(map(str, resolution or (1, 1)))
    left, _, right, top = box
    x, side = ((left + right) / 2, "center") if layout.one_line else (right - 0.1, "right")
    canvas.text(x, top - 0.9 * points / 72, words, fontsize=points, ha=side, color=GREY)


def _node(canvas: Canvas, layout: Layout, i: int, node: Node) -> None:
    size, upright = layout.extents[i], layout.one_line
    x, y = layout.on_paper(*layout.of(i))
    wide, high = (size.along, size.across) if upright else (size.across, size.along)
    if node.filters:
        plain = FC if node.layer.type == "InnerProduct" else SPATIAL if node.kernel > 1 else POINTWISE
        canvas.filters(size, x, y, node.group, plain, upright=upright)
    elif node.layer.type == "Eltwise":
        canvas.plus(x, y, size.across / 2)
    elif node.layer.type == "Concat":
        canvas.box((x, y), wide, high, "#555555", "#555555")
    else:
        canvas.box((x, y), wide, high)
    at = (x, y - high / 2) if upright else (x + wide / 2 + size.right, y)
    canvas.label(size, *at, below=upright, grouped=node.group > 1)


def _repeat(canvas: Canvas, layout: Layout, repeat: Repeat) -> None:
    """A frame round a block that stands for several, with how many."""
    nodes = layout.diagram.nodes[repeat.first : repeat.last + 1]
    ranks = min(node.rank for node in nodes), max(node.rank for node in nodes)
    inside = {(i, j) for j in range(repeat.first, repeat.last + 1) for i in layout.diagram.nodes[j].edges}
    lanes = [node.lane for node in nodes]
    lanes += [lane for edge in inside for rank, lane in layout.diagram.bends.get(edge, ()) if rank >= ranks[0]]
    left, bottom, right, top = layout.around(ranks, (min(lanes), max(lanes)), 0.08)
    bottom -= FOOT - 0.05
    canvas.panel((left, bottom, right, top), edgecolor=FRAME, linestyle="--", linewidth=0.8, zorder=1)
    differ = any(len({other.width for other in (node, *node.copies)}) > 1 for node in nodes)
    words = printable(f"× {repeat.times}, to {nodes[-1].last}{', widths differ' if differ else ''}")
    backing = {"facecolor": PANEL, "edgecolor": "none", "pad": 1.5}
    canvas.text(right - 0.08, bottom + 0.09, words, fontsize=SMALL + 0.5, ha="right", weight="bold", bbox=backing)


def _insets(layout: Layout) -> Iterator[tuple[Box, tuple[int, ...]]]:
    """Panels inside panels, for heads and the like whose output has another size: (box, size)."""
    aside = sorted((node.lane, node.rank, node.resolution) for node in layout.diagram.nodes if node.aside)
    runs: list[list[tuple[float, int, tuple[int, ...]]]] = []
    stages = layout.diagram.stages
    for lane, rank, size in aside:
        last = runs[-1][-1] if runs else None
        follows = last and last[0] == lane and last[1] == rank - 1 and (last[2] or (1, 1)) == (size or (1, 1))
        if follows and stages[rank] == stages[rank - 1]:
            runs[-1].append((lane, rank, size))
        else:
            runs.append([(lane, rank, size)])
    for run in runs:
        lane, rank, size = run[0]
        left, bottom, right, top = layout.around((rank, run[-1][1]), (lane, lane), 0.04)
        yield (left, bottom, right, top + 0.08), size
