"""Images of a Datum, and what Caffe's transform_param does to them (data_transformer.cpp).

Random choices come from a generator that the caller seeds per batch: one draw of (mirror, row, column)
for each image, whatever is used of it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.engine import blobs
from rootgen.errors import RootgenError
from rootgen.net.graph import Shape
from rootgen.proto import schema
from rootgen.proto.database import FORMATS
from rootgen.text import shape_text


def image_of(datum: Any, param: Any, where: object) -> np.ndarray:
    """The pixels of a Datum, channels x height x width: uint8, or float32 from float_data.

    Encoded ones are decoded to Caffe's channel order (BGR).
    """
    if datum.encoded:
        return decoded(datum.data, param, where, "write the database again")
    shape = (datum.channels, datum.height, datum.width)
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    if min(shape) <= 0 or values.size != shape[0] * shape[1] * shape[2]:
        raise RootgenError(
            f"image of {shape_text(shape)} holds {values.size} values", where=where, hint="write the database again"
        )
    return values.reshape(shape)


def decoded(content: bytes, param: Any, where: object, hint: str | None = None) -> np.ndarray:
    """A JPEG, PNG or the like as channels x height x width, uint8, in BGR order; RootgenError where it is none."""
    from PIL import Image, UnidentifiedImageError

    if param.force_color and param.force_gray:
        raise RootgenError("both force_color and force_gray are set", where=where)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)  # of the pixels only the header is read yet
        width, height = image.size
        if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:  # Pillow itself would but warn
            raise ValueError(f"{width} x {height} pixels, more than {Image.MAX_IMAGE_PIXELS}")
        if param.force_color or (image.mode not in ("L", "RGB") and not param.force_gray):
            image = image.convert("RGB")
        elif param.force_gray:
            image = image.convert("L")
        pixels = np.asarray(image)
    except Exception as error:  # damaged images fail in every possible way
        told = "of no format that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise RootgenError(f"cannot decode an image: {told}", where=where, hint=hint) from error
    return pixels[None] if pixels.ndim == 2 else pixels[:, :, ::-1].transpose(2, 0, 1)


class Transformer:
    """crop, mirror, mean and scale of one Data layer: random crops in TRAIN, the centre in TEST."""

    def __init__(self, param: Any, phase: str, where: object, mean_path: Path | None) -> None:
        """`mean_path` is where transform_param's mean_file lies."""
        self.param = param
        self.where = where
        self.random_crop = phase == "TRAIN"
        if mean_path and param.mean_value:
            raise RootgenError("has both mean_file and mean_value (Caffe takes one)", where=where)
        self.mean_path = mean_path
        self.mean = read_mean(mean_path) if mean_path else None

    def output_shape(self, image: Shape) -> Shape:
        """channels x height x width after the crop; RootgenError where image, crop and mean do not fit."""
        size = self.param.crop_size
        if size and (image[1] < size or image[2] < size):
            raise RootgenError(f"crop_size {size} is larger than the images, {shape_text(image)}", where=self.where)
        if self.mean is not None and self.mean.shape != image:
            raise RootgenError(
                f"mean of {shape_text(self.mean.shape)} does not fit images of {shape_text(image)}",
                where=f"{self.where}: {self.mean_path}",
                hint="make the mean from the same database",
            )
        values = len(self.param.mean_value)
        if values not in (0, 1, image[0]):
            raise RootgenError(f"{values} mean_value for {image[0]} channels (1, or one each)", where=self.where)
        return (image[0], size, size) if size else image

    def __call__(self, image: np.ndarray, choice: np.ndarray, out: np.ndarray) -> None:
        """Put the transformed image into `out`; `choice` is (mirror, row, column), each in [0, 1)."""
        height, width = out.shape[1:]
        spare = image.shape[1] - height, image.shape[2] - width
        if self.random_crop:
            top, left = int(choice[1] * (spare[0] + 1)), int(choice[2] * (spare[1] + 1))
        else:
            top, left = spare[0] // 2, spare[1] // 2
        window = np.s_[:, top : top + height, left : left + width]
        target = out[:, :, ::-1] if self.param.mirror and choice[0] < 0.5 else out
        if self.mean is not None:
            np.subtract(image[window], self.mean[window], out=target)
        elif self.param.mean_value:
            np.subtract(image[window], np.array(self.param.mean_value, np.float32).reshape(-1, 1, 1), out=target)
        else:
            target[...] = image[window]
        if self.param.scale != 1:
            out *= self.param.scale


def read_mean(path: Path) -> np.ndarray:
    """The mean image, channels x height x width, of a .binaryproto."""
    mean = blobs.to_array(schema.read_binary(path, schema.BlobProto), path).astype(np.float32)
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise RootgenError(f"a mean is one image, found a blob of {shape_text(mean.shape)}", where=path)
    return mean
