"""Nets with their shapes, from files or text; Data layers' files are looked for where training looks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rootgen import errors
from rootgen.files import locate
from rootgen.net.cost import Cost, count
from rootgen.net.diff import Diff, compare
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.memory import Memory
from rootgen.net.read import is_binary, parse, read
from rootgen.net.shapes import infer
from rootgen.proto import prototxt
from rootgen.text import Table, shape_text


@dataclass(frozen=True)
class Reading:
    """How a net was read, so that it can be read again: see `load`; `text` is None for a caffemodel."""

    text: str | None = None
    beside: Path | None = None
    level: int = 0
    stages: Sequence[str] = ()
    lenient: bool = False
    input_shape: tuple[int, int, int] | None = None
    batch: int | None = None
    given: Mapping[str, Shape] | None = None


@dataclass(frozen=True, repr=False)
class LoadedNet(Net):
    """A net that knows its shapes (those of its blobs, and of each layer) and how it was read."""

    reading: Reading = field(default=Reading(), compare=False)

    def layer(self, name: str) -> Layer:
        """The layer called `name`, the first where there are several."""
        errors.word("name", name)
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        raise errors.RootgenError(f"no layer '{name}'", where=self.source, hint=errors.did_you_mean(name, names))

    def cost(self, convention: str = "macs") -> Cost:
        """Parameters and multiply-adds per image, by layer; `convention` is "macs" or "paper", see net/cost.py."""
        return count(self, errors.word("convention", convention) or "")

    def memory(self) -> Memory:
        """Bytes of the activations at the net's batch size."""
        return self.cost().memory

    def diff(self, other: Net, convention: str = "macs") -> Diff:
        """This net against `other`, layer by layer."""
        if not isinstance(other, Net):
            raise errors.wrong_type("other", other, "a net (rootgen.parse and rootgen.read give one)")
        return compare(self, other, errors.word("convention", convention) or "")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per layer, for pandas.DataFrame; shapes that are not known are None."""
        return [
            {
                "name": layer.name,
                "type": layer.type,
                "bottoms": layer.bottoms,
                "tops": layer.tops,
                "outputs": layer.shapes.tops if layer.shapes.known else None,
                "blobs": layer.shapes.params,
            }
            for layer in self.layers
        ]

    def table(self) -> Table:
        """Its layers: what they read and make, and of which shapes."""
        rows = [
            [
                layer.name,
                layer.type,
                ", ".join(layer.bottoms),
                ", ".join(layer.tops),
                ", ".join(map(shape_text, layer.shapes.tops)) if layer.shapes.known else "not known",
                ", ".join(map(shape_text, layer.shapes.params)),
            ]
            for layer in self.layers
        ]
        return Table(["layer", "type", "bottoms", "tops", "shapes", "learned"], rows, str(self))

    def __repr__(self) -> str:
        """One line: name, phase, layers, input, parameters and multiply-adds."""
        total = self.cost()
        counts = f"input {shape_text(total.input)}, {total.params:,} parameters, {total.macs:,} multiply-adds an image"
        return f"<{self.name or self.source} ({self.phase}): {len(self.layers)} layers, {counts}>"

    def __str__(self) -> str:
        return repr(self)[1:-1]

    def _repr_html_(self) -> str:
        return self.table().html()


def load(
    path: str | Path,
    phase: str = "TEST",
    *,
    level: int = 0,
    stages: Sequence[str] = (),
    lenient: bool = False,
    input_shape: tuple[int, int, int] | None = None,
    batch: int | None = None,
    given: Mapping[str, Shape] | None = None,
) -> LoadedNet:
    """The net in the file `path` with its shapes; see read.read and shapes.infer.

    Layer types that Caffe does not have pass, with a note. The layers' parameters keep the names of their files as
    written.
    """
    if not is_binary(path):
        text = prototxt.read_source(path)
        return load_text(
            text,
            phase,
            where=path,
            beside=Path(path).parent,
            level=level,
            stages=stages,
            lenient=lenient,
            input_shape=input_shape,
            batch=batch,
            given=given,
        )
    net = read(path, phase, level=level, stages=stages, allow_unknown=True, lenient=lenient)
    return _with_shapes(net, Reading(None, Path(path).parent, level, stages, lenient, input_shape, batch, given))


def load_text(
    text: str,
    phase: str = "TEST",
    *,
    where: object = "<text>",
    beside: Path | None = None,
    level: int = 0,
    stages: Sequence[str] = (),
    lenient: bool = False,
    input_shape: tuple[int, int, int] | None = None,
    batch: int | None = None,
    given: Mapping[str, Shape] | None = None,
) -> LoadedNet:
    """The net that the prototxt `text` describes, with its shapes; as `load`, from a file in the folder `beside`."""
    net = parse(text, phase, where=where, level=level, stages=stages, allow_unknown=True, lenient=lenient)
    return _with_shapes(net, Reading(text, beside, level, stages, lenient, input_shape, batch, given))


def _with_shapes(net: Net, how: Reading) -> LoadedNet:
    """`net` with its shapes, as far as they can be told; data is sought in the current folder, then beside the net."""
    seeks = how.beside is not None and not how.input_shape
    located = replace(net, layers=tuple(_located(one, how.beside) for one in net.layers)) if seeks else net
    found = infer(located, input_shape=how.input_shape, batch=how.batch, given=how.given, partial=True)
    layers = (replace(layer, shapes=one.shapes) for layer, one in zip(net.layers, found.layers, strict=True))
    return LoadedNet(net.name, net.phase, tuple(layers), net.source, found.blobs, found.notes, how)


def _located(layer: Layer, beside: Path | None) -> Layer:
    """A Data layer with its files named as training finds them: here, or where the net lies; others as they are."""
    if layer.type != "Data":
        return layer
    param = type(layer.param)()
    param.CopyFrom(layer.param)  # the net itself keeps the names as written
    for message, name in ((param.data_param, "source"), (param.transform_param, "mean_file")):
        place = locate(getattr(message, name), beside)
        if getattr(message, name) and place.exists():
            setattr(message, name, str(place))
    return replace(layer, param=param)
