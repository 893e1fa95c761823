"""One layer, ready to run: its blobs, and the function from bottoms to tops that its type builds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from rootgen.engine.checks import check_filled, check_param
from rootgen.engine.torch.blobs import LayerBlobs
from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.registry import loss_weights, of
from rootgen.text import shape_text

Run = Callable[..., Any]  # bottoms -> one top, or a tuple of tops
Build = Callable[["Unit"], Run]

BUILDERS: dict[str, Build] = {}
FILLERS: dict[str, Callable[[Any], list[Any]]] = {}
FREE_OUTPUT: set[str] = set()


class Processes(Protocol):
    """`size` processes with batches of one size; `average` gives the mean of theirs values, for gradients too."""

    size: int

    def average(self, values: Tensor) -> Tensor: ...


@dataclass
class Unit:
    """A layer of a net.

    `bottoms` and `tops` are the shapes that the last pass had, at first those that the net says. `blobs` are its
    learnable blobs in Caffe's order and shapes; a test net's units hold the train net's, and a module's may change, so
    a run function looks them up when it runs. `generator` is the net's, seeded anew for every pass; None is PyTorch's
    own. `group` are the processes whose batches together a batch's statistics are of; None is this process alone.
    `run` is the layer by itself; within its net `pass_through` may share the work with a neighbour's.
    """

    layer: Layer
    phase: str
    generator: torch.Generator | None = None
    blobs: LayerBlobs = field(default_factory=LayerBlobs)
    group: Processes | None = field(default=None, init=False)
    bottoms: tuple[Shape, ...] = field(init=False)
    tops: tuple[Shape, ...] = field(init=False)
    run: Run = field(init=False)
    pass_through: Run | None = field(default=None, init=False)  # where it differs from `run`
    loss_weights: tuple[float, ...] = field(init=False)  # how much each top adds to the loss
    stopped: tuple[int, ...] = field(init=False)  # the bottoms that no gradient goes to

    def __post_init__(self) -> None:
        self.bottoms, self.tops = self.layer.shapes.bottoms, self.layer.shapes.tops
        build = BUILDERS.get(self.layer.type)
        if build is None:
            raise self._refused()
        check_param(self.layer)
        check_filled(self.layer)
        self.run = build(self)
        self.loss_weights = loss_weights(self.layer)
        self.stopped = tuple(i for i, passes in enumerate(self.param.propagate_down) if not passes)

    @property
    def param(self) -> Any:
        """The LayerParameter."""
        return self.layer.param

    def error(self, what: str, hint: str | None = None) -> RootgenError:
        """The error `what`, placed at this layer."""
        return self.layer.error(what, hint)

    def _refused(self) -> RootgenError:
        """The error for a type that this engine does not run."""
        kind, why, origin = self.layer.type, of(self.layer).not_in_torch, of(self.layer).origin
        if origin:
            return self.error(f"no engine runs {kind} layers, of {origin}'s Caffe", "leave the layer out of the net")
        if why:
            return self.error(f"the embedded engine does not run {kind} layers: {why}", "use --engine caffe")
        return self.error(f"the embedded engine has no layer type '{kind}'", did_you_mean(kind, BUILDERS))

    def axis(self, axis: int, bottom: int = 0) -> int:
        """An axis of a bottom, counted from the front where `axis` is negative."""
        count = len(self.bottoms[bottom])
        if not -count <= axis < count:
            raise self.error(f"axis {axis} of a blob with {count} axes")
        return axis % count

    def fit(self, bottoms: Sequence[Tensor]) -> None:
        """Take on the shapes of blobs that came otherwise than the net says, as Caffe does before each pass.

        So in another batch size, and after a Filter. RootgenError where they break a rule of the layer, would
        change its learnable blobs, or leave nothing to divide by.
        """
        shapes = tuple(tuple(bottom.shape) for bottom in bottoms)
        if shapes != self.bottoms:
            self.take(shapes)

    def take(self, shapes: tuple[Shape, ...]) -> None:
        """Take on the shapes of bottoms; see `fit`."""
        if of(self.layer).needs_images and not shapes[0][0]:
            raise self.error(f"has no image in this batch: bottom '{self.layer.bottoms[0]}' is {shape_text(shapes[0])}")
        try:
            rule = of(self.layer).shapes
            assert rule is not None
            found = rule(self.layer, shapes)
        except ZeroDivisionError:
            raise self.error(f"cannot work out its top's shape from an empty bottom, {shape_text(shapes[0])}") from None
        for i, (shape, blob) in enumerate(zip(found.params, self.blobs, strict=True)):
            if shape != blob.shape:
                came = ", ".join(map(shape_text, shapes))
                raise self.error(
                    f"learnable blob {i} is {shape_text(blob.shape)}, but bottoms of {came} need {shape_text(shape)}"
                )
        self.bottoms, self.tops = shapes, found.tops

    def reshaped(self, x: Tensor, top: int = 0) -> Tensor:
        """`x` in the shape of a top."""
        return x.reshape(self.tops[top])


def builds(
    *types: str, fillers: Callable[[Any], list[Any]] | None = None, output_is_free: bool = False
) -> Callable[[Build], Build]:
    """Register the decorated function as what makes the run function of layers of `types`.

    `fillers` gives, from a LayerParameter, the FillerParameter of each learnable blob. `output_is_free`: the gradient
    does not need the output, so that the next layer may overwrite it.
    """

    def register(build: Build) -> Build:
        for name in types:
            BUILDERS[name] = build
            if fillers is not None:
                FILLERS[name] = fillers
            if output_is_free:
                FREE_OUTPUT.add(name)
        return build

    return register


def share_passes(units: Sequence[Unit]) -> None:
    """Have the layers of a net save each other passes over memory: results are theirs, to rounding."""
    for maker, unit in _in_place(units):
        _overwrite(maker, unit)
        _scale_as_normalized(maker, unit)


def _in_place(units: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """(who made its bottom, layer) of each in-place layer; nothing else uses that bottom, as Caffe refuses it."""
    makers: dict[str, Unit] = {}
    for unit in units:
        layer = unit.layer
        if len(layer.bottoms) == 1 and layer.bottoms == layer.tops and layer.tops[0] in makers:
            yield makers[layer.tops[0]], unit
        makers.update(dict.fromkeys(layer.tops, unit))


def _overwrite(maker: Unit, unit: Unit) -> None:
    """Let an in-place ReLU overwrite its bottom, where the layer that made it does not need it for its gradient."""
    if unit.layer.type == "ReLU" and not unit.param.relu_param.negative_slope and maker.layer.type in FREE_OUTPUT:
        unit.run = torch.relu_


def _scale_as_normalized(maker: Unit, unit: Unit) -> None:
    """Let a BatchNorm and the Scale after it, by channel, be one function on the CPU: BatchNorm hands its bottom on."""
    of_channels = unit.layer.type == "Scale" and [tuple(b.shape) for b in unit.blobs[:1]] == [maker.bottoms[0][1:2]]
    if maker.layer.type != "BatchNorm" or not of_channels or unit.axis(unit.param.scale_param.axis) != 1:
        return
    maker.pass_through = lambda x: x if x.device.type == "cpu" else maker.run(x)
    unit.pass_through = lambda x: maker.run(x, *unit.blobs) if x.device.type == "cpu" else unit.run(x)
