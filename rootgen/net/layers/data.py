"""Layers that bring data in. Where the prototxt does not tell the shape, the data does, or the caller.

A Data layer's crop_size gives height and width; the channels come from the database where it is there, else
from the mean file or the mean values, else they are taken to be 3. What was assumed goes into the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rootgen.errors import RootgenError
from rootgen.net.graph import Layer, Shape
from rootgen.net.layers.checks import blob_shape, size, stored_shape, unknown
from rootgen.net.layers.registry import MANY, InputOptions, Shaped, layer_type
from rootgen.proto import schema
from rootgen.text import shape_text

_SAY = "say it with --input CxHxW"


@layer_type("Input", "data", "blobs that the caller fills", bottoms=0, tops=(1, MANY))
def net_input(layer: Layer, options: InputOptions) -> Shaped:
    shapes = list(layer.param.input_param.shape)
    return _listed(layer, options, shapes)


@layer_type(
    "DummyData",
    "data",
    "blobs that fillers make up",
    bottoms=0,
    tops=(1, MANY),
    v1="DUMMY_DATA",
    self_made=True,
)
def dummy_data(layer: Layer, options: InputOptions) -> Shaped:
    param = layer.param.dummy_data_param
    old = [list(getattr(param, name)) for name in ("num", "channels", "height", "width")]
    if not any(old):
        return _listed(layer, options, list(param.shape))
    count = len(layer.tops)
    if param.shape or any(len(values) not in (1, count) for values in old):
        raise layer.error("needs shape, or num, channels, height and width, once or once per top")
    shapes = []
    for i in range(count):
        dims = [values[0] if len(values) == 1 else values[i] for values in old]
        shapes.append(schema.BlobShape(dim=dims))
    return _listed(layer, options, shapes)


def _listed(layer: Layer, options: InputOptions, messages: list[Any]) -> Shaped:
    """Tops whose shapes are written down, once or once per top; the caller's input and batch replace them."""
    if len(messages) not in (0, 1, len(layer.tops)):
        raise layer.error(f"has {len(messages)} shape for {len(layer.tops)} top (give one, or one per top)")
    shapes = []
    for i, top in enumerate(layer.tops):
        if messages:
            shape = blob_shape(layer, f"top '{top}'", messages[i if len(messages) > 1 else 0])
        elif options.input_shape and i == 0:
            shape = (1, *options.input_shape)
        else:
            raise unknown(layer, "it gives no shape", _SAY)
        if options.input_shape and i == 0 and len(shape) == 4:
            shape = (shape[0], *options.input_shape)
        if options.batch and shape:
            axis = 1 if top in options.sequences and len(shape) > 1 else 0
            shape = (*shape[:axis], options.batch, *shape[axis + 1 :])
        shapes.append(shape)
    return Shaped(tuple(shapes))


@layer_type("Data", "data", "images and labels of an LMDB or LevelDB", bottoms=0, tops=(1, 2), v1="DATA")
def database(layer: Layer, options: InputOptions) -> Shaped:
    param = layer.param.data_param
    batch = _batch(layer, options, param.batch_size)
    if options.input_shape:
        return _images(layer, batch, options.input_shape)
    transform = layer.param.transform_param
    first = _first_datum(layer, param.source) if param.backend == 1 else None
    known = None
    if first is not None:
        known = None if first.encoded else (first.channels, first.height, first.width)
    image = _cropped(layer, known, options, f"'{param.source}' is not here" if first is None else "it is encoded")
    if known and transform.crop_size > min(known[1:]):
        raise layer.error(f"crop_size {transform.crop_size} is larger than the images, {shape_text(known)}")
    return _images(layer, batch, image)


@layer_type("ImageData", "data", "image files, from a list", bottoms=0, tops=2, v1="IMAGE_DATA")
def image_list(layer: Layer, options: InputOptions) -> Shaped:
    param = layer.param.image_data_param
    batch = _batch(layer, options, param.batch_size)
    channels = 3 if param.is_color else 1
    crop = layer.param.transform_param.crop_size
    if options.input_shape:
        return _images(layer, batch, options.input_shape)
    if bool(param.new_height) != bool(param.new_width):
        raise layer.error(f"has new_height {param.new_height} and new_width {param.new_width} (give both or none)")
    if crop:
        if param.new_height and crop > min(param.new_height, param.new_width):
            raise layer.error(f"crop_size {crop} is larger than new_height or new_width")
        return _images(layer, batch, (channels, crop, crop))
    if param.new_height:
        return _images(layer, batch, (channels, param.new_height, param.new_width))
    raise unknown(layer, "it has no crop_size and no new_height", _SAY)


@layer_type("WindowData", "data", "windows of image files, from a list", bottoms=0, tops=2, v1="WINDOW_DATA")
def windows(layer: Layer, options: InputOptions) -> Shaped:
    batch = _batch(layer, options, layer.param.window_data_param.batch_size)
    return _images(layer, batch, options.input_shape or _cropped(layer, None, options, "the window file is not read"))


@layer_type("MemoryData", "data", "arrays in memory", bottoms=0, tops=2, v1="MEMORY_DATA")
def memory(layer: Layer, options: InputOptions) -> Shaped:
    param = layer.param.memory_data_param
    batch = _batch(layer, options, param.batch_size)
    names = ("channels", "height", "width")
    return _images(layer, batch, options.input_shape or tuple(size(layer, n, getattr(param, n)) for n in names))


@layer_type("HDF5Data", "data", "datasets of HDF5 files", bottoms=0, tops=(1, MANY), v1="HDF5_DATA")
def hdf5(layer: Layer, options: InputOptions) -> Shaped:
    batch = _batch(layer, options, layer.param.hdf5_data_param.batch_size)
    if not options.input_shape:
        raise unknown(layer, "it stands in the HDF5 files alone", f"{_SAY}, or with --shape for each top")
    if len(layer.tops) > 1:
        options.notes.append(f"{layer.where}: one number per image assumed in tops after the first")
    return Shaped(((batch, *options.input_shape), *((batch,),) * (len(layer.tops) - 1)))


def _batch(layer: Layer, options: InputOptions, batch_size: int) -> int:
    """Images per batch: the caller's, else the layer's own; 1 where it has none and the caller gives the image."""
    if options.batch or (options.input_shape and not batch_size):
        return options.batch or 1
    return size(layer, "batch_size", batch_size)


def _images(layer: Layer, batch: int, image: Shape) -> Shaped:
    """A batch of images, and one label each where the layer has a second top."""
    return Shaped(((batch, *image), (batch,))[: len(layer.tops)])


def _cropped(layer: Layer, known: Shape | None, options: InputOptions, why: str) -> Shape:
    """C x H x W of the images of `known` size after the crop; what is not known is looked for elsewhere."""
    transform = layer.param.transform_param
    crop = transform.crop_size
    if known is None:
        known = _mean_shape(transform.mean_file)
        if known:
            options.notes.append(f"{layer.where}: {why}: {shape_text(known)} assumed, as its mean file")
    if known:
        return (known[0], crop, crop) if crop else known
    if not crop:
        raise unknown(layer, f"{why} and it has no crop_size", _SAY)
    channels, reason = 3, ""
    if len(transform.mean_value) > 1:
        channels, reason = len(transform.mean_value), ", one per mean_value"
    elif transform.force_gray:
        channels, reason = 1, " by force_gray"
    elif transform.force_color:
        reason = " by force_color"
    options.notes.append(f"{layer.where}: {why}: {channels} channels assumed{reason}")
    return (channels, crop, crop)


def _first_datum(layer: Layer, path: str) -> Any:
    """The first Datum of the LMDB at `path`; None where there is none."""
    if not (Path(path) / "data.mdb").is_file():
        return None
    from rootgen.proto.database import Database

    try:
        return next(Database.at(Path(path)).read(0))[1]
    except RootgenError as error:
        raise layer.error(str(error)) from error


def _mean_shape(path: str) -> Shape | None:
    """C x H x W of the mean image in the file `path`; None where there is none to read."""
    if not path or not Path(path).is_file():
        return None
    try:
        shape = stored_shape(schema.read_binary(path, schema.BlobProto))
    except RootgenError:
        return None  # whoever subtracts it will say what is wrong with it
    return shape[-3:] if len(shape) >= 3 else None


@layer_type(
    "HDF5Output",
    "sink",
    "writes data and labels to an HDF5 file",
    bottoms=2,
    tops=0,
    v1="HDF5_OUTPUT",
    only_caffe="it writes a file at every pass",
)
def hdf5_output(layer: Layer, bottoms: Sequence[Shape]) -> Shaped:
    del layer, bottoms
    return Shaped(())
