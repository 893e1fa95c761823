"""An LMDB read page by page has the records that LMDB itself finds; a damaged one is an error, never a signal."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import numpy as np
import pytest

from rootgen.errors import RootgenError
from rootgen.proto import schema
from rootgen.proto.database import Database
from rootgen.proto.lmdb_pages import DamagedError, Pages


def write(path: Path, sizes: list[int], *, rounds: int = 1, delete: int = 0) -> list[tuple[bytes, bytes]]:
    """An LMDB with values of `sizes`, in several transactions, every `delete`-th gone again; its records."""
    random = np.random.default_rng(len(sizes))
    with lmdb.open(str(path), map_size=1 << 28) as env:
        for turn in range(rounds):
            with env.begin(write=True) as txn:
                for i in range(turn, len(sizes), rounds):
                    txn.put(f"{i:08d}{'x' * (i % 7)}".encode(), random.bytes(sizes[i]))
        if delete:
            with env.begin(write=True) as txn:
                for i in range(0, len(sizes), delete):
                    txn.delete(f"{i:08d}{'x' * (i % 7)}".encode())
        with env.begin() as txn:
            return [(bytes(key), bytes(value)) for key, value in txn.cursor()]


SHAPES = {
    "one": ([5], {}),
    "small, three levels": ([11] * 30_000, {}),
    "with pages of their own": ([3072 + 40] * 300, {}),
    "of all sizes": ([(i * 7919) % 9000 for i in range(1500)], {"rounds": 5, "delete": 3}),
    "empty values": ([0] * 50, {}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_records_are_those_that_lmdb_finds(tmp_path: Path, shape: str) -> None:
    sizes, options = SHAPES[shape]
    wanted = write(tmp_path / "lmdb", sizes, **options)
    pages = Pages(tmp_path / "lmdb" / "data.mdb")
    assert pages.size == len(wanted)
    assert [pages.record(i) for i in range(pages.size)] == wanted
    with lmdb.open(str(tmp_path / "lmdb"), readonly=True, lock=False) as env:
        depth = env.stat()["depth"]
    assert depth == {"one": 1, "small, three levels": 3}.get(shape, depth)


def test_a_database_that_is_written_on_stays_as_it_was_opened(tmp_path: Path) -> None:
    wanted = write(tmp_path / "lmdb", [20] * 100)
    pages = Pages(tmp_path / "lmdb" / "data.mdb")
    with lmdb.open(str(tmp_path / "lmdb"), map_size=1 << 28) as env, env.begin(write=True) as txn:
        txn.put(b"00000000", b"changed")
    assert [pages.record(i) for i in range(pages.size)] == wanted


@pytest.mark.parametrize("kept", [0, 100, 4096, 8192, 20_000, 0.5, 0.99])
def test_a_file_cut_short_while_it_is_read_is_an_error(tmp_path: Path, kept: float) -> None:
    images = [schema.Datum(channels=1, height=50, width=100, data=bytes(5000)).SerializeToString()] * 100
    with lmdb.open(str(tmp_path / "lmdb"), map_size=1 << 28) as env, env.begin(write=True) as txn:
        for i, record in enumerate(images):
            txn.put(f"{i:08d}".encode(), record)
    file = tmp_path / "lmdb" / "data.mdb"
    records = Database(tmp_path / "lmdb").read(0)
    for _ in range(3):
        next(records)
    size = file.stat().st_size
    os.truncate(file, int(kept if kept > 1 else kept * size))
    with pytest.raises(RootgenError, match=r"data\.mdb: cut short: .*\(make it again\)"):
        for _ in range(100):
            next(records)
    with pytest.raises(RootgenError, match=r"cut short|not an LMDB"):
        Database(tmp_path / "lmdb")


def test_any_damage_is_told_of(tmp_path: Path) -> None:
    sizes = [(i * 37) % 3000 for i in range(400)]
    write(tmp_path / "lmdb", sizes)
    file = tmp_path / "lmdb" / "data.mdb"
    whole = file.read_bytes()
    random = np.random.default_rng(1)
    told = 0
    for turn in range(300):
        content = bytearray(whole)
        if turn % 3 == 0:  # zeros, as after a crash of the machine
            start = int(random.integers(0, len(whole) // 4096)) * 4096
            content[start : start + 4096] = bytes(4096)
        else:
            for place in random.integers(0, len(whole) if turn % 3 == 1 else 40_000, 20):
                content[place] = random.integers(0, 256)
        file.write_bytes(content)
        try:
            pages = Pages(file)
            for i in range(min(pages.size, 1000)):
                pages.record(i)
        except DamagedError:
            told += 1
    assert told > 100  # bytes of keys and values are not looked at here


def test_a_database_that_was_written_to_is_opened_anew(tmp_path: Path) -> None:
    """What `Database.at` keeps is the same object as long as the file is the same, and no longer."""
    for label in (1, 2, 3):
        with lmdb.open(str(tmp_path)) as environment, environment.begin(write=True) as transaction:
            transaction.put(
                b"0", schema.Datum(channels=1, height=1, width=1, data=b"x", label=label).SerializeToString()
            )
        found = Database.at(tmp_path)
        assert next(found.read(0))[1].label == label
        assert Database.at(tmp_path) is found


def test_a_database_that_went_away_is_told_of(tmp_path: Path) -> None:
    write(tmp_path, [10])
    Database.at(tmp_path)
    (tmp_path / "data.mdb").unlink()
    with pytest.raises(RootgenError, match="not an LMDB"):
        Database.at(tmp_path)
