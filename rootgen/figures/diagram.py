"""Where each layer of a net stands in a picture of it: elementwise layers folded away, repeated blocks drawn once.

Nodes get a rank (how far they are from the input), a lane (which of the parallel branches they are on) and a
stage (ranks of one resolution, as the paper speaks of stages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from rootgen.errors import RootgenError
from rootgen.figures.fold import Repeat, fold
from rootgen.figures.node import Node, to_the_end
from rootgen.net.graph import Net, Shape
from rootgen.net.layers.registry import of

NOT_DRAWN = ("measure", "sink")


@dataclass(frozen=True)
class Diagram:
    """The nodes of `net` in order, the blocks that repeat, per rank its stage, and the resolution of each stage.

    `bends` has the (rank, lane) points that an edge (start, end) over several ranks passes.
    """

    net: Net
    nodes: list[Node]
    repeats: list[Repeat]
    stages: list[int]
    resolutions: list[Shape]
    bends: dict[tuple[int, int], list[tuple[int, float]]]


def diagram(net: Net, *, fold_repeats: bool = True) -> Diagram:
    """The diagram of `net`, whose shapes were inferred."""
    nodes = _nodes(net)
    if not nodes:
        raise RootgenError("has no layer whose shape is known, so nothing to draw", where=net.source)
    repeats: list[Repeat] = []
    if fold_repeats:
        nodes, repeats = fold(nodes)
    for node in nodes:
        node.parts = nodes[node.edges[0]].parts if node.keeps_parts else node.group
    _set_ranks(nodes)
    bends = _set_lanes(nodes)
    stages, resolutions = _stages(nodes)
    for node in nodes:
        node.aside = (node.resolution or (1, 1)) != resolutions[stages[node.rank]]
    return Diagram(net, nodes, repeats, stages, resolutions, bends)


def _nodes(net: Net) -> list[Node]:
    """A node per layer that is drawn, in order."""
    nodes: list[Node] = []
    source: dict[str, int | None] = {}  # blob -> the node that makes it; None for blobs that are not drawn
    for layer in net.layers:
        found, entry = layer.shapes, of(layer)
        if entry.kind in NOT_DRAWN or not found.known:
            continue
        edges = [i for i in (source.get(bottom) for bottom in layer.bottoms) if i is not None]
        if entry.keeps_shape and len(layer.tops) == 1 and len(set(edges)) == 1:
            nodes[edges[0]].folded.append(layer.type)
            source[layer.tops[0]] = edges[0]
            continue
        output = found.tops[0] if found.tops else ()
        channels = found.bottoms[0][1] if found.bottoms and len(found.bottoms[0]) > 1 else 0
        nodes.append(Node(layer, channels, output, list(dict.fromkeys(edges))))
        for i, top in enumerate(layer.tops):
            images = bool(layer.bottoms) or i == 0  # a data layer's second top holds the labels
            source[top] = len(nodes) - 1 if images else None
    return nodes


def _set_ranks(nodes: list[Node]) -> None:
    """Set each node's rank; a stage begins below the heads that end beside the one before it."""
    read = {edge for node in nodes for edge in node.edges}
    heads = -1  # the lowest rank of an output so far
    for i, node in enumerate(nodes):
        node.rank = 1 + max((nodes[edge].rank for edge in node.edges), default=-1)
        if node.resolution and any(node.resolution != nodes[edge].resolution for edge in node.edges):
            node.rank = max(node.rank, heads + 1)
        if i not in read:
            heads = max(heads, node.rank)


def _set_lanes(nodes: list[Node]) -> dict[tuple[int, int], list[tuple[int, float]]]:
    """Set each node's lane; per edge over several ranks, the (rank, lane) points that it bends through."""
    bends: dict[tuple[int, int], list[tuple[int, float]]] = {}
    lanes: dict[tuple[int, int], float] = {}  # of an edge (start, end), at the rank that was placed last
    edges = [(start, end) for end, node in enumerate(nodes) for start in node.edges]
    standing, passing = _by_rank(nodes, edges)
    next_rank: dict[int, int] = {}
    for start, end in edges:
        next_rank[start] = min(next_rank.get(start, nodes[end].rank), nodes[end].rank)
    for rank in range(max(node.rank for node in nodes) + 1):
        # (lane it would like, ranks until it is used, node or edge): short ways round stand right of the main one
        wanted: list[tuple[float, int, int | tuple[int, int]]] = []
        for i in standing.get(rank, ()):
            arrive = [lanes.get((start, i), nodes[start].lane) for start in nodes[i].edges]
            wanted.append((sum(arrive) / max(1, len(arrive)), next_rank.get(i, rank) - rank, i))
        for edge in passing.get(rank, ()):
            wanted.append((lanes.get(edge, nodes[edge[0]].lane), len(nodes), edge))
        wanted.sort(key=lambda each: each[:2])
        for (_, _, which), lane in zip(wanted, _spread([each[0] for each in wanted]), strict=True):
            if isinstance(which, int):
                nodes[which].lane = lane
            else:
                lanes[which] = lane
                bends.setdefault(which, []).append((rank, lane))
    return bends


def _by_rank(
    nodes: Sequence[Node], edges: Sequence[tuple[int, int]]
) -> tuple[dict[int, list[int]], dict[int, list[tuple[int, int]]]]:
    """Rank -> the nodes that stand on it, and the edges that pass it by."""
    standing: dict[int, list[int]] = {}
    passing: dict[int, list[tuple[int, int]]] = {}
    for i, node in enumerate(nodes):
        standing.setdefault(node.rank, []).append(i)
    for edge in edges:
        for rank in range(nodes[edge[0]].rank + 1, nodes[edge[1]].rank):
            passing.setdefault(rank, []).append(edge)
    return standing, passing


def _spread(wanted: Sequence[float]) -> list[float]:
    """Places at least 1 apart, near those wanted (in order): each crowd is centred on the mean of its wishes."""
    crowds: list[list[float]] = []
    for place in wanted:
        crowds.append([place])
        while len(crowds) > 1 and _start(crowds[-1]) < _start(crowds[-2]) + len(crowds[-2]):
            crowds[-2:] = [crowds[-2] + crowds[-1]]
    return [_start(crowd) + i for crowd in crowds for i in range(len(crowd))]


def _start(crowd: Sequence[float]) -> float:
    return sum(crowd) / len(crowd) - (len(crowd) - 1) / 2


def _stages(nodes: Sequence[Node]) -> tuple[list[int], list[Shape]]:
    """Per rank its stage, and the resolution of each: a new one begins where the largest map changes.

    Heads beside the network begin none, nor does a single pixel that a map passes by (a squeeze-and-excitation). What
    has no pixels counts as 1 x 1.
    """
    largest: dict[int, Shape] = {}
    passing: dict[int, Shape] = {}
    for i in to_the_end(nodes):
        rank = nodes[i].rank
        largest[rank] = max(largest.get(rank, (1, 1)), nodes[i].resolution, key=_pixels)
        for edge in nodes[i].edges:
            for between in range(nodes[edge].rank + 1, rank):
                passing[between] = max(passing.get(between, (1, 1)), nodes[edge].resolution, key=_pixels)
    for rank, shape in passing.items():
        if prod(largest.get(rank, (1, 1))) == 1:
            largest[rank] = shape
    stages: list[int] = []
    resolutions: list[Shape] = []
    for rank in range(max(node.rank for node in nodes) + 1):
        resolution = largest.get(rank, resolutions[-1] if resolutions else (1, 1))
        if not resolutions or resolution != resolutions[-1]:
            resolutions.append(resolution)
        stages.append(len(resolutions) - 1)
    return stages, resolutions


def _pixels(shape: Shape) -> tuple[int, int]:
    return prod(shape), len(shape)
