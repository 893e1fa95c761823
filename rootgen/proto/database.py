"""LMDBs of Datum, read and written as Caffe does."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from rootgen.errors import RootgenError
from rootgen.files import check_regular
from rootgen.proto import schema
from rootgen.proto.lmdb_pages import DamagedError, Pages

if TYPE_CHECKING:
    import numpy as np

FIRST_MAP_SIZE = 2**26  # bytes; doubled as often as it proves too small
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Of encoded images, in Pillow's words: what OpenCV reads too. Others, such as EPS, start programs."""
MAX_KEY = 511  # bytes, as LMDB is built everywhere


class Database:
    """An LMDB of Datum, read in key order, and without a memory map: see lmdb_pages.

    Whoever wants the same file gets the same object: a train and a test net often share a set.
    """

    _open: ClassVar[dict[Path, Database]] = {}

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise RootgenError("no such database", where=path, hint="`rootgen data` makes one; is the folder right?")
        check_regular(_file(path))
        try:
            self._pages = Pages(_file(path))
        except (DamagedError, OSError) as error:
            if isinstance(error, DamagedError) and error.cut and _file(path).stat().st_size:
                raise self._damaged(error) from error
            reason = error.strerror if isinstance(error, OSError) else error
            raise RootgenError(f"not an LMDB, or a damaged one ({reason})", where=path, hint="make it again") from error
        self.size = self._pages.size  # records
        if not self.size:
            raise RootgenError("the database is empty", where=path, hint="make it again")
        self.version = _version(path)

    @classmethod
    def at(cls, path: Path) -> Database:
        """The database in the folder `path`."""
        key = path.resolve()
        found = cls._open.get(key)
        if found is not None and key.exists() and found.version != _version(key):
            found = None  # it was written to, or another database has taken its place
        if found is None:
            found = cls._open[key] = cls(path)
        return found

    def read(self, start: int, *, take: int = 1, skip: int = 0) -> Iterator[tuple[str, Any]]:
        """(where, Datum) of each record from number `start` on, from the first again after the last, without end.

        After every `take` records, `skip` are passed over.
        """
        number = start
        for count in itertools.count(1):
            try:
                key, value = self._pages.record(number % self.size)
            except (DamagedError, OSError) as error:
                raise self._damaged(error) from error
            where = f"{self.path}: record '{key.decode('ascii', 'backslashreplace')}'"
            yield where, schema.parse_bytes(value, schema.Datum, where)
            number += 1 if count % take else 1 + skip

    def _damaged(self, error: Exception) -> RootgenError:
        """What to say of a database that cannot be read, or not to its end."""
        what = str(error) if isinstance(error, DamagedError) and error.cut else f"damaged database ({error})"
        return RootgenError(what, where=_file(self.path), hint="make it again")


def _version(path: Path) -> tuple[int, ...]:
    """What changes with the content of an LMDB's file, and with the file."""
    try:
        facts = _file(path).stat()
    except OSError:  # whoever reads it says so
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def check_key(key: bytes) -> None:
    """Refuse a key that LMDB does not take."""
    if len(key) > MAX_KEY:
        name = os.fsdecode(key)
        hint = "shorten the names of the image and its folders"
        raise RootgenError(f"an LMDB takes keys of {MAX_KEY} bytes, not the {len(key)} of '{name}'", hint=hint)


def held(path: Path) -> int:
    """Records of the LMDB at `path`; 0 where it is none, or shorter than its pages, which would end lmdb's process."""
    check_regular(_file(path))
    try:
        return Pages(_file(path)).size
    except (DamagedError, OSError):
        return 0


def _file(path: Path) -> Path:
    """The file that holds an LMDB's pages: `path`, or data.mdb in the folder `path`."""
    return path / "data.mdb" if path.is_dir() else path


class Writer:
    """A new LMDB of Datum at `path`, for use in a `with` block.

    With `keep` it is one that is gone on with, after its first so many records; what is put is on the disk then when
    `put` returns. Else nothing is synced on the way: a folder that is not finished is thrown away.
    """

    def __init__(self, path: str | Path, keep: int | None = None) -> None:
        self.path = Path(path)
        self.keep = keep

    def __enter__(self) -> Writer:
        import lmdb

        durable = self.keep is not None
        try:
            self._env = lmdb.open(
                str(self.path), map_size=FIRST_MAP_SIZE, sync=durable, metasync=durable, max_readers=1
            )
        except lmdb.Error as failure:
            raise self._refused(failure) from None
        try:
            self._cut(self.keep or 0)
        except BaseException:
            self._env.close()
            raise
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

    def _cut(self, keep: int) -> None:
        """Remove every record but the first `keep`."""

        def change(transaction: Any) -> None:
            cursor = transaction.cursor()
            for _ in range(transaction.stat()["entries"] - keep):
                cursor.last()
                cursor.delete()

        self._transact(change)

    def put(self, keys: Sequence[bytes], images: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray) -> None:
        """Add records: images uint8 (channels, height, width), labels from 0, in one transaction."""
        pairs = zip(images, labels, strict=True)
        self.put_encoded(keys, [datum_bytes(image, int(label)) for image, label in pairs])

    def put_encoded(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Add records that are Datums already, in one transaction."""
        records = list(zip(keys, values, strict=True))
        for key, _ in records:
            check_key(key)

        def change(transaction: Any) -> None:
            for key, value in records:
                transaction.put(key, value)

        self._transact(change)

    def _transact(self, change: Callable[[Any], None]) -> None:
        """Call `change` with a transaction, once more where the map is too small for it."""
        import lmdb

        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    change(transaction)
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
