"""A layer as the picture of a net has it: what it is, how large, and what its label says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.registry import of
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS, Geometry, conv_geometry, groups, pool_geometry

CONVOLUTIONS = (*FORWARD_CONVOLUTIONS, "Deconvolution")
_WIDTHS = (("convolution_param", "num_output"), ("inner_product_param", "num_output"))
_FILLERS = ("weight_filler", "bias_filler")


@dataclass
class Node:
    """One layer to draw, with the elementwise layers on its output folded into it.

    `edges` are the nodes it takes its bottoms from. `copies` are the nodes that this one is drawn for as well. `parts`
    are the shares of its output's channels that filter groups made and nothing mixed yet. `aside` is set where its
    output has another size than its stage.
    """

    layer: Layer
    channels: int
    output: Shape
    edges: list[int]
    folded: list[str] = field(default_factory=list)
    copies: list[Node] = field(default_factory=list)
    parts: int = 1
    aside: bool = False
    rank: int = 0
    lane: float = 0.0

    def repeat_of(self, other: Node) -> None:
        """Stand for `other` too."""
        self.copies.append(other)

    @property
    def last(self) -> str:
        """The name of the last layer that this node stands for."""
        return self.copies[-1].layer.name if self.copies else self.layer.name

    @property
    def resolution(self) -> Shape:
        """Height and width of the output; () without."""
        return self.output[2:]

    @property
    def filters(self) -> bool:
        """Whether it is drawn as filters: a convolution or an inner product."""
        return self.layer.type in (*CONVOLUTIONS, "InnerProduct")

    @property
    def width(self) -> int:
        """Channels of the output."""
        return self.output[1] if len(self.output) > 1 else 1

    @property
    def group(self) -> int:
        """Filter groups; 1 for what is no convolution."""
        return groups(self.layer) if self.layer.type in CONVOLUTIONS else 1

    @property
    def keeps_parts(self) -> bool:
        """Whether each channel of the output comes of the same channel of one input."""
        return len(self.edges) == 1 and of(self.layer).keeps_channels

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
        if kind in CONVOLUTIONS:
            window = self.window
            stride = f", stride {_sides(window.stride)}" if max(window.stride, default=1) > 1 else ""
            return [f"{' × '.join(map(str, window.kernel))}, {self._outputs()}{stride}"]
        if kind == "InnerProduct":
            return [f"fc, {self._outputs()}"]
        if kind == "Pooling":
            how = ("max", "average", "stochastic")[param.pooling_param.pool]
            if param.pooling_param.global_pooling:
                return [f"{how}, global"]
            window = pool_geometry(self.layer, self.layer.shapes.bottoms[0])
            return [f"{how} {_sides(window.kernel)}/{_sides(window.stride)}"]
        if not self.edges:
            return [" × ".join(map(str, self.output[1:]))]
        return [] if kind in ("Eltwise", "Concat") else [kind]

    def _outputs(self) -> str:
        """Channels of the output, from the fewest to the most where the node stands for several."""
        widths = [node.width for node in (self, *self.copies)] if len(self.output) > 1 else []
        return "–".join(str(width) for width in sorted({min(widths), max(widths)})) if widths else ""

    def sign(self, widths: bool) -> tuple[object, ...]:
        """What makes it look like another, less its name and wiring; without `widths`, whatever its channels."""
        param = type(self.layer.param)()
        param.CopyFrom(self.layer.param)
        for name in ("name", "bottom", "top", "param", "blobs"):
            param.ClearField(name)
        sizes: tuple[object, ...] = (self.channels, self.output)
        if not widths:
            sizes = (self.group, self.resolution)
            for holder, name in _WIDTHS:
                if param.HasField(holder):
                    getattr(param, holder).ClearField(name)
                    for filler in _FILLERS:
                        getattr(param, holder).ClearField(filler)
        return (param.SerializeToString(deterministic=True), *sizes, tuple(self.folded))


def to_the_end(nodes: Sequence[Node]) -> set[int]:
    """What leads to the last node, and that node; the rest are heads beside the network."""
    reached = {len(nodes) - 1}
    for i in reversed(range(len(nodes))):
        if i in reached:
            reached.update(nodes[i].edges)
    return reached


def _sides(sizes: Shape) -> str:
    """A window's sizes as a label has them: 3 for a square one, else 1×3."""
    return str(sizes[0]) if len(set(sizes)) == 1 else "×".join(map(str, sizes))
