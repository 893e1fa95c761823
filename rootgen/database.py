"""LMDBs of Datum, read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from rootgen import schema
from rootgen.errors import RootgenError


class Database:
    """An LMDB of Datum, read in key order.

    LMDB refuses to be opened twice by one process, so whoever wants the same file gets the same object, and it
    stays open: a train and a test net often share a set, and a thread may still read for a net given up.
    """

    _open: ClassVar[dict[Path, Database]] = {}

    def __init__(self, path: Path) -> None:
        import lmdb

        self.path = path
        if not path.exists():
            raise RootgenError("no such database", where=path, hint="`rootgen data` makes one; is the folder right?")
        try:
            self.env = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=True)
        except (lmdb.Error, OSError) as error:
            raise RootgenError(f"not an LMDB, or a damaged one ({error})", where=path, hint="make it again") from error
        try:
            self.size = self._checked_size()
        except RootgenError:
            self.env.close()
            raise
        self.inode = _file(path).stat().st_ino

    def _checked_size(self) -> int:
        """Number of records; RootgenError where there are none, or where pages are missing."""
        with self._readable():
            stat = self.env.stat()
            whole = (self.env.info()["last_pgno"] + 1) * stat["psize"]
        file = _file(self.path)
        if file.stat().st_size < whole:  # reading on would end the process with SIGBUS
            raise RootgenError(f"cut short: {file.stat().st_size} of {whole} bytes", where=file, hint="make it again")
        if not stat["entries"]:
            raise RootgenError("the database is empty", where=self.path, hint="make it again")
        return int(stat["entries"])

    @classmethod
    def at(cls, path: Path) -> Database:
        """The database in the folder `path`."""
        key = path.resolve()
        found = cls._open.get(key)
        if found is not None and key.exists() and found.inode != _file(key).stat().st_ino:
            found.env.close()  # another database has taken its place
            found = None
        if found is None:
            found = cls._open[key] = cls(path)
        return found

    def read(self, start: int, *, take: int = 1, skip: int = 0) -> Iterator[tuple[str, Any]]:
        """(where, Datum) of each record from number `start` on, from the first again after the last, without end.

        After every `take` records, `skip` are passed over.
        """
        with self._readable(), self.env.begin(buffers=True) as txn:
            cursor = txn.cursor()
            cursor.first()
            for _ in range(start % self.size):
                cursor.next()
            for count in itertools.count(1):
                key = bytes(cursor.key())
                where = f"{self.path}: record '{key.decode('ascii', 'backslashreplace')}'"
                yield where, schema.parse_bytes(bytes(cursor.value()), schema.Datum, where)
                for _ in range(1 if count % take else 1 + skip):
                    if not cursor.next():
                        cursor.first()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn LMDB's refusals into one clear line."""
        import lmdb

        try:
            yield
        except lmdb.Error as error:
            raise RootgenError(f"damaged database ({error})", where=self.path, hint="make it again") from error


def _file(path: Path) -> Path:
    """The file that holds an LMDB's pages: `path`, or data.mdb in the folder `path`."""
    return path / "data.mdb" if path.is_dir() else path
