"""LMDBs of Datum, written as Caffe writes them; rootgen.database reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from rootgen import schema
from rootgen.errors import RootgenError

FIRST_MAP_SIZE = 2**26  # bytes; doubled as often as it proves too small


class Writer:
    """A new LMDB of Datum at `path`, for use in a `with` block."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Writer:
        import lmdb

        # Nothing is synced on the way: the folder is thrown away unless all of it gets written.
        try:
            self._env = lmdb.open(str(self.path), map_size=FIRST_MAP_SIZE, sync=False, metasync=False, max_readers=1)
        except lmdb.Error as failure:
            raise self._refused(failure) from None
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import lmdb

        try:
            if kind is None:
                self._env.sync(True)
        except lmdb.Error as failure:
            raise self._refused(failure) from None
        finally:
            self._env.close()

    def put(self, keys: Sequence[bytes], images: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray) -> None:
        """Add records: images uint8 (channels, height, width), labels from 0, in one transaction."""
        import lmdb

        records = [
            (key, datum_bytes(image, int(label))) for key, image, label in zip(keys, images, labels, strict=True)
        ]
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, value in records:
                        transaction.put(key, value)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.Error as failure:
                raise self._refused(failure) from None

    def _refused(self, failure: Exception) -> RootgenError:
        reason = str(failure).rpartition(": ")[2]
        return RootgenError(f"cannot write the LMDB: {reason}", where=self.path.name, hint="is the disk full?")


def datum_bytes(image: np.ndarray, label: int) -> bytes:
    """A Datum of a uint8 image (channels, height, width), encoded."""
    channels, height, width = image.shape
    datum = schema.Datum(channels=channels, height=height, width=width, data=image.tobytes(), label=label)
    return schema.to_bytes(datum)
