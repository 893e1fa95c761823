"""HDF5 files from anywhere, read as plain data and nothing else.

The format can name other files (external storage, external links, virtual datasets), load code (filters) and
promise any size in a few bytes. So whatever Caffe's own files do not have is refused before a value is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.errors import RootgenError
from rootgen.files import check_regular

MAX_DEPTH = 32  # groups in groups; a layer's name may hold slashes
MAX_OBJECTS = 200_000
MAX_STRING = 2**16  # bytes
INFLATED = 64  # times its file's size that the data may have; all is unpacked into memory
SPARE = 2**26  # bytes that may be had beyond that: what compresses best is small or zero
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}  # HDF5's own, which load no plug-in


def open_file(path: str | Path, mode: str) -> Any:
    """An HDF5 file; RootgenError where h5py is not installed or the file is none."""
    try:
        import h5py
    except ImportError:
        raise RootgenError("HDF5 files need h5py", where=path, hint="pip install rootgen[hdf5]") from None
    if mode == "r":
        check_regular(path)
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise RootgenError(f"cannot open as HDF5: {error}", where=path) from error


@contextmanager
def reading(path: str | Path) -> Iterator[Reader]:
    """What the HDF5 file `path` holds; RootgenError where it is damaged, or holds what Caffe's files do not."""
    try:
        with open_file(path, "r") as file:
            yield Reader(file, path)
    except (RootgenError, GeneratorExit):
        raise
    except Exception as error:  # h5py fails in every possible way
        reason = " ".join(str(error).split())[:200]
        what = f"another kind of HDF5 file, or damaged: {reason}"
        raise RootgenError(what, where=path, hint="fetch or write it again") from error


class Reader:
    """The groups and datasets of an open file by their names, `data/conv1/0`; checked whole before any is read."""

    def __init__(self, file: Any, path: str | Path) -> None:
        self.path = path
        self.groups: set[str] = set()
        self._datasets: dict[str, Any] = {}
        self._seen: set[tuple[int, int]] = set()
        self._left = INFLATED * Path(path).stat().st_size + SPARE
        self._walk(file.id, "", 0)

    def __contains__(self, name: str) -> bool:
        return name in self.groups or name in self._datasets

    def below(self, group: str) -> list[str]:
        """The datasets in `group` and in its groups, in the order of the file's names."""
        return [name for name in self._datasets if name.startswith(f"{group}/")]

    def floats(self, name: str) -> np.ndarray:
        """A dataset of numbers, as float32."""
        return self._array(name).astype(np.float32)

    def integer(self, name: str) -> int:
        """The first number of a dataset."""
        return int(np.ravel(self._array(name))[0])

    def string(self, name: str) -> bytes:
        """A string of fixed length, up to its first zero byte; b"" where there is none of this `name`."""
        import h5py

        if name not in self._datasets:
            return b""
        dataset = self._datasets[name]
        if dataset.get_type().get_class() != h5py.h5t.STRING:
            raise self._refused(name, "is no string")
        return bytes(h5py.Dataset(dataset)[()]).split(b"\0")[0]

    def _array(self, name: str) -> np.ndarray:
        import h5py

        if name not in self._datasets:
            raise LookupError(f"no '{name}'")
        dataset = self._datasets[name]
        if dataset.get_type().get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT):
            raise self._refused(name, "holds no numbers")
        return np.asarray(h5py.Dataset(dataset)[()])

    def _walk(self, group: Any, prefix: str, depth: int) -> None:
        """Check all that `group` links to; names come from it as bytes."""
        import h5py

        names: list[bytes] = []
        group.links.iterate(names.append)
        for raw in names:
            name = prefix + raw.decode("utf-8", "backslashreplace")
            if group.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
                raise self._refused(name, "is a link to somewhere else")
            facts = h5py.h5o.get_info(group, raw)
            place = (facts.fileno, facts.addr)
            if place in self._seen or len(self._seen) > MAX_OBJECTS or depth > MAX_DEPTH:
                raise self._refused(name, "is there twice, or lies too deep, or there are too many")
            self._seen.add(place)
            if facts.type == h5py.h5o.TYPE_GROUP:
                self.groups.add(name)
                self._walk(h5py.h5g.open(group, raw), f"{name}/", depth + 1)
            elif facts.type == h5py.h5o.TYPE_DATASET:
                self._datasets[name] = h5py.h5d.open(group, raw)
                self._check(name, self._datasets[name])
            else:
                raise self._refused(name, "is neither a group nor a dataset")

    def _check(self, name: str, dataset: Any) -> None:
        """Refuse a dataset that reads from elsewhere, needs a plug-in, is no plain data, or has an absurd size."""
        import h5py

        creation, kind = dataset.get_create_plist(), dataset.get_type()
        layout = creation.get_layout()
        if creation.get_external_count() or layout == h5py.h5d.VIRTUAL:
            raise self._refused(name, "has its values in another file")
        filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
        if set(filters) - set(FILTERS):
            raise self._refused(name, f"needs a filter other than {', '.join(FILTERS.values())}")
        plain = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING)
        if kind.get_class() not in plain or (kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()):
            raise self._refused(name, "holds neither numbers nor a string of fixed length")
        size = math.prod(dataset.shape) * max(kind.get_size(), 4)
        stored = dataset.get_storage_size()
        self._left -= size
        if self._left < 0 or (kind.get_class() == h5py.h5t.STRING and size > MAX_STRING):
            raise self._refused(name, f"promises {size} bytes, far more than its file has")
        if not filters and layout != h5py.h5d.CHUNKED and stored < math.prod(dataset.shape) * kind.get_size():
            raise self._refused(name, f"has {stored} bytes of {size}")

    def _refused(self, name: str, why: str) -> RootgenError:
        return RootgenError(f"'{name}' {why}", where=self.path, hint="Caffe's own files have no such thing")
