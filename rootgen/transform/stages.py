"""The spatial convolutions of a net (kernel larger than 1): which stage each is in, and what mixes its groups.

The convolution on the image is told apart: a root network never groups it. A stage is counted along the way
the data takes, so that parallel convolutions (an inception module's 3x3 and 5x5) share one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.layers.registry import of
from rootgen.net.layers.vision import FORWARD_CONVOLUTIONS, groups


@dataclass(frozen=True)
class Spatial:
    """One spatial convolution; `stage` counts from 0, and is None for one that reads the image.

    `unmixed` is what its output meets before any 1x1 convolution or inner product: the next spatial
    convolution's name, "the output" of the net, or "" where a mixing layer comes first.
    """

    layer: Layer
    channels: int
    num_output: int
    group: int
    output: Shape
    stage: int | None
    unmixed: str

    @property
    def depthwise(self) -> bool:
        """Whether every channel already is a group of its own."""
        return self.group == self.channels > 1


Step = Callable[[Shape, Shape], bool]

# Whether a new stage begins at a convolution, given the output sizes of the one before and of this one.
STEPS: dict[str, Step] = {
    "resolution": lambda before, after: before != after,
    "block": lambda before, after: True,
}


def spatial_convolutions(net: Net, stage_by: str = "resolution") -> list[Spatial]:
    """The spatial convolutions of `net` in order; those whose shapes are not known are left out."""
    stages = _stages(net, STEPS[stage_by])
    found = []
    for i, layer in enumerate(net.layers):
        if not _is_spatial(layer):
            continue
        known = layer.shapes
        num_output, per_group = known.params[0][:2]
        found.append(
            Spatial(
                layer,
                channels=per_group * groups(layer),
                num_output=num_output,
                group=groups(layer),
                output=known.tops[0],
                stage=stages[i],
                unmixed=_unmixed(i, net),
            )
        )
    return found


def _is_spatial(layer: Layer) -> bool:
    return layer.type in FORWARD_CONVOLUTIONS and layer.shapes.known and prod(layer.shapes.params[0][2:]) > 1


@dataclass(frozen=True)
class _Past:
    """What lies between the image and a blob: any learned layer, and the nearest spatial convolutions."""

    learned: bool = False
    nearest: frozenset[tuple[int, Shape]] = frozenset()  # stage and output size


def _stages(net: Net, step: Step) -> list[int | None]:
    """Stage of each layer that is a spatial convolution not on the image, else None."""
    pasts: dict[str, _Past] = {}
    stages: list[int | None] = []
    for layer in net.layers:
        before = [pasts.get(name, _Past()) for name in layer.bottoms]
        learned = any(past.learned for past in before)
        nearest = frozenset[tuple[int, Shape]]().union(*(past.nearest for past in before))
        stage = None
        if _is_spatial(layer) and learned:
            size = layer.shapes.tops[0][2:]
            stage = max((at + step(other, size) for at, other in nearest), default=0)
            nearest = frozenset({(stage, size)})
        stages.append(stage)
        past = _Past(learned or of(layer).kind == "weights", nearest)
        pasts.update(dict.fromkeys(layer.tops, past))
    return stages


def _unmixed(start: int, net: Net) -> str:
    """What the output of the layer at `start` meets before its channels are mixed; "" where they are mixed first."""
    mixed, seen, waiting = False, {start}, list(net.readers[start])
    while waiting:
        at = waiting.pop(0)
        if at in seen:
            continue
        seen.add(at)
        layer = net.layers[at]
        if _is_spatial(layer) or layer.type == "Deconvolution":
            return layer.name
        if layer.type == "InnerProduct" or (layer.type == "Convolution" and groups(layer) == 1):
            mixed = True
        else:
            waiting.extend(net.readers[at])
    return "" if mixed else "the output"
