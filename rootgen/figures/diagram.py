"""Where each layer of a net stands in a picture of it: elementwise layers folded away, repeated blocks drawn once.

Nodes get a rank (how far they are from the input), a lane (which of the parallel branches they are on) and a
stage (ranks of one resolution, as the paper speaks of stages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from rootgen.errors import RootgenError
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS, Geometry, conv_geometry, groups, pool_geometry

CONVOLUTIONS = (*FORWARD_CONVOLUTIONS, "Deconvolution")
NOT_DRAWN = ("measure", "sink")


@dataclass
class Node:
    """One layer to draw, with the elementwise layers on its output folded into it.

    `edges` are the nodes it takes its bottoms from. `last` is the name of this layer in the last of `repeat`
    equal blocks.
    """

    layer: Layer
    channels: int
    output: Shape
    edges: list[int]
    folded: list[str] = field(default_factory=list)
    last: str = ""
    repeat: int = 1
    rank: int = 0
    lane: float = 0.0

    @property
    def resolution(self) -> Shape:
        """Height and width of the output; () without."""
        return self.output[2:]

    @property
    def group(self) -> int:
        """Filter groups; 1 for what is no convolution."""
        return groups(self.layer) if self.layer.type in CONVOLUTIONS else 1

    @property
    def kernel(self) -> int:
        """Longer side of a convolution's kernel in pixels; 1 for what is no convolution."""
        return max(self.window.kernel, default=1) if self.layer.type in CONVOLUTIONS else 1

    @property
    def window(self) -> Geometry:
        """Kernel, stride and pad of a convolution."""
        bottom = self.layer.shapes.bottoms[0]
        first = self.layer.param.convolution_param.axis % len(bottom) + 1
        return conv_geometry(self.layer, len(bottom) - first)

    @property
    def details(self) -> list[str]:
        """What the layer does, in a line or none."""
        kind, param = self.layer.type, self.layer.param
        outputs = str(self.output[1]) if len(self.output) > 1 else ""
        if kind in CONVOLUTIONS:
            window = self.window
            stride = _sides(window.stride) if max(window.stride, default=1) > 1 else ""
            return [f"{' × '.join(map(str, window.kernel))}, {outputs}" + (f", stride {stride}" if stride else "")]
        if kind == "InnerProduct":
            return [f"fc, {outputs}"]
        if kind == "Pooling":
            how = ("max", "average", "stochastic")[param.pooling_param.pool]
            if param.pooling_param.global_pooling:
                return [f"{how}, global"]
            window = pool_geometry(self.layer, self.layer.shapes.bottoms[0])
            return [f"{how} {_sides(window.kernel)}/{_sides(window.stride)}"]
        if not self.edges:
            return [" × ".join(map(str, self.output[1:]))]
        return [] if kind in ("Eltwise", "Concat") else [kind]


@dataclass(frozen=True)
class Repeat:
    """A block drawn once: the nodes first to last of the diagram stand for `times` equal ones."""

    first: int
    last: int
    times: int


@dataclass(frozen=True)
class Diagram:
    """The nodes in order, the blocks that repeat, per rank its stage, and the resolution of each stage.

    `bends` has the (rank, lane) points that an edge (start, end) over several ranks passes.
    """

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
        nodes, repeats = _fold_repeats(nodes)
    _set_ranks(nodes)
    bends = _set_lanes(nodes)
    stages, resolutions = _stages(nodes)
    return Diagram(nodes, repeats, stages, resolutions, bends)


def _nodes(net: Net) -> list[Node]:
    """A node per layer that is drawn, in order."""
    nodes: list[Node] = []
    source: dict[str, int | None] = {}  # blob -> the node that makes it; None for blobs that are not drawn
    for layer in net.layers:
        found, entry = layer.shapes, of(layer)
        if entry.kind in NOT_DRAWN or not found.known:
            continue
        edges = [i for i in (source.get(bottom) for bottom in layer.bottoms) if i is not None]
        if entry.keeps_shape and len(layer.tops) == 1 and edges:
            nodes[edges[0]].folded.append(layer.type)
            source[layer.tops[0]] = edges[0]
            continue
        output = found.tops[0] if found.tops else ()
        channels = found.bottoms[0][1] if found.bottoms and len(found.bottoms[0]) > 1 else 0
        nodes.append(Node(layer, channels, output, list(dict.fromkeys(edges)), last=layer.name))
        for i, top in enumerate(layer.tops):
            images = bool(layer.bottoms) or i == 0  # a data layer's second top holds the labels
            source[top] = len(nodes) - 1 if images else None
    return nodes


def _segments(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """The net cut wherever a single node carries all that goes on: (first, one past the last) of each piece."""
    last_use = list(range(len(nodes)))
    for j, node in enumerate(nodes):
        for i in node.edges:
            last_use[i] = j
    pieces, first, reach = [], 0, 0
    for i in range(len(nodes)):
        if reach <= i:  # nothing above this node is used below it
            pieces.append((first, i + 1))
            first = i + 1
        reach = max(reach, last_use[i])
    if first < len(nodes):
        pieces.append((first, len(nodes)))
    return pieces


def _fold_repeats(nodes: list[Node]) -> tuple[list[Node], list[Repeat]]:
    """Equal blocks that follow one another become one; single layers stay as they are."""
    kept: list[Node] = []
    repeats: list[Repeat] = []
    moved: dict[int, int] = {}  # old place of a node -> its place in `kept`
    before: tuple[object, ...] = ()
    for first, end in _segments(nodes):
        sign = tuple(_sign(nodes[i], first) for i in range(first, end))
        size = end - first
        if size > 1 and sign == before:
            start = len(kept) - size
            times = kept[start].repeat + 1
            for place in range(size):
                node = kept[start + place]
                node.repeat, node.last = times, nodes[first + place].layer.name
                moved[first + place] = start + place
            if repeats and repeats[-1].first == start:
                repeats.pop()
            repeats.append(Repeat(start, len(kept) - 1, times))
        else:
            for i in range(first, end):
                moved[i] = len(kept)
                nodes[i].edges = [moved[edge] for edge in nodes[i].edges]
                kept.append(nodes[i])
        before = sign
    return kept, repeats


def _sign(node: Node, first: int) -> tuple[object, ...]:
    """What makes a node of a block equal to one of another: all but the names, and wiring outside the block."""
    param = type(node.layer.param)()
    param.CopyFrom(node.layer.param)
    for name in ("name", "bottom", "top", "param", "blobs"):
        param.ClearField(name)
    wiring = tuple(max(edge - first, -1) for edge in node.edges)
    return param.SerializeToString(deterministic=True), node.channels, node.output, wiring, tuple(node.folded)


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

    The input stands in the stage of the first layer; what has no pixels counts as 1 x 1.
    """
    largest: dict[int, Shape] = {}
    for node in nodes:
        pixels = node.resolution if node.edges else ()
        largest[node.rank] = max(largest.get(node.rank, (1, 1)), pixels, key=lambda shape: (prod(shape), len(shape)))
    if len(largest) > 1:
        largest[0] = largest[1]
    stages: list[int] = []
    resolutions: list[Shape] = []
    last = max((rank for rank, shape in largest.items() if prod(shape) > 1), default=0)
    for rank in sorted(largest):
        if resolutions and rank < last and prod(largest[rank]) == 1:  # the end of a head beside the network
            largest[rank] = resolutions[-1]
        if not resolutions or largest[rank] != resolutions[-1]:
            resolutions.append(largest[rank])
        stages.append(len(resolutions) - 1)
    return stages, resolutions


def _sides(sizes: Shape) -> str:
    """A window's sizes as a label has them: 3 for a square one, else 1×3."""
    return str(sizes[0]) if len(set(sizes)) == 1 else "×".join(map(str, sizes))
