"""HDF5 files from strangers: what reads other files, loads code or promises too much is refused, value by value."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rootgen.engine import hdf5, state, weights
from rootgen.errors import RootgenError

h5py = pytest.importorskip("h5py")


def external(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", (4,), "f4", external=[(str(folder / "secret"), 0, 16)])


def external_link(file: Any, folder: Path) -> None:
    file.create_group("data")
    file["data/conv"] = h5py.ExternalLink(str(folder / "other.h5"), "/data/conv")


def soft_link(file: Any, folder: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(str(folder / "other.h5"), "/data/conv")
    file["data/conv"] = h5py.SoftLink("/elsewhere")


def virtual(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "data/conv/0", (4,))
    file.create_virtual_dataset("data/conv/0", layout)


def absurd(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", (2**20, 2**20), "f4", chunks=(16, 16), compression="gzip")


def unwritten(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", (2**20,), "f4")


def bomb(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", data=np.zeros(2**25, "f4"), chunks=(2**20,), compression="gzip", shuffle=True)


def of_objects(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", data=["a", "b"], dtype=h5py.string_dtype())


def of_rows(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", (2,), h5py.vlen_dtype(np.float32))


def of_references(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", (2,), h5py.ref_dtype)


def compound(file: Any, folder: Path) -> None:
    file.create_dataset("data/conv/0", (2,), np.dtype([("a", "f4"), ("b", "i4")]))


def in_a_circle(file: Any, folder: Path) -> None:
    group = file.create_group("data/conv")
    group["again"] = group


def deep(file: Any, folder: Path) -> None:
    file.create_dataset("data/" + "x/" * 60 + "0", data=np.zeros(4, "f4"))


def with_a_plugin(file: Any, folder: Path) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4,))
    creation.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (0, 0, 0, 0))  # Blosc's number
    group = file.create_group("data/conv")
    h5py.h5d.create(group.id, b"0", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((4,)), creation)


def a_type_by_name(file: Any, folder: Path) -> None:
    file["data/conv/0"] = np.dtype("f4")


CASES: list[tuple[Callable[[Any, Path], None], str]] = [
    (external, "has its values in another file"),
    (external_link, "is a link to somewhere else"),
    (soft_link, "is a link to somewhere else"),
    (virtual, "has its values in another file"),
    (absurd, "promises 4398046511104 bytes"),
    (unwritten, "has 0 bytes of"),
    (bomb, "promises 134217728 bytes"),
    (of_objects, "holds neither numbers nor a string"),
    (of_rows, "holds neither numbers nor a string"),
    (of_references, "holds neither numbers nor a string"),
    (compound, "holds neither numbers nor a string"),
    (in_a_circle, "is there twice"),
    (deep, "lies too deep"),
    (with_a_plugin, "needs a filter other than"),
    (a_type_by_name, "is neither a group nor a dataset"),
]


@pytest.mark.parametrize(("make", "told"), CASES, ids=[make.__name__ for make, _ in CASES])
@pytest.mark.parametrize("read", [weights.read, state.read])
def test_what_caffe_does_not_write_is_refused(tmp_path: Path, make: Any, told: str, read: Any) -> None:
    (tmp_path / "secret").write_bytes(b"0123456789abcdef")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data/conv/0"] = np.arange(4, dtype="f4")
    with h5py.File(tmp_path / "model.caffemodel.h5", "w") as file:
        for name in ("iter", "current_step"):  # so that it is a state, too
            file[name] = np.array([3], np.int32)
        file["history/0"] = np.zeros(4, "f4")
        make(file, tmp_path)
    with pytest.raises(RootgenError, match=told) as caught:
        read(tmp_path / "model.caffemodel.h5")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}])
@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "i4", ">f4"])
def test_plain_numbers_are_read(tmp_path: Path, options: dict[str, Any], kind: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(kind)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("data/inception/3x3/0", data=values, **options)
    (found,) = weights.read(tmp_path / "m.h5")["inception/3x3"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_zeros_may_be_packed_well(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("data/fc/0", data=np.zeros(2**22, "f4"), compression="gzip")
    assert weights.read(tmp_path / "m.h5")["fc"][0].size == 2**22


def test_a_pipe_is_no_hdf5_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.h5")
    with pytest.raises(RootgenError, match="cannot read: Is a pipe"), hdf5.reading(tmp_path / "m.h5"):
        pass


def test_layer_names_that_no_hdf5_file_can_hold_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RootgenError, match="cannot hold a layer of the name 'a/0'"):
        weights.write(tmp_path / "m.h5", "net", "TRAIN", (), {"a": [np.ones(1)], "a/0": [np.ones(1)]})
    assert list(tmp_path.iterdir()) == []
