"""IDX files, the format of MNIST and Fashion-MNIST: a header of big-endian sizes, then raw uint8.

Source: the format note on the MNIST page (yann.lecun.com/exdb/mnist): two zero bytes, a type code (8 is
uint8), the number of dimensions, then that many 32-bit sizes.
"""

from __future__ import annotations

import gzip
import io
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
MAX_BYTES = 2**30  # of one file, unpacked; the largest in use, EMNIST's, has 547 MB


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
    start = 4 + 4 * dimensions
    content = read_bytes(path, most=MAX_BYTES)
    if content.startswith(b"\x1f\x8b"):
        content = _unzipped(content, start, path)
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
        found = len(content) - start
        raise RootgenError(
            f"its header promises {promised}, {found if found <= math.prod(shape) else 'more'} follow",
            where=path,
            hint="the file is cut short or damaged; fetch it again",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _unzipped(content: bytes, start: int, where: str | Path) -> bytes:
    """What gzipped `content` holds, up to a byte more than the header of `start` bytes promises."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            header = file.read(start)
            if header[:2] != b"\0\0":  # no IDX file, whatever it would promise
                return header
            promised = math.prod(struct.unpack(f">{start // 4 - 1}I", header[4:])) if len(header) == start else 0
            if promised > MAX_BYTES:
                raise RootgenError(f"its header promises {promised} bytes (at most {MAX_BYTES})", where=where)
            return header + file.read(promised + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RootgenError(f"corrupt gzip: {error}", where=where, hint="fetch the file again") from None
    except MemoryError:
        raise RootgenError("does not fit into memory", where=where) from None


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
