"""Nets of the V0 form (`layers { layer { ... } bottom ... top ... }`, before 2014) in the V1 form, as by Caffe.

Padding was a layer of its own then: it becomes the pad of the convolution or pooling behind it. A setting that is
not for its layer's type is left out, with a word, and so is what no V0 net had (rules, a state, `layer`).
"""

from __future__ import annotations

import logging
from typing import Any

from rootgen.errors import RootgenError, did_you_mean
from rootgen.proto import schema

log = logging.getLogger("rootgen")

TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
"""Type of a V0 layer -> its name among V1 `layers`."""

PARAMS = {
    "conv": ("convolution_param", {
        "num_output": "num_output", "biasterm": "bias_term", "weight_filler": "weight_filler",
        "bias_filler": "bias_filler", "pad": "pad", "kernelsize": "kernel_size", "group": "group", "stride": "stride",
    }),
    "innerproduct": ("inner_product_param", {
        "num_output": "num_output", "biasterm": "bias_term", "weight_filler": "weight_filler",
        "bias_filler": "bias_filler",
    }),
    "pool": ("pooling_param", {"pad": "pad", "kernelsize": "kernel_size", "stride": "stride", "pool": "pool"}),
    "dropout": ("dropout_param", {"dropout_ratio": "dropout_ratio"}),
    "lrn": ("lrn_param", {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"}),
    "concat": ("concat_param", {"concat_dim": "concat_dim"}),
    "data": ("data_param", {"source": "source", "batchsize": "batch_size", "rand_skip": "rand_skip"}),
    "hdf5_data": ("hdf5_data_param", {"source": "source", "batchsize": "batch_size"}),
    "images": ("image_data_param", {
        "source": "source", "batchsize": "batch_size", "rand_skip": "rand_skip", "shuffle_images": "shuffle",
        "new_height": "new_height", "new_width": "new_width",
    }),
    "window_data": ("window_data_param", {
        "source": "source", "batchsize": "batch_size", "det_fg_threshold": "fg_threshold",
        "det_bg_threshold": "bg_threshold", "det_fg_fraction": "fg_fraction", "det_context_pad": "context_pad",
        "det_crop_mode": "crop_mode",
    }),
    "infogain_loss": ("infogain_loss_param", {"source": "source"}),
}  # fmt: skip
"""Type of a V0 layer -> the message of its settings, and V0's names of them -> today's."""

_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_OF_THE_LAYER = ("name", "type", "blobs", "blobs_lr", "weight_decay")
_UNUSED = ("new_num", "new_channels")  # Caffe does not look at these
_PADDED = ("conv", "pool")


def is_v0(net_param: Any) -> bool:
    """Whether a NetParameter holds a layer of the V0 form."""
    return any(layer.HasField("layer") for layer in net_param.layers)


def places(net_param: Any) -> list[int]:
    """Place among the written `layers` of each layer that `upgrade` makes of a V0 net: padding makes none."""
    return [i for i, layer in enumerate(net_param.layers) if layer.layer.type != "padding"]


def upgrade(net_param: Any, where: object) -> Any:
    """The V1 form of a NetParameter that `is_v0`; RootgenError where Caffe's own upgrade ends."""
    if net_param.layer:
        log.warning("%s: %d 'layer' beside V0 layers are left out, as in Caffe", where, len(net_param.layer))
    new = type(net_param)()
    for name in ("name", "force_backward"):
        if net_param.HasField(name):
            setattr(new, name, getattr(net_param, name))
    new.input.extend(net_param.input)
    new.input_dim.extend(net_param.input_dim)
    left_out: list[str] = []
    for connection in _without_padding(net_param, where):
        left_out += _upgrade_layer(connection, new.layers.add(), where)
    if left_out:
        more = f" and {len(left_out) - 8} more" if len(left_out) > 8 else ""
        log.warning("%s: settings of V0 layers left out, not being of their type: %s%s", where,
                    ", ".join(left_out[:8]), more)  # fmt: skip
    return new


def _without_padding(net_param: Any, where: object) -> list[Any]:
    """Copies of the layers but padding, which gives its pad and its bottom to what reads it."""
    makers: dict[str, Any] = dict.fromkeys(net_param.input)
    kept = []
    for written in net_param.layers:
        layer = type(written)()
        layer.CopyFrom(written)
        kind, place = layer.layer.type, f"{where}: layer '{layer.layer.name}'"
        if kind != "padding":
            kept.append(layer)
        for j, bottom in enumerate(written.bottom):
            if bottom not in makers:
                raise RootgenError(f"bottom '{bottom}' is the top of no layer above", where=place)
            source = makers[bottom]
            if source is None or source.layer.type != "padding":
                continue
            if kind not in _PADDED:
                what = f"reads the padding layer '{source.layer.name}', but is of type '{kind}'"
                raise RootgenError(what, where=place, hint="a conv or pool has to follow")
            if not len(written.bottom) == len(source.bottom) == len(source.top) == 1:
                what = f"it and the padding layer '{source.layer.name}' take one bottom and one top each"
                raise RootgenError(what, where=place)
            layer.layer.pad = source.layer.pad
            layer.bottom[j] = source.bottom[0]
        makers.update(dict.fromkeys(written.top, written))
    return kept


def _upgrade_layer(connection: Any, new: Any, where: object) -> list[str]:
    """Fill `new` (V1LayerParameter) from a V0 `connection`; the settings that are not of its type."""
    new.bottom.extend(connection.bottom)
    new.top.extend(connection.top)
    old = connection.layer
    if old.HasField("type") and old.type not in TYPES:
        place = f"{where}: layer '{old.name}'"
        raise RootgenError(f"no V0 layer type '{old.type}' in Caffe", where=place, hint=did_you_mean(old.type, TYPES))
    if old.HasField("name"):
        new.name = old.name
    if old.HasField("type"):
        kinds = schema.message("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type
        new.type = kinds.values_by_name[TYPES[old.type]].number
    for name in ("blobs", "blobs_lr", "weight_decay"):
        getattr(new, name).extend(getattr(old, name))
    message, names = PARAMS.get(old.type, ("", {}))
    left_out = []
    for field, value in old.ListFields():
        if field.name in _TRANSFORM:
            setattr(new.transform_param, _TRANSFORM[field.name], value)
        elif field.name in names:
            _put(getattr(new, message), names[field.name], value)
        elif field.name == "hdf5_output_param" and old.type == "hdf5_output":
            new.hdf5_output_param.CopyFrom(value)
        elif field.name not in (*_OF_THE_LAYER, *_UNUSED):
            left_out.append(f"{field.name} of '{old.name}' ({old.type})")
    return left_out


def _put(param: Any, name: str, value: Any) -> None:
    """Set the field `name`, which may be a message, or repeated today."""
    there = getattr(param, name)
    if hasattr(value, "ListFields"):
        there.CopyFrom(value)
    elif hasattr(there, "append"):
        there.append(value)
    else:
        setattr(param, name, value)
