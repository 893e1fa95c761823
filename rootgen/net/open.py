"""Nets from Python: text or files as nets with their shapes, and nets side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from rootgen import errors
from rootgen.net.diff import Diff
from rootgen.net.graph import PHASES, Shape
from rootgen.net.load import LoadedNet, load, load_text

log = logging.getLogger("rootgen")


def parse(
    text: str,
    *,
    input: Sequence[int] | None = None,
    phase: str = "TEST",
    batch_size: int | None = None,
    level: int = 0,
    stages: Sequence[str] = (),
    shapes: Mapping[str, Shape] | None = None,
    lenient: bool = False,
) -> LoadedNet:
    """The net that the prototxt `text` describes, with the shapes of all its blobs and layers.

    `input` is (channels, height, width) of the images, whatever the net says; `phase` the one whose layers are
    kept; `shapes` those of blobs that no rule can tell, by name. `lenient` passes over fields that Caffe 1.0 does not
    have. What was assumed is in the net's `notes`, and logged.
    """
    if not isinstance(text, str):
        raise errors.wrong_type("text", text, "the text of a prototxt (rootgen.read takes a path)")
    if text.endswith((".prototxt", ".caffemodel")) and "\n" not in text:
        raise errors.RootgenError(f"'{text}' is a path and no prototxt", hint="rootgen.read takes a path")
    return _told(
        load_text(
            text,
            **_options(
                input=input,
                phase=phase,
                batch_size=batch_size,
                level=level,
                stages=stages,
                shapes=shapes,
                lenient=lenient,
            ),
        )
    )


def read(
    path: str | PathLike[str],
    *,
    input: Sequence[int] | None = None,
    phase: str = "TEST",
    batch_size: int | None = None,
    level: int = 0,
    stages: Sequence[str] = (),
    shapes: Mapping[str, Shape] | None = None,
    lenient: bool = False,
) -> LoadedNet:
    """The net in the .prototxt or .caffemodel `path`, with its shapes: see `parse`."""
    place = errors.needed_path("path", path)
    return _told(
        load(
            place,
            **_options(
                input=input,
                phase=phase,
                batch_size=batch_size,
                level=level,
                stages=stages,
                shapes=shapes,
                lenient=lenient,
            ),
        )
    )


def diff(
    a: LoadedNet | str | PathLike[str],
    b: LoadedNet | str | PathLike[str],
    *,
    convention: str = "macs",
    **reading: Any,
) -> Diff:
    """Two nets layer by layer, or the files they are in, which are read with the keywords of `read`."""
    check_keywords(diff, reading)
    return net_of("a", a, **reading).diff(net_of("b", b, **reading), convention)


def check_keywords(function: Callable[..., object], reading: Mapping[str, object]) -> None:
    """Refuse, of the keywords that `function` got, those that neither it nor `read` has."""
    known = {*(function.__kwdefaults__ or {}), *(read.__kwdefaults__ or {})}
    for name in reading:
        if name not in known:
            raise TypeError(f"{function.__name__} has no argument '{name}' ({errors.did_you_mean(name, known)})")


def net_of(name: str, value: object, **options: Any) -> LoadedNet:
    """The argument `name` as a net: one that was read, or the path of one, which is read with `options`."""
    if isinstance(value, LoadedNet):
        if options:
            told = ", ".join(options)
            raise errors.RootgenError(
                f"{name} is a net that was read already, without {told}", hint="read it with them"
            )
        return value
    if not isinstance(value, (str, PathLike)):
        raise errors.wrong_type(name, value, "a net (rootgen.parse and rootgen.read give one) or the path of one")
    return read(value, **options)


def _options(
    *, input: object, phase: object, batch_size: object, level: object, stages: object, shapes: object, lenient: object
) -> dict[str, Any]:
    """The options of `load`, from arguments that may be anything."""
    if shapes is not None and not isinstance(shapes, Mapping):
        raise errors.wrong_type("shapes", shapes, "a dict of blob name to shape")
    for name in shapes or {}:
        if not isinstance(name, str):
            raise errors.wrong_type("a name in shapes", name, "text")
    return {
        "phase": errors.word("phase", phase, PHASES) or PHASES[1],
        "level": errors.integer("level", level),
        "stages": errors.several("stages", stages),
        "lenient": errors.flag("lenient", lenient),
        "input_shape": None if input is None else _shape("input", input),
        "batch": errors.whole("batch_size", batch_size),
        "given": {name: _shape(f"shapes['{name}']", shape) for name, shape in (shapes or {}).items()},
    }


def _shape(name: str, value: object) -> Shape:
    """Sizes of 1 or more, in a tuple."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise errors.wrong_type(name, value, "a tuple of sizes, as (3, 224, 224)")
    sizes = tuple(errors.integer(f"{name}[{i}]", size) for i, size in enumerate(value))
    for i, size in enumerate(sizes):
        errors.whole(f"{name}[{i}]", size)
    return sizes


def _told(net: LoadedNet) -> LoadedNet:
    for note in net.notes:
        log.warning(note)
    return net
