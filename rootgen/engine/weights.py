"""Learnable blobs in files: .caffemodel (binary NetParameter) and Caffe's HDF5 form.

Both map a layer's name to its blobs. What is read is matched to a net as Caffe does it: by layer name, with
layers that only one side has left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rootgen.engine import blobs, hdf5
from rootgen.errors import RootgenError
from rootgen.files import replacing, write_bytes
from rootgen.net.graph import Layer, Shape
from rootgen.net.read import upgraded
from rootgen.proto import schema
from rootgen.text import shape_text

log = logging.getLogger("rootgen")

HDF5_SUFFIXES = (".h5", ".hdf5")
_SHOWN = 5  # layers that a message lists


def read(path: str | Path, layers: Iterable[Layer] = ()) -> dict[str, list[np.ndarray]]:
    """Layer name -> its blobs, for each layer of the file that has any.

    `layers` are those of the net to read for: Caffe's HDF5 form holds a blob that layers share by name under its
    owner alone, and only the net tells which others have it.
    """
    if str(path).endswith(HDF5_SUFFIXES):
        return _read_hdf5(path, layers)
    param = schema.read_binary(path, schema.NetParameter)
    schema.mend_strings(param)  # names as nets have them
    net = upgraded(param, path)
    found = {}
    for layer in net.layer:
        if layer.blobs:
            where = f"{path}: layer '{layer.name}'"
            found[layer.name] = [blobs.to_array(blob, where) for blob in layer.blobs]
    if not found:
        raise RootgenError("no layer has blobs in this file", where=path, hint="a trained .caffemodel is wanted")
    return found


def write(
    path: str | Path, name: str, phase: str, layers: Iterable[Layer], learned: Mapping[str, Sequence[np.ndarray]]
) -> None:
    """Write the net `name` with its `learned` blobs as a .caffemodel, or their HDF5 form if `path` ends so."""
    if str(path).endswith(HDF5_SUFFIXES):
        _write_hdf5(path, learned)
        return
    net = schema.NetParameter(name=name)
    for layer in layers:
        param = schema.copy(layer.param, net.layer.add())
        param.ClearField("blobs")
        param.phase = schema.NetState.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name[phase].number
        param.blobs.extend(blobs.from_array(values) for values in learned.get(layer.name, ()))
    write_bytes(path, schema.to_bytes(net))


def matching(
    found: Mapping[str, list[np.ndarray]], wanted: Mapping[str, Sequence[Shape]], where: object, *, whole: bool = False
) -> dict[str, list[np.ndarray]]:
    """The blobs of `found` that belong into the layers `wanted`, in the shapes wanted there.

    Layers on one side only are told of, or refused where `whole` asks for every wanted layer. RootgenError where
    shapes differ, or where the two have no layer in common.
    """
    common = [name for name in wanted if name in found]
    absent = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    stored = {name: [array.shape for array in arrays] for name, arrays in found.items()}
    if not common or (whole and absent):
        raise RootgenError(
            f"a model of another net: it lacks {_listed(absent, wanted)}; it has {_listed(extra, stored) or 'no more'}",
            where=where,
            hint="pass the model of this net, or rename layers to train them anew",
        )
    wrong = [name for name in common if not _fits(stored[name], wanted[name])]
    if wrong:
        raise RootgenError(
            f"a model of another net: it has {_listed(wrong, stored)}; this net needs {_listed(wrong, wanted)}",
            where=where,
            hint="pass the model of this net, or rename those layers to train them anew",
        )
    for names, shapes, what in ((absent, wanted, "not in it, left as filled"), (extra, stored, "only in it, left out")):
        if names:
            log.warning("%s: %s: %s", where, what, _listed(names, shapes))
    return {
        name: [array.reshape(shape) for array, shape in zip(found[name], wanted[name], strict=True)] for name in common
    }


def check_trained(layers: Iterable[Layer], learned: Mapping[str, Sequence[np.ndarray]], where: object) -> None:
    """RootgenError where blobs of `where` hold NaN or infinite values, or a BatchNorm uses statistics never run."""
    for layer in layers:
        found = learned.get(layer.name, ())
        for i, values in enumerate(found):
            wrong = int(values.size - np.isfinite(values).sum())
            if wrong:
                raise layer.error(
                    f"{wrong} of the {values.size} values of blob {i} in {where} are NaN or infinite",
                    "take a snapshot from before the training diverged",
                )
        param = layer.param.batch_norm_param
        own = param.HasField("use_global_stats") and not param.use_global_stats  # those of each batch
        if layer.type == "BatchNorm" and len(found) > 2 and not own and not found[2].any():
            raise layer.error(f"its statistics in {where} were never run (their weight is 0)", "pass the trained model")


def _fits(stored: Sequence[Shape], wanted: Sequence[Shape]) -> bool:
    """Whether blobs have the wanted shapes; four legacy axes fit where they begin with ones."""
    return len(stored) == len(wanted) and all(
        have == want or (len(have) == 4 and (1,) * (4 - len(want)) + tuple(want) == have)
        for have, want in zip(stored, wanted, strict=True)
    )


def _listed(names: Sequence[str], shapes: Mapping[str, Sequence[Shape]]) -> str:
    """The first of the layers `names`, each with the shapes of its blobs."""
    shown = [f"{name} ({', '.join(map(shape_text, shapes[name]))})" for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _read_hdf5(path: str | Path, layers: Iterable[Layer]) -> dict[str, list[np.ndarray]]:
    """/data/LAYER/0, /data/LAYER/1, ...; a layer's name may hold slashes."""
    found: dict[str, dict[int, np.ndarray]] = {}
    with hdf5.reading(path) as file:
        if "data" not in file and "iter" in file:
            hint = "pass its model, the .caffemodel.h5 beside it; --snapshot goes on from a state"
            raise RootgenError("a solver's state (.solverstate.h5), not a model", where=path, hint=hint)
        if "data" not in file:
            raise RootgenError("no group 'data' in this file", where=path, hint="a .caffemodel.h5 is wanted")
        for name in file.below("data"):
            layer, _, number = name.removeprefix("data/").rpartition("/")
            if number.isdecimal() and len(number) < 10:
                found.setdefault(layer, {})[int(number)] = file.floats(name)
        # a layer whose blobs are all another's stands there without any
        groups = {name.removeprefix("data/") for name in file.groups}
    for (layer, i), (owner, j) in owners(layers).items():
        if layer in groups and j in found.get(owner, {}):
            found.setdefault(layer, {}).setdefault(i, found[owner][j])
    return {layer: [arrays[i] for i in sorted(arrays)] for layer, arrays in found.items()}


def owners(layers: Iterable[Layer]) -> dict[tuple[str, int], tuple[str, int]]:
    """(layer name, number) of each blob that is shared by name -> those of its first owner."""
    first: dict[str, tuple[str, int]] = {}
    places = ((spec.name, (layer.name, i)) for layer in layers for i, spec in enumerate(layer.param.param))
    return {place: first.setdefault(name, place) for name, place in places if name}


def _write_hdf5(path: str | Path, learned: Mapping[str, Sequence[np.ndarray]]) -> None:
    with replacing(path) as beside, hdf5.open_file(beside, "w") as file:
        for layer, arrays in learned.items():
            for i, values in enumerate(arrays):
                try:
                    file[f"data/{layer}/{i}"] = np.asarray(values, np.float32)
                except (ValueError, TypeError, OSError) as error:  # a name that is no path, or leads through a blob
                    if getattr(error, "errno", None):
                        raise
                    what = f"HDF5 cannot hold a layer of the name '{layer}' beside the others"
                    raise RootgenError(what, where=path, hint="rename it, or snapshot_format: BINARYPROTO") from None
