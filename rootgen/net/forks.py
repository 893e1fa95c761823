"""Nets of Caffe's many forks: what is passed over in layers and fields that Caffe 1.0 does not have."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rootgen.net.layers.registry import TYPES
from rootgen.proto import prototxt, schema
from rootgen.proto.scanner import Field, Source, Token

log = logging.getLogger("rootgen")


def pass_over(layers: Iterable[Field], source: Source, *, lenient: bool) -> None:
    """Take fields that Caffe's schema lacks out of `layer`s whose type it lacks; if `lenient`, out of all, warning.

    A pooling's `ceil_mode`, as several forks have it, becomes Caffe's `round_mode`.
    """
    for layer in layers:
        if layer.name != "layer" or isinstance(layer.value, Token):
            continue
        types = [field.value.text.strip("\"'") for field in layer.inner("type") if isinstance(field.value, Token)]
        foreign = bool(types) and types[0] not in TYPES
        if not (foreign or lenient):
            continue
        for pooling in layer.inner("pooling_param"):
            for field in pooling.inner("ceil_mode"):
                _round_mode(field)
        dropped = prototxt.drop_unknown(layer.value, schema.LayerParameter.DESCRIPTOR)
        if dropped:
            names = ", ".join(sorted({field.name for field in dropped}))
            level = logging.INFO if foreign else logging.WARNING
            place = source.place(layer.start)
            log.log(level, "%s: fields that Caffe 1.0 does not have are not read: %s", place, names)


def _round_mode(field: Field) -> None:
    """Turn `ceil_mode` into `round_mode`."""
    if isinstance(field.value, Token):
        floor = field.value.text.lower() in ("false", "f", "0")
        field.name = "round_mode"
        field.value = field.value._replace(kind="name", text="FLOOR" if floor else "CEIL")
