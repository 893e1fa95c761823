"""The records of an LMDB, page by page through read calls: no memory map.

LMDB's own library maps the file. Where that is cut short while it is mapped (copied over, a full or failing disk, a
lost mount), the next look at it ends the process with SIGBUS. A read call comes back short instead, which is an error
like any other. The format is that of LMDB 0.9 (mdb.c: MDB_meta, MDB_page, MDB_node), in the machine's own byte order.
"""

from __future__ import annotations

import os
import struct
import weakref
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_NO_PAGE = 2**64 - 1  # P_INVALID: the root of an empty tree
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # mp_flags
_BIG, _OTHERS = 1, 6  # mn_flags: the value has pages of its own; a database inside, or several values per key
_BEYOND = "a page with a record beyond its end"
_DEEPEST = 32  # levels (MDB's CURSOR_STACK)

_HEAD = struct.Struct("=QHHHH")  # page number, pad, flags, lower, upper
_META = struct.Struct("=16x I I Q Q 48s 48s Q Q")  # magic, version, address, map size, free tree, tree, last page, txn
_TREE = struct.Struct("=I H H Q Q Q Q Q")  # pad, flags, depth, branch, leaf and overflow pages, entries, root
_NODE = struct.Struct("=HHHH")  # low and high half of the value's size, flags, size of the key
_PAGE = struct.Struct("=Q")
_PLACE = struct.Struct("=H")


class DamagedError(Exception):
    """What is wrong with a database, or with a page of it; `cut` where bytes are missing at its end."""

    def __init__(self, what: str, *, cut: bool = False) -> None:
        super().__init__(what)
        self.cut = cut


class Pages:
    """The records of the LMDB in `file`, by number, in key order, as they were when it was opened.

    DamagedError where it is none, where bytes are missing, or where a page is not what its place says. Any number of
    threads may read at once.
    """

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe does not hold us up
        weakref.finalize(self, os.close, self._file)
        first = self._meta(0)
        self.page_size = _TREE.unpack(first[4])[0]
        if self.page_size not in (2**i for i in range(8, 17)):
            raise DamagedError(f"pages of {self.page_size} bytes")
        newest = max(first, self._meta(self.page_size), key=lambda meta: int(meta[7]))
        _, flags, self._depth, _, _, _, self.size, self._root = _TREE.unpack(newest[5])
        if flags & 4:  # MDB_DUPSORT
            raise DamagedError("keys with several values")
        self._whole = (newest[6] + 1) * self.page_size
        self.check_length()
        self._leaves: tuple[list[int], list[int]] | None = None  # pages; records before each
        self._last = -1, b""  # the place and the content of the leaf read last

    def check_length(self) -> None:
        """DamagedError where the file is shorter than its pages need."""
        found = os.fstat(self._file).st_size
        if found < self._whole:
            raise DamagedError(f"cut short: {found} of {self._whole} bytes", cut=True)

    def record(self, number: int) -> tuple[bytes, bytes]:
        """Key and value of record `number`, from 0 to below `size`."""
        if self._leaves is None:
            self._leaves = self._found_leaves()
        pages, before = self._leaves
        place = bisect_right(before, number) - 1
        last, page = self._last  # of whichever thread: records are mostly read in order
        if last != place:
            page = self._page(pages[place], _LEAF)
            self._last = place, page
        low, high, flags, key_size, start = self._node(page, number - before[place])
        key, size = page[start : start + key_size], low | high << 16
        start += key_size
        if flags & _OTHERS:
            raise DamagedError("a database inside this one, or several values of one key")
        if not flags & _BIG:
            return key, self._part(page, start, size)
        (first,) = _PAGE.unpack(self._part(page, start, _PAGE.size))
        return key, self._big(first, size)

    def _found_leaves(self) -> tuple[list[int], list[int]]:
        """The leaf pages in key order, and how many records lie before each."""
        pages = [self._root] if self._root != _NO_PAGE else []
        for _ in range(min(self._depth, _DEEPEST) - 1):
            pages = [child for number in pages for child in self._children(number)]
            if len(pages) > self._whole // self.page_size:
                raise DamagedError("a tree with more pages than the file")
        counts = [self._count(self._page(number, _LEAF, _HEAD.size)) for number in pages]
        before = [0, *accumulate(counts)]
        if before.pop() != self.size:
            raise DamagedError(f"{sum(counts)} records where {self.size} are told of")
        return pages, before

    def _children(self, number: int) -> list[int]:
        page = self._page(number, _BRANCH)
        nodes = [self._node(page, i) for i in range(self._count(page))]
        return [low | high << 16 | flags << 32 for low, high, flags, _, _ in nodes]

    def _count(self, page: bytes) -> int:
        """Nodes of a page."""
        lower = int(_HEAD.unpack_from(page)[3])
        if not _HEAD.size <= lower <= self.page_size:
            raise DamagedError("a page with its nodes outside")
        return (lower - _HEAD.size) // 2

    def _node(self, page: bytes, i: int) -> tuple[int, int, int, int, int]:
        """Low and high half, flags and key size of node `i`, and where its key begins."""
        (start,) = _PLACE.unpack_from(page, _HEAD.size + 2 * i)
        if start + _NODE.size > len(page):
            raise DamagedError(_BEYOND)
        low, high, flags, key_size = _NODE.unpack_from(page, start)
        return low, high, flags, key_size, start + _NODE.size

    def _part(self, page: bytes, start: int, size: int) -> bytes:
        if start + size > len(page):
            raise DamagedError(_BEYOND)
        return page[start : start + size]

    def _page(self, number: int, kind: int, size: int | None = None) -> bytes:
        """The first `size` bytes of page `number` (all of it if None), which is to be of a `kind`."""
        page = self._read(number * self.page_size, self.page_size if size is None else size)
        found, _, flags, _, _ = _HEAD.unpack_from(page)
        if found != number or not flags & kind:
            raise DamagedError(f"page {number} is not what its place says")
        return page

    def _big(self, number: int, size: int) -> bytes:
        """A value of `size` bytes that has pages of its own, from `number` on."""
        if _HEAD.size + size > self._whole:
            raise DamagedError(f"a value of {size} bytes, more than the file")
        content = self._read(number * self.page_size, _HEAD.size + size)
        found, _, flags, _, _ = _HEAD.unpack_from(content)
        if found != number or not flags & _OVERFLOW:
            raise DamagedError(f"page {number} is not what its place says")
        return content[_HEAD.size :]

    def _meta(self, start: int) -> tuple[int, int, int, int, bytes, bytes, int, int]:
        meta: tuple[int, int, int, int, bytes, bytes, int, int] = _META.unpack(self._read(start, _META.size))
        if meta[0] != _MAGIC:
            raise DamagedError("File is not an LMDB file")
        if meta[1] != _VERSION:
            raise DamagedError(f"version {meta[1]} of the format, where {_VERSION} is known")
        return meta

    def _read(self, start: int, size: int) -> bytes:
        if start + size >= 2**63:
            raise DamagedError("a page far outside the file")
        content = os.pread(self._file, size, start)
        if len(content) < size:
            raise DamagedError(f"cut short: it ends before byte {start + size}", cut=True)
        return content
