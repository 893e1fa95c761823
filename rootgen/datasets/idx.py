"""IDX files, the format of MNIST and Fashion-MNIST: a header of big-endian sizes, then raw uint8.

Source: the format note on the MNIST page (yann.lecun.com/exdb/mnist): two zero bytes, a type code (8 is
uint8), the number of dimensions, then that many 32-bit sizes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from rootgen.datasets.image_set import ImageSet
from rootgen.errors import RootgenError
from rootgen.files import read_bytes

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UINT8 = 8


def read_set(folder: str | Path, part: str) -> ImageSet:
    """The "train" or "test" set of a folder that holds the four files, gzipped or not: images 1 x H x W."""
    image_file, label_file = (_find(Path(folder), name) for name in FILES[part])
    images = read(image_file, dimensions=3)
    labels = read(label_file, dimensions=1)
    if len(images) != len(labels):
        raise RootgenError(
            f"{len(images)} images, but {label_file.name} has {len(labels)} labels",
            where=image_file,
            hint="take both files from the same set",
        )
    return ImageSet(images[:, np.newaxis], labels.astype(np.int64))


def read(path: str | Path, *, dimensions: int) -> np.ndarray:
    """Content of one IDX file, plain or gzipped, as an array of `dimensions` dimensions."""
    content = read_bytes(path)
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise RootgenError(f"corrupt gzip: {error}", where=path, hint="fetch the file again") from None
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, UINT8, dimensions)):
        raise RootgenError(
            f"begins with 0x{content[:4].hex()}, not with 0x0000080{dimensions} as an IDX file of "
            f"{dimensions}-dimensional uint8 does",
            where=path,
            hint="images are idx3, labels idx1",
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if math.prod(shape) != len(content) - start:
        promised = f"{' x '.join(map(str, shape))} = {math.prod(shape)} bytes"
        raise RootgenError(
            f"its header promises {promised}, {len(content) - start} follow",
            where=path,
            hint="the file is cut short or damaged; fetch it again",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def write(path: str | Path, values: np.ndarray) -> None:
    """Put uint8 `values` into a gzipped IDX file; the same values always give the same bytes."""
    from rootgen.files import write_bytes

    header = bytes((0, 0, UINT8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    write_bytes(path, gzip.compress(header + values.astype(np.uint8).tobytes(), 9, mtime=0))


def _find(folder: Path, name: str) -> Path:
    """The file `name` or `name`.gz in `folder`."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise RootgenError(f"neither '{name}.gz' nor '{name}' is here", where=folder, hint="give their folder as --source")
