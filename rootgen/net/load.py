"""Nets with their shapes, from files or text; Data layers' files are looked for where training looks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rootgen.files import locate
from rootgen.net.graph import Layer, Net, Shape
from rootgen.net.read import parse, read
from rootgen.net.shapes import infer


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
) -> Net:
    """The net in the file `path` with its shapes; see read.read and shapes.infer.

    Layer types that Caffe does not have pass, with a note. The layers' parameters keep the names of their files as
    written.
    """
    net = read(path, phase, level=level, stages=stages, allow_unknown=True, lenient=lenient)
    return with_shapes(net, Path(path).parent, input_shape=input_shape, batch=batch, given=given)


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
) -> Net:
    """The net that the prototxt `text` describes, with its shapes; as `load`, from a file in the folder `beside`."""
    net = parse(text, phase, where=where, level=level, stages=stages, allow_unknown=True, lenient=lenient)
    return with_shapes(net, beside, input_shape=input_shape, batch=batch, given=given)


def with_shapes(
    net: Net,
    beside: Path | None,
    *,
    input_shape: tuple[int, int, int] | None = None,
    batch: int | None = None,
    given: Mapping[str, Shape] | None = None,
) -> Net:
    """`net` with its shapes, as far as they can be told; data is sought in the current folder, then in `beside`."""
    seeks = beside is not None and not input_shape
    located = replace(net, layers=tuple(_located(one, beside) for one in net.layers)) if seeks else net
    found = infer(located, input_shape=input_shape, batch=batch, given=given, partial=True)
    pairs = zip(net.layers, found.layers, strict=True)
    return replace(found, layers=tuple(replace(layer, shapes=known.shapes) for layer, known in pairs))


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
            break  # the images tell their size; the mean is asked only where they are not there
    return replace(layer, param=param)
