"""Packing where things go wrong: images that are none, states that are a stranger's, names that nothing takes."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rootgen.cli import main
from rootgen.datasets import load, pack
from rootgen.datasets.pack import Packed
from rootgen.datasets.record import Packing
from rootgen.datasets.save import lock_of, refuse_existing
from rootgen.errors import RootgenError
from rootgen.proto.database import Database, Writer, datum_bytes, held


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One class of six grey images, each of a value of its own."""
    folder = tmp_path / "in" / "cat"
    folder.mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (12, 10), (40 * number,) * 3).save(folder / f"{number}.jpg")
    return tmp_path / "in"


def listed(out: Path) -> dict[str, str]:
    """What odd_images.txt says of each image."""
    lines = (out / "odd_images.txt").read_text().splitlines()
    return dict(line.removeprefix("cat/").split(": ", 1) for line in lines)


def values(out: Path) -> list[int]:
    """The brightest value of every training image."""
    database = Database(out / "train_lmdb")
    return [max(datum.data) for _, datum in itertools.islice(database.read(0), database.size)]


def test_what_is_no_image_file_is_left_out(tmp_path: Path, source: Path) -> None:
    os.mkfifo(source / "cat" / "pipe.jpg")
    (source / "cat" / "folder.jpg").mkdir()
    (source / "cat" / "empty.jpg").touch()
    Image.new("RGB", (12, 10)).save(source / "cat" / "page.jpg", "EPS")  # which Pillow would start Ghostscript for
    packed = pack.pack(load("folder", source), tmp_path / "out", Packing(8))
    assert packed["train_lmdb"].records == 6
    assert listed(tmp_path / "out") == {
        "pipe.jpg": "left out: cannot read: Is a pipe",
        "folder.jpg": "left out: cannot read: Is a directory",
        "empty.jpg": "left out: of no format that is read",
        "page.jpg": "left out: of no format that is read",
    }


def test_images_of_too_many_pixels_are_left_out(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are decoded; Pillow itself refuses only those of twice as many."""
    monkeypatch.setattr("rootgen.datasets.record.MAX_PIXELS", 120)
    Image.new("RGB", (11, 11)).save(source / "cat" / "large.jpg")
    packed = pack.pack(load("folder", source), tmp_path / "out", Packing(8))
    assert packed["train_lmdb"].records == 6
    assert listed(tmp_path / "out") == {"large.jpg": "left out: 11 x 11 pixels"}


def test_a_file_that_cannot_be_read_now_is_waited_for(tmp_path: Path, source: Path) -> None:
    dataset = load("folder", source)
    (source / "cat" / "5.jpg").rename(tmp_path / "aside.jpg")  # as a lost mount would
    with pytest.raises(RootgenError, match=r"5\.jpg: cannot read: No such file"):
        pack.pack(dataset, tmp_path / "out", Packing(8))
    assert not (tmp_path / "out").exists()


def test_pixels_are_those_that_opencv_reads(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "in" / "cat"
    folder.mkdir(parents=True)
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, :20] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(folder / "turned.jpg", exif=exif)
    Image.fromarray((np.arange(800).reshape(20, 40) * 80).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(picture).convert("P").save(folder / "palette.png", transparency=bytes(range(256)))
    Image.fromarray(picture).convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.full((20, 40), 300000, np.int32)).save(folder / "wide.tif")
    whole = pack.pack(load("folder", tmp_path / "in"), tmp_path / "out", Packing(0, "raw"))["train_lmdb"]
    assert (whole.records, whole.left_out) == (4, 1), whole.odd
    database = Database(tmp_path / "out" / "train_lmdb")
    for where, datum in itertools.islice(database.read(0), 4):
        name = where.split("cat/")[1].rstrip("'")
        pixels = np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width)
        wanted = cv2.imread(str(folder / name), cv2.IMREAD_COLOR).transpose(2, 0, 1)
        assert pixels.shape == wanted.shape, name
        assert np.abs(pixels.astype(int) - wanted).max() <= 3, name  # of two JPEG decoders
    assert listed(tmp_path / "out")["turned.jpg"] == "was turned upright, as its EXIF data say"
    pack.pack(load("folder", tmp_path / "in"), tmp_path / "jpeg", Packing(0))
    database = Database(tmp_path / "jpeg" / "train_lmdb")
    for where, datum in itertools.islice(database.read(0), 4):  # and no reader turns it once more
        image = Image.open(io.BytesIO(datum.data))
        assert image.size == (datum.width, datum.height)
        assert not image.getexif(), where


def test_pillow_warns_nobody(tmp_path: Path, source: Path, recwarn: pytest.WarningsRecorder) -> None:
    for number, entries in enumerate((b"\x05\0", b"\x01\0" + b"\x12\x01\x03\0" + b"\xff" * 8, b"")):
        exif = b"Exif\0\0II*\0\x08\0\0\0" + entries  # cut short
        Image.new("RGB", (12, 10)).save(source / "cat" / f"exif{number}.jpg", exif=exif)
    assert main(["data", "folder", "--source", str(source), "--out", str(tmp_path / "out"), "--shortest", "8"]) == 0
    assert not recwarn.list
    assert not (tmp_path / "out" / "odd_images.txt").exists()


def stop(what: str, done: int, total: int) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def broken(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unfinished folder of what was stopped after two of the six images."""
    monkeypatch.setattr(pack, "BATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        pack.pack(load("folder", source), tmp_path / "out", Packing(8, "raw"), report=stop)
    return lock_of(tmp_path / "out").with_suffix(".unfinished")


def again(tmp_path: Path, source: Path) -> list[int]:
    """How far the rest of the work was after each batch."""
    begun: list[int] = []
    pack.pack(
        load("folder", source), tmp_path / "out", Packing(8, "raw"), report=lambda what, done, total: begun.append(done)
    )
    assert sorted(values(tmp_path / "out")) == [0, 40, 80, 120, 160, 200]
    return begun


def test_the_state_of_one_that_was_stopped_is_believed(tmp_path: Path, source: Path, broken: Path) -> None:
    assert again(tmp_path, source) == [4, 6]
    assert not broken.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"done": -2, "records": -2},
        {"done": 0, "records": 2},
        {"done": 4, "records": 4},  # which the LMDB does not hold
        {"done": 10**9, "records": 10**9},
        {"done": 2.0},
        {"done": True, "records": True},
        {"pixels": 10**400},
        {"sums": [float("nan")] * 3},
        {"sums": [1.0] * 4},
        {"sums": ["1"] * 3},
        {"left_out": 1, "done": 3},
        {"odd": ["x"] * 1000},
        {"odd": [1, 2]},
        {"odd": "xy"},
        {"more": 1},
    ],
)
def test_a_state_that_cannot_be_is_not_believed(
    tmp_path: Path, source: Path, broken: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    state = json.loads((broken / "unfinished.json").read_text())
    state["packed"]["train_lmdb"] |= change
    (broken / "unfinished.json").write_text(json.dumps(state))
    assert again(tmp_path, source) == [2, 4, 6]
    assert "begins anew" in caplog.text


@pytest.mark.parametrize("text", ["[" * 10**5, "9" * 5000, '{"key": 0, "packed": {"../x": {}}}', ""])
def test_a_state_that_is_none(tmp_path: Path, source: Path, broken: Path, text: str) -> None:
    (broken / "unfinished.json").write_text(text)
    assert again(tmp_path, source) == [2, 4, 6]


@pytest.mark.parametrize("size", [None, 0, 100, 5000])
def test_an_lmdb_that_lost_its_end_is_begun_anew(tmp_path: Path, source: Path, broken: Path, size: int | None) -> None:
    file = broken / "train_lmdb" / "data.mdb"
    file.unlink() if size is None else os.truncate(file, size)
    assert again(tmp_path, source) == [2, 4, 6]


def test_half_a_file_of_an_lmdb_without_records_is_no_hindrance(tmp_path: Path, source: Path, broken: Path) -> None:
    state = json.loads((broken / "unfinished.json").read_text())
    state["packed"] = {"train_lmdb": asdict(Packed())}  # as test_lmdb is when it has just been begun
    (broken / "unfinished.json").write_text(json.dumps(state))
    (broken / "train_lmdb" / "data.mdb").write_bytes(b"half a page")
    assert again(tmp_path, source) == [2, 4, 6]


def test_an_unfinished_folder_that_leads_elsewhere_is_not_followed(tmp_path: Path, source: Path, broken: Path) -> None:
    other = tmp_path / "other"
    broken.rename(other)
    before = (other / "train_lmdb" / "data.mdb").read_bytes()
    broken.symlink_to(other)
    assert again(tmp_path, source) == [2, 4, 6]
    assert (other / "train_lmdb" / "data.mdb").read_bytes() == before
    assert not (tmp_path / "out").is_symlink()


def test_a_file_in_the_way_is_one_line(
    tmp_path: Path, source: Path, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.rename(tmp_path / "other")
    broken.touch()
    words = ["--source", str(source), "--out", str(tmp_path / "out"), "--shortest", "8"]
    assert main(["data", "folder", *words]) == 1
    assert f"{broken}: cannot write: File exists" in capsys.readouterr().err


def test_the_same_folder_by_another_name_goes_on(
    tmp_path: Path, source: Path, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert again(tmp_path, Path("in")) == [4, 6]


@pytest.mark.parametrize("words", [[], ["--shortest", "8"]])
def test_names_too_long_for_lmdb_are_one_line(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    deep = source / "cat" / ("c" * 250) / ("d" * 250)
    deep.mkdir(parents=True)
    (source / "cat" / "0.jpg").rename(deep / "0.jpg")
    assert main(["data", "folder", "--source", str(source), "--out", str(tmp_path / "out"), *words]) == 1
    error = capsys.readouterr().err
    assert "an LMDB takes keys of 511 bytes, not the 520 of '0000000" in error
    assert "shorten the names" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob(".out*"))


def test_sides_that_no_reader_takes_are_refused_before_the_work(tmp_path: Path, source: Path) -> None:
    with pytest.raises(RootgenError, match="a shorter side of 100000 gives images of more than 89478485 pixels"):
        pack.pack(load("folder", source), tmp_path / "out", Packing(100000))


def test_a_mount_point_is_refused_before_the_work() -> None:
    with pytest.raises(RootgenError, match="is a mount point"):
        refuse_existing("/proc", force=True)


@pytest.mark.parametrize("options", [(), ("--shortest", "8")], ids=["one size", "packed"])
def test_opencv_is_for_images_of_one_size(
    tmp_path: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    code = main(["data", "folder", "--source", str(source), "--out", str(tmp_path / "out"), *options])
    error = capsys.readouterr().err
    assert (code, "needs OpenCV" in error) == ((0, False) if options else (1, True))
    assert (tmp_path / "out").exists() == bool(options)


def test_a_full_map_grows_where_records_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that fills its map, as any larger than the first one does, has no room for what a removal copies."""
    monkeypatch.setattr("rootgen.proto.database.FIRST_MAP_SIZE", 2**16)
    keys = [b"%08d" % number for number in range(900)]
    with Writer(tmp_path / "lmdb", keep=0) as writer:
        writer.put_encoded(keys, [datum_bytes(np.zeros((1, 20, 20), np.uint8), 0)] * 900)
    for keep in (899, 700, 50):
        with Writer(tmp_path / "lmdb", keep=keep):
            pass
        assert held(tmp_path / "lmdb") == keep


def test_what_may_be_left_out_and_what_was() -> None:
    assert Packed().fits(0, 3)
    assert Packed(3, 2, 8, [1.0] * 3, 1, ["a: left out"]).fits(3, 3)
    assert not Packed(3, 2, 8, [1.0] * 3, 1, []).fits(3, 3)  # of which nobody would know
