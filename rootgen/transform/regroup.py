"""A trained net's weights for the same net with filter groups: orders of channels chosen, then the blocks cut out.

Layer by layer from the input on, each convolution that gets groups chooses the orders of its input and output channels
that keep the most inside the blocks (assign.py), as far as they may be chosen (spaces.py). An order is chosen once: who
comes later takes the channels as they are then. The order is put into all that makes or reads the channels, which
leaves the net's outputs as they were; only then are the blocks cut out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rootgen.compound import Sizes
from rootgen.net.graph import Layer, Net
from rootgen.transform import assign
from rootgen.transform.compound import names_of_groups
from rootgen.transform.spaces import Space, Spaces, order_of, permuted, spaces_of

Blobs = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class Kept:
    """What a layer keeps of what it had, as shares: by plain slicing, and in the orders chosen for it.

    `control` is what the same values in random places keep in orders chosen likewise; `why` says which side could
    not be put in order, "" where both could. `fitted` is the share of the variance of the layer's outputs that it gives
    after a fit to images, None without one.
    """

    layer: str
    before: int
    group: int
    sliced: float
    permuted: float
    control: float
    why: str = ""
    fitted: float | None = None
    sizes: Sizes | None = None

    @property
    def groups(self) -> int | Sizes:
        """The groups that it got: how many, or their sizes where they are not alike."""
        return self.sizes or self.group


@dataclass(frozen=True)
class Orders:
    """The orders of channels chosen in one phase's net (space -> old places in the new order), and what they keep."""

    spaces: Spaces
    orders: Mapping[int, np.ndarray]
    kept: tuple[Kept, ...]

    def applied(self, learned: Mapping[str, list[np.ndarray]]) -> Blobs:
        """The net's blobs with all channels in order; its groups are what they were."""
        return permuted(self.spaces, learned, self.orders)


def squares(layer: Layer, blobs: list[np.ndarray]) -> np.ndarray:
    """Squared weights of a convolution, summed over its kernel: outputs x inputs."""
    weight = dense(layer, blobs[0])
    return np.asarray((weight**2).reshape(*weight.shape[:2], -1).sum(2))


def dense(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """The weights of a convolution as those of one without groups, float64: outputs x inputs x kernel."""
    group = layer.param.convolution_param.group
    outputs, inputs = len(weight), weight.shape[1]
    whole = np.zeros((outputs, inputs * group, *weight.shape[2:]))
    for rows, columns in blocks(outputs, inputs * group, group):
        whole[rows, columns] = weight[rows]
    return whole


def cut(layer: Layer, blobs: list[np.ndarray], group: int | Sizes) -> Blobs:
    """The blobs of a convolution with `group` groups, by layer: blocks of its weights, a layer for each given size."""
    whole, rest = dense(layer, blobs[0]), blobs[1:]
    found = list(blocks(len(whole), whole.shape[1], group))
    if isinstance(group, int):
        return {layer.name: [np.concatenate([whole[rows, columns] for rows, columns in found]), *rest]}
    return {
        name: [whole[rows, columns], *(blob[rows] for blob in rest)]
        for name, (rows, columns) in zip(names_of_groups(layer.name, group), found, strict=True)
    }


def blocks(outputs: int, inputs: int, group: int | Sizes) -> Iterator[tuple[slice, slice]]:
    """Outputs and inputs of each group."""
    sizes = Sizes((outputs // group,) * group, (inputs // group,) * group) if isinstance(group, int) else group
    row = column = 0
    for rows, columns in zip(sizes.outputs, sizes.of(inputs, outputs).inputs, strict=True):
        yield slice(row, row + rows), slice(column, column + columns)
        row, column = row + rows, column + columns


def choose(
    nets: Mapping[str, Net],
    groups: Mapping[str, int | Sizes],
    importance: Mapping[str, np.ndarray],
    *,
    permute: bool = True,
    starts: int = assign.STARTS,
    seed: int = 0,
) -> dict[str, Orders]:
    """The orders of channels for the layers of `groups` (name -> groups wanted, or their sizes), per phase of `nets`.

    `importance` has what each connection of such a layer is worth (outputs x inputs, in the order as it was). An
    order that one phase's net does not allow is not chosen in the other; without `permute` none is.
    """
    spaces = {phase: spaces_of(net) for phase, net in nets.items()}
    for own in () if permute else spaces.values():
        for space in own.spaces:
            space.fixed = space.fixed or "not wanted"
    _agree(list(spaces.values()))
    found: dict[str, Orders] = {}
    done: dict[str, np.ndarray | None] = {}  # name of a layer that makes channels -> their order, None: as it was
    for phase, own in spaces.items():
        chooser = _Chooser(own, done, starts, seed)
        places = {layer.name: place for place, layer in enumerate(own.net.layers)}
        earlier = {one.layer for orders in found.values() for one in orders.kept}
        todo = sorted(places[name] for name in groups if name in places and name not in earlier)
        kept = tuple(
            chooser.choose(place, groups[own.net.layers[place].name], importance[own.net.layers[place].name])
            for place in todo
        )
        for i, space in enumerate(own.spaces):  # settled, for the other phase, where nobody chose one too
            done.update((own.net.layers[maker].name, chooser.orders.get(i)) for maker in space.makers)
        found[phase] = Orders(own, chooser.orders, kept)
    return found


def regrouped(
    chosen: Mapping[str, Orders], learned: Mapping[str, list[np.ndarray]], groups: Mapping[str, int | Sizes]
) -> Blobs:
    """The blobs of the net with `groups`: in order, and cut; RootgenError where two phases want other blobs."""
    ordered: Blobs = dict(learned)
    layers: dict[str, Layer] = {}
    for orders in chosen.values():
        own = {layer.name: layer for layer in orders.spaces.net.layers}
        for name, blobs in orders.applied(learned).items():
            if name in layers and name in own:
                if any((a != b).any() for a, b in zip(ordered[name], blobs, strict=True)):
                    raise own[name].error("reads other channels in each phase", "--no-permute only cuts the weights")
            elif name in own:
                ordered[name] = blobs
        layers.update(own)
    found: Blobs = {}
    for name, blobs in ordered.items():
        found |= cut(layers[name], blobs, groups[name]) if name in groups else {name: blobs}
    return found


def _agree(phases: list[Spaces]) -> None:
    """Fix in all phases the spaces that one of them does not allow, or makes of other layers."""
    for _ in phases:  # what one phase fixes may reach on into another
        for own in phases:
            for space in own.spaces:
                if space.makers and not space.fixed:
                    space.fixed = next((why for other in phases for why in _elsewhere(own, space, other)), "")


def _elsewhere(own: Spaces, space: Space, other: Spaces) -> Iterator[str]:
    """Why the net of another phase does not allow an order of a space."""
    names = {own.net.layers[maker].name for maker in space.makers}
    there = {layer.name for layer in other.net.layers}
    for found in other.spaces:
        makers = {other.net.layers[maker].name for maker in found.makers}
        if makers & names and (found.fixed or makers & {x.name for x in own.net.layers} != names & there):
            yield found.fixed or f"phase {other.net.phase} makes them otherwise"


class _Chooser:
    """Chooses orders in one net; those that another phase's net chose already hold, by the layers that make them."""

    def __init__(self, spaces: Spaces, done: Mapping[str, np.ndarray | None], starts: int, seed: int) -> None:
        self.spaces = spaces
        self.starts, self.seed = starts, seed
        self.orders: dict[int, np.ndarray] = {}
        self.by: dict[int, str] = {}  # space -> the layer that chose its order
        for i, space in enumerate(spaces.spaces):
            for maker in space.makers:
                name = spaces.net.layers[maker].name
                if name in done:
                    self.by[i] = name
                    if (order := done[name]) is not None:
                        self.orders[i] = order

    def choose(self, place: int, group: int | Sizes, importance: np.ndarray) -> Kept:
        """Choose what is free of one layer's orders; what it keeps then."""
        layer = self.spaces.net.layers[place]
        before = layer.param.convolution_param.group
        ins, outs = self.spaces.inputs[place], self.spaces.outputs[place]
        rows, columns = (order_of(self.spaces, ones, self.orders) for ones in (outs, ins))
        now = importance if rows is None else importance[rows]
        now = now if columns is None else now[:, columns]
        why = {one: self._held(one, (*ins, *outs)) for one in (*ins, *outs)}
        moves = [[(self.spaces.spaces[one].channels, not why[one]) for one in ones] for ones in (outs, ins)]
        how = {"move_outputs": moves[0], "move_inputs": moves[1], "starts": self.starts, "seed": self.seed}
        found = assign.assign(now, group, **how)  # type: ignore[arg-type]
        control = assign.assign(assign.shuffled(now, self.seed), group, **how)  # type: ignore[arg-type]
        for ones, order in ((outs, found.outputs), (ins, found.inputs)):
            start = 0
            for one in ones:
                count = self.spaces.spaces[one].channels
                if not why[one]:
                    self.orders[one] = order[start : start + count] - start
                    self.by[one] = layer.name
                start += count
        told = [
            f"{side}: {_told(ones, why)}" for side, ones in (("inputs", ins), ("outputs", outs)) if _told(ones, why)
        ]
        plain = assign.share(importance, group)
        sizes = group if isinstance(group, Sizes) else None
        count = len(group) if isinstance(group, Sizes) else group
        return Kept(layer.name, before, count, plain, found.kept, control.kept, "; ".join(told), sizes=sizes)

    def _held(self, one: int, around: tuple[int, ...]) -> str:
        """Why a layer cannot choose the order of a space; "" where it can."""
        if self.spaces.spaces[one].fixed:
            return self.spaces.spaces[one].fixed
        if one in self.by:
            return f"in the order that suits '{self.by[one]}'"
        return "read or made twice" if around.count(one) > 1 else ""


def _told(ones: tuple[int, ...], why: Mapping[int, str]) -> str:
    """The reasons of one side, each once."""
    return ", ".join(dict.fromkeys(why[one] for one in ones if why[one]))
