"""What an SVG says of a layer where a mouse rests on it: all that its label has no room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rootgen.figures.layout import Box, Layout
from rootgen.figures.node import Node
from rootgen.figures.sizes import LABEL_GAP
from rootgen.net.cost import Cost, LayerCost
from rootgen.net.graph import Layer
from rootgen.text import quantity


def notes(layout: Layout, cost: Cost) -> Iterator[tuple[Box, str]]:
    """The box of each node with its label, and what is to be said; `cost` is of the diagram's net."""
    costs = {id(layer): row for layer, row in zip(layout.diagram.net.layers, cost.layers, strict=True)}
    for i, node in enumerate(layout.diagram.nodes):
        size, (x, y) = layout.extents[i], layout.on_paper(*layout.of(i))
        if layout.one_line:
            wide, high = max(size.along, size.wide) / 2, size.across / 2
            box = (x - wide, y - high - LABEL_GAP - size.high, x + wide, y + high + size.rise)
        else:
            wide, high = size.across / 2, max(size.along, size.high) / 2
            box = (x - wide, y - high, x + wide + size.right + LABEL_GAP + size.wide, y + high)
        yield box, "\n".join(_lines(node, costs))


def _lines(node: Node, costs: Mapping[int, LayerCost]) -> Iterator[str]:
    for one in (node, *node.copies):
        row, groups = costs[id(one.layer)], f", {one.group} groups" if one.group > 1 else ""
        spent = f"; {quantity(row.params)} parameters, {quantity(row.macs)} multiply-adds" if row.params else ""
        yield f"{one.layer.name}: {_what(one.layer, one.details)}{groups}{spent}"
    output = " × ".join(map(str, node.output[1:])) or "one number"
    yield f"output {output}" + (f", after {', '.join(node.folded)}" if node.folded else "")


def _what(layer: Layer, details: list[str]) -> str:
    return ", ".join([layer.type, *(words for words in details if words != layer.type)])
