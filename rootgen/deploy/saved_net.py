"""The text of the net that a model is of: its prototxt, or the net that the caffemodel carries, written out."""

from __future__ import annotations

from pathlib import Path

from rootgen.errors import RootgenError
from rootgen.net.read import read
from rootgen.net.saved import as_written
from rootgen.proto import prototxt, schema


def text_of(model: str | Path, net: str | Path | None = None, *, lenient: bool = False) -> tuple[str, str]:
    """A net's text, and where it is from; without `net` that of the layers that `model` carries, blobs left out."""
    if net is not None:
        return prototxt.read_source(net), str(net)
    if Path(model).suffix in (".h5", ".hdf5"):
        raise RootgenError("an HDF5 model holds weights and no net", where=model, hint="pass the net as --net")
    found = as_written(read(model, lenient=lenient))
    forks = any(schema.has_forks(layer.param) for layer in found.layers)
    written = schema.message("NetParameter", forks=forks)(name=found.name)
    for layer in found.layers:
        copy = schema.copy(layer.param, written.layer.add())
        for field in ("blobs", "include", "exclude", "phase"):
            copy.ClearField(field)
    return prototxt.format(written), str(model)
