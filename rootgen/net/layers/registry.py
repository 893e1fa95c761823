"""Every layer type of Caffe 1.0, and common ones of other Caffes: what there is to know, one entry each (LayerType).

The chapters (data, vision, recurrent, ...) register theirs with `layer_type`; what the rest of the package asks
(which types are losses, which bring data in, which leave channels where they are) is answered from the entries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from rootgen.net.graph import Layer, Shape

MANY = 1 << 30  # no upper limit
CHAPTERS = (
    "data",
    "vision",
    "recurrent",
    "common",
    "normalization",
    "activation",
    "utility",
    "loss",
    "resize",
    "detection",
)

Kind = Literal[
    "data",  # brings data into the net
    "weights",  # sums over its inputs with learnt weights: what comes out are other channels
    "activation",  # a function of each value by itself
    "per channel",  # shifts and scales, channel by channel
    "pass",  # hands its bottom on, in the same shape, much as it came
    "pixels",  # leaves channels where they are, and changes the pixels they have
    "arrange",  # picks values, or moves them about
    "score",  # what is read off at the end of a net
    "measure",  # how good the scores are
    "loss",  # what training makes small
    "sink",  # has no tops
    "code",  # runs what the user wrote
]
KEEPS_SHAPE = ("activation", "per channel", "pass")
KEEPS_CHANNELS = (*KEEPS_SHAPE, "pixels")


class Shaped(NamedTuple):
    """Shapes of a layer's tops and of its learnable blobs, in Caffe's order."""

    tops: tuple[Shape, ...]
    params: tuple[Shape, ...] = ()


@dataclass
class InputOptions:
    """What the caller says about the input, and the notes on what was assumed where nobody said.

    `sequences` are the blobs of T x N x ..., whose batch is the second axis (batch.sequences).
    """

    input_shape: tuple[int, int, int] | None = None
    batch: int | None = None
    given: Mapping[str, Shape] = field(default_factory=dict)
    sequences: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


Uses = Callable[[Layer], dict[int, int]]


class Arity(NamedTuple):
    """The fewest and the most bottoms, or tops, of a layer type."""

    least: int
    most: int

    def __str__(self) -> str:
        if self.least == self.most:
            return str(self.least)
        return f"{self.least} or more" if self.most == MANY else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class LayerType:
    """One layer type of Caffe 1.0, or of another Caffe.

    chapter: of Caffe's layer catalogue, the module that registers it. about: what it does, in a few words.
    v1: its name among V1 `layers`, None for what came later. top_per_bottom: Caffe wants as many tops as bottoms.
    shapes: shapes of tops and learnable blobs from those of the bottoms; of a type without bottoms (`is_source`), from
    what the caller says about the input; None where only running the layer tells. uses: of a layer whose shapes are
    known, how often each value of a learnable blob is multiplied in a batch, by the blob's place (what is not in it,
    biases for one, is no multiply-add). shares_data: its tops are its bottom under another name or shape.
    self_made: data that the layer makes up by itself. statistics: its blobs are running statistics, which no gradient
    changes: all of them, or those at the places that a function tells. needs_images: Caffe divides by the number of
    images, and ends the process at a batch without any. only_caffe: why the PyTorch engine does not run it. origin:
    whose Caffe has it, "" for Caffe 1.0.
    """

    name: str
    chapter: str
    kind: Kind
    about: str
    bottoms: Arity
    tops: Arity
    v1: str | None = None
    top_per_bottom: bool = False
    shapes: Callable[..., Shaped] | None = None
    uses: Uses | None = None
    shares_data: bool = False
    self_made: bool = False
    statistics: bool | Callable[[Layer], tuple[int, ...]] = False
    needs_images: bool = False
    only_caffe: str = ""
    origin: str = ""

    def is_statistic(self, layer: Layer, i: int) -> bool:
        """Whether blob number `i` of a layer is a running statistic."""
        return i in self.statistics(layer) if callable(self.statistics) else self.statistics

    @property
    def is_source(self) -> bool:
        """Whether it makes its tops from no bottom."""
        return self.bottoms.most == 0

    @property
    def fed(self) -> bool:
        """Whether its tops come from outside the net."""
        return self.kind == "data" and not self.self_made

    @property
    def is_loss(self) -> bool:
        """Whether its first top counts in the loss by default, and need not be named."""
        return self.kind == "loss"

    @property
    def keeps_shape(self) -> bool:
        """Whether top and bottom have one shape, and each channel of the top comes of the same channel."""
        return self.kind in KEEPS_SHAPE

    @property
    def keeps_channels(self) -> bool:
        """Whether each channel of the top comes of the same channel of the bottoms."""
        return self.kind in KEEPS_CHANNELS


TYPES: dict[str, LayerType] = {}
"""Layer type -> its entry."""

OTHER = LayerType("", "", "code", "a type that is not known here", Arity(0, MANY), Arity(0, MANY))


def of(layer: Layer) -> LayerType:
    """The entry of a layer's type; OTHER for one that is not known."""
    return TYPES.get(layer.type, OTHER)


def layer_type(
    name: str,
    kind: Kind,
    about: str,
    *,
    bottoms: int | tuple[int, int] = 1,
    tops: int | tuple[int, int] = 1,
    v1: str | None = None,
    top_per_bottom: bool = False,
    uses: Uses | None = None,
    shares_data: bool = False,
    self_made: bool = False,
    statistics: bool | Callable[[Layer], tuple[int, ...]] = False,
    needs_images: bool = False,
    only_caffe: str = "",
    origin: str = "",
) -> Callable[[Callable[..., Shaped]], Callable[..., Shaped]]:
    """Register the decorated function as the shape rule of the layer type `name`; see LayerType for the rest."""
    chapter = sys._getframe(1).f_globals["__name__"].rpartition(".")[2]  # the rule may be one that chapters share

    def register(function: Callable[..., Shaped]) -> Callable[..., Shaped]:
        TYPES[name] = LayerType(
            name=name,
            chapter=chapter,
            kind=kind,
            about=about,
            bottoms=_arity(bottoms),
            tops=_arity(tops),
            v1=v1,
            top_per_bottom=top_per_bottom,
            shapes=function if function is not untold else None,
            uses=uses,
            shares_data=shares_data,
            self_made=self_made,
            statistics=statistics,
            needs_images=needs_images,
            only_caffe=only_caffe,
            origin=origin,
        )
        return function

    return register


def untold(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    """The rule of a type whose shapes only running it tells."""
    raise NotImplementedError(f"{layer.type} of {len(bottoms)} bottoms")


def loss_weights(layer: Layer) -> tuple[float, ...]:
    """How much each top adds to the loss: as given, else 1 for the first top of a loss layer."""
    return tuple(layer.param.loss_weight) or ((1.0,) if of(layer).is_loss else ())


def v1_names() -> dict[str, str]:
    """Name among V1 `layers` -> layer type."""
    return {entry.v1: entry.name for entry in TYPES.values() if entry.v1}


def chapters() -> Iterator[tuple[str, list[LayerType]]]:
    """(chapter, its layer types by name) in the order of Caffe's layer catalogue."""
    for name in CHAPTERS:
        yield name, sorted((entry for entry in TYPES.values() if entry.chapter == name), key=lambda entry: entry.name)


def _arity(count: int | tuple[int, int]) -> Arity:
    return Arity(*count) if isinstance(count, tuple) else Arity(count, count)
