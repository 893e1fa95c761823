"""Image sets from strangers: pickles, archives and gzip files that mean harm, or are damaged."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from rootgen.cli import main
from rootgen.datasets import cifar, folder, idx, tar
from rootgen.errors import RootgenError

HERE = Path("data_batch_1")


def python2_batch(
    count: int = 2, *, dtype: bytes = b"u1", end: bytes = b"|", shape: tuple[int, int] | None = None
) -> bytes:
    """A batch as Python 2's cPickle wrote the official ones (protocol 2), opcode by opcode."""
    rows, columns = shape or (count, 3072)
    pixels = bytes(i % 251 for i in range(count * 3072))
    labels = b"".join(b"K" + bytes([i % 10]) for i in range(count))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85U\x01b\x87Rq\x08"
        b"(K\x01M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
        b"cnumpy\ndtype\nq\tU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87Rq\n"
        b"(K\x03U\x01" + end + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(pixels)) + pixels + b"tb"
    )
    names = b"".join(b"U\x05a.png" for _ in range(count))
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(" + labels + b"e"
        b"U\x04data" + array + b"U\tfilenamesq\x0b]q\x0c(" + names + b"eu."
    )


def test_a_python_2_batch_is_read_and_is_one() -> None:
    """The bytes above are what Python itself takes for such a batch, and what we read of it is the same."""
    images, labels = cifar._read_pickle(python2_batch(), HERE)
    whole = pickle.loads(python2_batch(), encoding="bytes")
    np.testing.assert_array_equal(images, whole[b"data"])
    assert labels.tolist() == whole[b"labels"] == [0, 1]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_batches_that_python_3_wrote_are_read(protocol: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    content = pickle.dumps({b"data": data, b"labels": [1, 2, 3]}, protocol=protocol)
    images, labels = cifar._read_pickle(content, HERE)
    np.testing.assert_array_equal(images, data)
    assert labels.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "content",
    [
        python2_batch(dtype=b"O8"),
        python2_batch(dtype=b"O"),
        python2_batch(dtype=b"V8"),
        python2_batch(dtype=b"i8"),
        python2_batch(end=b"<"),
        python2_batch(shape=(2, 3073)),
        python2_batch(shape=(60000, 60000)),
        python2_batch().replace(b"numpy\ndtype", b"numpy\nload"),
        python2_batch().replace(b"cnumpy\nndarray", b"cposix\nsystem"),
        python2_batch().replace(b"\x89T", b"\x88T"),  # columns first
        python2_batch().replace(b"K\x00\x85U\x01b", b"K\x00\x85U\x01b")[:-40],
        pickle.dumps({b"data": np.zeros((1, 3072), object), b"labels": [0]}, protocol=2),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": np.array([0])}, protocol=2),
        b"\x80\x02" + b"(" * 1000 + b"l" * 1000 + b".",
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x02(K\x00K\x01h\x99.",
        b"I" + b"9" * 10_000 + b"\n.",
        b"",
    ],
)  # fmt: skip
def test_forged_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(RootgenError) as caught:
        cifar._read_pickle(content, HERE)
    assert "\n" not in str(caught.value)


MUTATE = """
import random, sys
from pathlib import Path
from rootgen.datasets import cifar
from rootgen.errors import RootgenError
whole, kinds = Path(sys.argv[1]).read_bytes(), [0, 0]
random.seed(int(sys.argv[2]))
head = [*range(0, 400), *range(len(whole) - 200, len(whole))]  # where the program is; the rest are pixels
for _ in range(800):
    damaged = bytearray(whole)
    for _ in range(random.randint(1, 4)):
        place = random.choice(head) % len(damaged)
        damaged[place] = random.randrange(256)
        if random.random() < 0.2:
            del damaged[place : place + random.randint(1, 9)]
    try:
        images, labels = cifar._read_pickle(bytes(damaged), Path("b"))
        assert images.shape == (len(labels), 3072) and images.dtype == "uint8"
        images.sum()
        kinds[0] += 1
    except RootgenError:
        kinds[1] += 1
print(*kinds)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_pickles_neither_crash_nor_raise_anything_else(tmp_path: Path, seed: int) -> None:
    (tmp_path / "batch").write_bytes(python2_batch())
    shell = f'ulimit -v 2000000; "{sys.executable}" -c "$0" "{tmp_path}/batch" {seed}'
    done = subprocess.run(["bash", "-c", shell, MUTATE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    read, refused = map(int, done.stdout.split())
    assert read > 10 and refused > 100


def archive(path: Path, members: dict[str, bytes], *, kind: str = "w:gz") -> Path:
    with tarfile.open(path, kind) as made:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz"])
def test_members_come_by_the_last_part_of_their_names(tmp_path: Path, kind: str) -> None:
    content = {"a/one": b"1" * 700, "../../two": b"2", "/abs/three": b"", "a/other": b"x"}
    found = dict(
        tar.members(archive(tmp_path / "a.tar", content, kind=kind), {"one", "two", "three"}.__contains__, 1000)
    )
    assert found == {"one": b"1" * 700, "two": b"2", "three": b""}


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header with a right checksum, whatever its size says."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[148:155] = f"{sum(block):06o}\0".encode()
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header(b"one", b"77777777777"), "more than 1024 MiB unpacked"),
        (header(b"one", b"-0000000001"), "is no size"),
        (header(b"one", b"\xff" * 12), "is no size"),
        (header(b"one", b"00000004000") + bytes(2048), "'one' has 2048 bytes"),
        (header(b"one", b"00000001000") + b"cut", "'one' is cut short"),
        (header(b"x", b"77777777777", b"x"), "more than 1024 MiB unpacked"),  # a pax header of 8 GiB
        (header(b"one", b"0") , "ends before its end mark"),
        (b"\x1f\x8b" + bytes(600), "not a whole tar archive"),
        (bytes(100), "ends before its end mark"),
        (b"z" * 512, "checksum is wrong|is no size"),
    ],
)  # fmt: skip
def test_forged_archives_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(RootgenError, match=told):
        list(tar.members(tmp_path / "a.tar", {"one"}.__contains__, 1000))


def run_within(memory_kb: int, *words: str) -> subprocess.CompletedProcess[str]:
    shell = f'ulimit -v {memory_kb}; exec "{sys.executable}" -m rootgen "$@"'
    return subprocess.run(
        ["bash", "-c", shell, "rootgen", *words], capture_output=True, text=True, check=False, timeout=120
    )


def test_bombs_are_told_in_little_memory(tmp_path: Path) -> None:
    """A gzipped IDX file and a gzipped tar member of a gigabyte and more, a sparse batch of a terabyte."""
    zeros = gzip.compress(bytes(2**24), 9) * 70  # 1.1 GiB in a megabyte
    bomb = tmp_path / "idx"
    bomb.mkdir()
    small = gzip.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 28, 28))
    (bomb / "train-images-idx3-ubyte.gz").write_bytes(small + zeros)
    (bomb / "train-labels-idx1-ubyte").write_bytes(b"")
    for name in ("images-idx3", "labels-idx1"):
        (bomb / f"t10k-{name}-ubyte").write_bytes(b"")
    done = run_within(1_500_000, "data", "fashion-mnist", "--source", str(bomb), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "its header promises 2 x 28 x 28 = 1568 bytes, more follow" in done.stderr
    (tmp_path / "cifar.tar.gz").write_bytes(gzip.compress(header(b"data_batch_1.bin", b"10000000000")) + zeros)
    done = run_within(
        1_500_000, "data", "cifar10", "--source", str(tmp_path / "cifar.tar.gz"), "--out", str(tmp_path / "o")
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "not a whole tar archive" in done.stderr
    batches = tmp_path / "batches"
    batches.mkdir()
    with (batches / "data_batch_1.bin").open("wb") as file:
        file.truncate(2**40)
    (batches / "test_batch.bin").write_bytes(b"")
    done = run_within(1_500_000, "data", "cifar10", "--source", str(batches), "--out", str(tmp_path / "o"))
    assert done.returncode == 1
    assert "too large for such a file (at most 64 MiB)" in done.stderr


def test_an_idx_header_that_promises_too_much(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(
        gzip.compress(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1))
    )
    with pytest.raises(RootgenError, match=r"its header promises \d+ bytes \(at most"):
        idx.read(tmp_path / "a.gz", dimensions=3)


def png(width: int, height: int) -> bytes:
    """A PNG of zeros: a few kB however large it is."""
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer, rows = zlib.compressobj(9), b""
    line = bytes(width + 1)
    for _ in range(height):
        rows += packer.compress(line)
    rows += packer.flush()
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/a.png").write_bytes(png(16_000, 16_000))
    done = run_within(3_000_000, "data", "folder", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "OpenCV cannot take this image: pixels <= CV_IO_MAX_IMAGE_PIXELS" in done.stderr


def test_pipes_and_odd_class_names_in_a_folder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "in/a").mkdir(parents=True)
    os.mkfifo(tmp_path / "in/a/a.png")
    assert main(["data", "folder", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "a.png: cannot read: Is a pipe" in capsys.readouterr().err
    (tmp_path / "in/a\nb").mkdir()
    with pytest.raises(RootgenError, match="control characters"):
        folder.read_classes(tmp_path / "in")


def test_three_at_once_into_one_folder_make_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rootgen", "data", "fashion-mnist-sample", "--out", str(tmp_path / "out")]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(3)]
    told = [run.communicate(timeout=300)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1, 1], told
    assert sum("is at work on it" in text or "is there already" in text for text in told) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "train_lmdb",
        "test_lmdb",
        "mean.binaryproto",
        "labels.txt",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_names_that_need_a_header_of_their_own(form: int, tmp_path: Path) -> None:
    long = "/".join(["x" * 60] * 3) + "/data_batch_1"
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for name in (long, "data_batch_2"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    found = list(tar.members(tmp_path / "a.tar", lambda name: name.startswith("data_batch"), 100))
    assert found == [("data_batch_1", b"abc"), ("data_batch_2", b"abc")]


@pytest.mark.parametrize("content", [b"5 path=x", b"0 path=a\n", b"x path=a\n", b"9" * 5000 + b" path=a\n"])
def test_damaged_extended_headers(content: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("h")
        member.size, member.type = len(content), b"x"
        archive.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("b")
        archive.addfile(member)
    with pytest.raises(RootgenError, match="not a whole tar archive"):
        list(tar.members(tmp_path / "a.tar", bool, 100))


def test_a_gzip_of_something_else_says_how_it_begins(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"a text, and a longer one"))
    with pytest.raises(RootgenError, match="begins with 0x61207465"):
        idx.read(tmp_path / "x.gz", dimensions=3)
