"""One image file as a record of an LMDB: decoded, turned upright, resized and encoded by Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootgen.datasets.folder import MAX_FILE, Files
from rootgen.datasets.image_set import ImageSet
from rootgen.errors import RootgenError
from rootgen.files import read_bytes
from rootgen.proto import schema
from rootgen.proto.database import FORMATS

MAX_PIXELS = 89_478_485  # of an image: Pillow's own limit, which the readers of the LMDB keep to as well
ENCODINGS = ("jpeg", "raw")
_FORMS = {".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".pgm": "PPM", ".png": "PNG", ".ppm": "PPM"} | {
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
ORIENTATION = 0x0112  # EXIF's tag


@dataclass(frozen=True)
class Packing:
    """How images are stored.

    shortest: pixels of the shorter side; 0 leaves sizes as they are. encoding: "jpeg" (of `quality`; an RGB JPEG that
    keeps its size stays as it is, byte for byte) or "raw", bytes in the order blue, green, red. gray: one channel
    instead. seed: of the order of the training images (None: as they come); test images stay in order.
    """

    shortest: int = 256
    encoding: str = ENCODINGS[0]
    quality: int = 95
    gray: bool = False
    seed: int | None = 0


@dataclass(frozen=True)
class Record:
    """An image ready to be written; `content` is None of one that cannot be read, `odd` says what is not as usual."""

    content: bytes | None
    label: int
    shape: tuple[int, int, int] = (0, 0, 0)
    sums: tuple[float, ...] = ()
    odd: str = ""


def files_of(images: ImageSet) -> Files:
    if not isinstance(images.images, Files):
        raise TypeError("only sets of files are packed")
    return images.images


def make(images: ImageSet, index: int, packing: Packing) -> Record:
    """Decode, resize and encode one image; an image that cannot be read becomes a record without content."""
    from PIL import Image, UnidentifiedImageError

    files, label = files_of(images), int(images.labels[index])
    path = files.root / files.names[index]
    mode = "L" if packing.gray else "RGB"
    try:
        content = read_bytes(path, most=MAX_FILE)
    except RootgenError as error:
        cause = error.__cause__  # such as a disk that failed or a lost mount, which are no fault of this image's
        if isinstance(cause, OSError) and not isinstance(cause, IsADirectoryError):
            raise
        return Record(None, label, odd=f"left out: {error.what}")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            form, own_mode = image.format, image.mode
            image.load()  # all of it: what is cut short fails
            image.info.pop("transparency", None)  # which has no place in the records, and Pillow warns of
            upright = _upright(image)
            whole = _of_8_bits(upright).convert(mode)
        scaled = _scaled(whole, packing.shortest)
    except Exception as error:  # damaged images fail in every possible way
        reason = "of no format that is read" if isinstance(error, UnidentifiedImageError) else str(error)[:200]
        return Record(None, label, odd=f"left out: {reason}")
    odd = "" if form == _FORMS.get(path.suffix.lower()) and own_mode in ("RGB", "L") else f"was a {form} of {own_mode}"
    if upright is not image:
        odd = f"{odd}, " * bool(odd) + "was turned upright, as its EXIF data say"
    pixels = np.asarray(scaled).reshape(scaled.height, scaled.width, -1)[:, :, ::-1]
    shape = (pixels.shape[2], scaled.height, scaled.width)
    if packing.encoding == "raw":
        datum = schema.Datum(data=pixels.transpose(2, 0, 1).tobytes())
    elif scaled is whole and upright is image and (form, own_mode) == ("JPEG", mode):
        datum = schema.Datum(data=content, encoded=True)
    else:
        file = io.BytesIO()
        scaled.save(file, "JPEG", quality=packing.quality)
        datum = schema.Datum(data=file.getvalue(), encoded=True)
    datum.channels, datum.height, datum.width = shape
    datum.label = label
    sums = tuple(float(total) for total in pixels.sum((0, 1), np.float64))
    return Record(schema.to_bytes(datum), label, shape, sums, odd)


def _upright(image: Any) -> Any:
    """`image` as a person sees it, and OpenCV reads it; itself where its EXIF data tell of no turn, or are damaged."""
    from PIL import ImageOps

    try:
        turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except Exception:  # damaged EXIF data, which are not rare
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _of_8_bits(image: Any) -> Any:
    """`image`; of 16-bit grey its upper 8 bits, as OpenCV takes them. ValueError for wider values."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
        raise ValueError(f"pixels of the kind {image.mode}, which have no black and white")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _scaled(image: Any, shortest: int) -> Any:
    """`image` with its shorter side of `shortest` pixels and its proportions kept; itself where it is so, or for 0.

    ValueError where the longer side would come to more than anybody reads.
    """
    from PIL import Image

    width, height = image.size
    if not shortest or min(width, height) == shortest:
        return image
    ratio = shortest / min(width, height)
    size = tuple(
        shortest if side == min(width, height) else max(shortest, round(side * ratio)) for side in (width, height)
    )
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{size[0]} x {size[1]} pixels")
    return image.resize(size, Image.Resampling.BILINEAR)
