"""Old network descriptions in today's form, as Caffe's own upgrade does (src/caffe/util/upgrade_proto.cpp).

Nets of V0 (v0.py) and V1 `layers`, data layers with the transformation in their own parameter, `input` with
`input_dim` or `input_shape`, and BatchNorm layers with three `param`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rootgen.errors import RootgenError
from rootgen.proto import schema, v0

_DATA_PARAMS = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")
_RENAMED = ("type", "other_type", "param", "blob_share_mode", "blobs_lr", "weight_decay", "layer")  # not copied by name


def upgrade(net_param: Any, v1_types: Mapping[str, str], where: object) -> Any:
    """`net_param` with every layer in `layer`, inputs as an Input layer named "input" put first.

    `v1_types` maps the names that V1 `layers` have for their types to today's.

    Returns `net_param` itself where nothing is old, else a changed copy. An `input` without a shape, as old
    caffemodels have it, becomes an Input layer without one, unless a layer makes that blob or none reads it.
    """
    if not _is_old(net_param):
        return net_param
    if v0.is_v0(net_param):
        net_param = v0.upgrade(net_param, where)
    if net_param.layers and net_param.layer:
        raise RootgenError(
            f"has {len(net_param.layers)} old 'layers' and {len(net_param.layer)} new 'layer' (Caffe reads one kind)",
            where=where,
            hint="write them all as 'layer'",
        )
    new = type(net_param)()
    for field, value in net_param.ListFields():
        if field.name not in ("input", "input_dim", "input_shape", "layer", "layers"):
            _put(new, field.name, value)
    names = _inputs(net_param)
    if names:
        _add_input(new.layer.add(), names, net_param, where)
    for old in net_param.layers:
        _upgrade_layer(old, new.layer.add(), v1_types)
    new.layer.extend(net_param.layer)
    for layer in new.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    return new


def places(net_param: Any, upgraded: Any) -> list[int]:
    """Of each layer of an `upgraded` net, its place among the layers that `net_param` has written; -1 of an input's."""
    if v0.is_v0(net_param):
        written = v0.places(net_param)
    else:
        written = list(range(len(net_param.layer) or len(net_param.layers)))
    return [-1] * (len(upgraded.layer) - len(written)) + written


def upgrade_solver(param: Any, where: object) -> Any:
    """`param` (SolverParameter) with the old `solver_type` enum as `type`; itself, changed in place."""
    if param.HasField("solver_type"):
        if param.HasField("type"):
            raise RootgenError("has both 'type' and the old 'solver_type'", where=where, hint="drop 'solver_type'")
        param.type = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")[param.solver_type]
        param.ClearField("solver_type")
    return param


def _is_old(net_param: Any) -> bool:
    return bool(
        net_param.layers
        or net_param.input
        or any(layer.type == "BatchNorm" and len(layer.param) == 3 for layer in net_param.layer)
    )


def _put(msg: Any, name: str, value: Any) -> None:
    """Set field `name` of `msg` to a copy of `value`."""
    if hasattr(value, "ListFields"):
        getattr(msg, name).CopyFrom(value)
    elif isinstance(value, (str, bytes, int, float)):
        setattr(msg, name, value)
    else:
        getattr(msg, name).extend(value)


def _inputs(net_param: Any) -> list[str]:
    """The `input` that become an Input layer: all where a shape is given, else those that are read and not made."""
    names = list(net_param.input)
    if net_param.input_dim or net_param.input_shape:
        return names
    layers = (*net_param.layer, *net_param.layers)
    made = {top for layer in layers for top in layer.top if top not in layer.bottom}
    read = {bottom for layer in layers for bottom in layer.bottom}
    return [name for name in names if name in read and name not in made]


def _add_input(layer: Any, names: Sequence[str], net_param: Any, where: object) -> None:
    """Fill `layer` as the Input layer that stands for the net's inputs `names`; input_shape goes before input_dim."""
    layer.name = "input"
    layer.type = "Input"
    layer.top.extend(names)
    count = len(names)
    shapes, dims = net_param.input_shape, net_param.input_dim
    if shapes and len(shapes) < count:
        raise RootgenError(f"has {count} input and {len(shapes)} input_shape (one each)", where=where)
    if not shapes and dims and len(dims) < 4 * count:
        raise RootgenError(f"has {count} input and {len(dims)} input_dim (four each)", where=where)
    layer.input_param.shape.extend(shapes[:count])
    for start in range(0, 0 if shapes else min(len(dims), 4 * count), 4):
        layer.input_param.shape.add().dim.extend(dims[start : start + 4])


def _upgrade_layer(old: Any, new: Any, v1_types: Mapping[str, str]) -> None:
    """Fill `new` (LayerParameter) from `old` (V1LayerParameter)."""
    enum = old.DESCRIPTOR.fields_by_name["type"].enum_type
    for field, value in old.ListFields():
        if field.name not in _RENAMED:
            _put(new, field.name, value)
    if old.HasField("type"):
        new.type = v1_types.get(enum.values_by_number[old.type].name, "")  # NONE has none
    elif schema.has_forks(old) and old.other_type:
        new.type = old.other_type
    settings = (
        ("name", old.param),
        ("share_mode", old.blob_share_mode),  # STRICT and PERMISSIVE have the same numbers in both forms
        ("lr_mult", old.blobs_lr),
        ("decay_mult", old.weight_decay),
    )
    for name, values in settings:
        for i, value in enumerate(values):
            while len(new.param) <= i:
                new.param.add()
            setattr(new.param[i], name, value)
    if new.type in _DATA_PARAMS:
        own = getattr(new, _DATA_PARAMS[new.type])
        for name in _TRANSFORM_FIELDS:
            if own.HasField(name):
                setattr(new.transform_param, name, getattr(own, name))
                own.ClearField(name)
