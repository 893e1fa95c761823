"""Image sets: what is read, what is written, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from rootgen import paths
from rootgen.cli import main
from rootgen.datasets import Dataset, ImageSet, cifar, download, folder, idx, load, sample, save
from rootgen.datasets import catalogue as sources
from rootgen.datasets.save import mean_bytes
from rootgen.errors import RootgenError
from rootgen.proto import schema


def small_set(count: int = 7, shape: tuple[int, int, int] = (3, 6, 5), seed: int = 1) -> ImageSet:
    """Random images with labels 0, 1, 2, 0, ..."""
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return ImageSet(images, np.arange(count) % 3)


def records(path: Path) -> list[tuple[bytes, np.ndarray, int]]:
    """Keys, images and labels of an LMDB, read with lmdb and the schema alone."""
    import lmdb

    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        found = []
        for key, value in transaction.cursor():
            datum = schema.Datum.FromString(value)
            image = np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width)
            found.append((key, image, datum.label))
        return found


def mean_of(path: Path) -> np.ndarray:
    blob = schema.BlobProto.FromString(path.read_bytes())
    assert blob.num == 1
    return np.array(blob.data, np.float32).reshape(blob.channels, blob.height, blob.width)


# What is written


def test_lmdb_holds_the_images_with_keys_as_caffe_writes_them(tmp_path: Path) -> None:
    images = small_set()
    save(sources.Dataset(images, None, ()), tmp_path / "out", seed=None)
    found = records(tmp_path / "out" / "train_lmdb")
    assert [key for key, _, _ in found] == [b"%08d" % n for n in range(7)]  # convert_mnist_data
    assert [label for *_, label in found] == [0, 1, 2, 0, 1, 2, 0]
    np.testing.assert_array_equal([image for _, image, _ in found], images.images)
    assert not (tmp_path / "out" / "test_lmdb").exists()


def test_mean_is_that_of_compute_image_mean(tmp_path: Path) -> None:
    images = small_set(count=13)
    save(sources.Dataset(images, None, ()), tmp_path / "out")
    total = np.zeros((3, 6, 5), np.float32)  # single precision sums and one division, as Caffe's tool
    for image in images.images:
        total += image
    np.testing.assert_array_equal(mean_of(tmp_path / "out" / "mean.binaryproto"), total / np.float32(13))


def test_padding_is_exactly_zero_once_the_mean_is_subtracted(tmp_path: Path) -> None:
    save(load("fashion-mnist-sample"), tmp_path / "out", pad=4)
    mean = mean_of(tmp_path / "out" / "mean.binaryproto")
    image = records(tmp_path / "out" / "test_lmdb")[0][1] - mean
    assert image.shape == (3, 40, 40)
    border = np.ones((40, 40), bool)
    border[6:34, 6:34] = False
    assert not image[:, border].any()
    assert image[:, ~border].any()


def test_grey_is_copied_to_three_channels_and_the_order_follows_the_seed(tmp_path: Path) -> None:
    grey = ImageSet(small_set(40, (1, 4, 4)).images, np.arange(40))
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        save(sources.Dataset(grey, grey, ()), tmp_path / name, pad=1, seed=seed)
    orders = {name: [label for *_, label in records(tmp_path / name / "train_lmdb")] for name in "abc"}
    assert orders["a"] == orders["b"] != orders["c"]
    assert sorted(orders["a"]) == list(range(40))
    test = records(tmp_path / "a" / "test_lmdb")
    assert [label for *_, label in test] == list(range(40))
    for channel in test[7][1]:
        np.testing.assert_array_equal(channel[1:-1, 1:-1], grey.images[7][0])


def test_a_set_larger_than_the_first_map_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootgen.proto.database.FIRST_MAP_SIZE", 2**16)
    images = small_set(600, (3, 16, 16))
    save(sources.Dataset(images, None, ()), tmp_path / "out", seed=None)
    np.testing.assert_array_equal([image for _, image, _ in records(tmp_path / "out" / "train_lmdb")], images.images)


# What is embedded and what is read


def test_the_embedded_sample_is_balanced_small_and_licensed() -> None:
    place = paths.data("fashion-mnist")
    assert sum(path.stat().st_size for path in place.iterdir()) < 3e6
    assert "MIT License" in (place / "LICENSE").read_text("utf-8")
    dataset = load("fashion-mnist-sample")
    assert np.bincount(dataset.train.labels).tolist() == [500] * 10
    assert np.bincount(dataset.test.labels).tolist() == [100] * 10


@pytest.mark.skipif(not sources.DEBIAN_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_embedded_sample_is_what_sample_chooses(tmp_path: Path) -> None:
    sample.choose(sources.DEBIAN_FOLDER, tmp_path)
    for part in ("train", "test"):
        chosen, embedded = (idx.read_set(place, part) for place in (tmp_path, paths.data("fashion-mnist")))
        np.testing.assert_array_equal(chosen.images, embedded.images)
        np.testing.assert_array_equal(chosen.labels, embedded.labels)


def test_the_sample_takes_the_first_of_each_class() -> None:
    labels = np.array([2, 0, 2, 1, 0, 0, 2, 1])
    assert sample.first_of_each_class(labels, 2).tolist() == [0, 1, 2, 3, 4, 7]


def test_idx_round_trip_and_plain_files(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    idx.write(tmp_path / "a.gz", values)
    np.testing.assert_array_equal(idx.read(tmp_path / "a.gz", dimensions=3), values)
    (tmp_path / "a").write_bytes(gzip.decompress((tmp_path / "a.gz").read_bytes()))
    np.testing.assert_array_equal(idx.read(tmp_path / "a", dimensions=3), values)


def cifar_batches(count: int = 4) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    names = [name for part in cifar.BATCHES.values() for name in part]
    return {name: (rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.integers(0, 10, count)) for name in names}


def cifar_archive(path: Path, kind: str, batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """An archive laid out as the official one of that kind."""
    with tarfile.open(path, "w:gz") as tar:
        for name, (data, labels) in batches.items():
            if kind == "binary":
                file = f"cifar-10-batches-bin/{name}.bin"
                content = b"".join(bytes([label]) + row.tobytes() for row, label in zip(data, labels, strict=True))
            else:
                file = f"cifar-10-batches-py/{name}"
                content = pickle.dumps({b"data": data, b"labels": labels.tolist(), b"batch_label": b"x"}, protocol=2)
            info = tarfile.TarInfo(file)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["binary", "python"])
@pytest.mark.parametrize("unpacked", [False, True], ids=["archive", "folder"])
def test_cifar10_is_written_as_convert_cifar_data_writes_it(tmp_path: Path, kind: str, unpacked: bool) -> None:
    batches = cifar_batches()
    source = cifar_archive(tmp_path / f"cifar-10-{kind}.tar.gz", kind, batches)
    if unpacked:
        with tarfile.open(source) as tar:
            tar.extractall(tmp_path / "unpacked", filter="data")
        source = tmp_path / "unpacked"
    save(load("cifar10", source), tmp_path / "out", seed=None)
    found = records(tmp_path / "out" / "train_lmdb")
    assert [key for key, _, _ in found] == [b"%05d" % n for n in range(20)]
    expected = np.concatenate([batches[f"data_batch_{n}"][0] for n in range(1, 6)])
    np.testing.assert_array_equal([image.ravel() for _, image, _ in found], expected)  # channels stay red, green, blue
    assert [label for *_, label in records(tmp_path / "out" / "test_lmdb")] == batches["test_batch"][1].tolist()


def test_python_batches_as_the_official_archive_pickles_them() -> None:
    """Python 2's NumPy named its rebuilding function numpy.core.multiarray._reconstruct."""
    data = np.arange(3072, dtype=np.uint8).reshape(1, 3072)
    content = pickle.dumps({b"data": data, b"labels": [3]}, protocol=2)
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    images, labels = cifar._read_pickle(old, Path("data_batch_1"))
    np.testing.assert_array_equal(images, data)
    assert labels.tolist() == [3]


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (9, 12)) -> np.ndarray:
    """A random PNG; its pixels as blue, green, red."""
    cv2 = pytest.importorskip("cv2")
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return pixels


def test_image_folder_with_train_and_val(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "in/train/cat/a.png")
    picture(tmp_path / "in/train/dog/b.png", 1)
    picture(tmp_path / "in/val/cat/c.png", 2)
    picture(tmp_path / "in/val/dog/d.png", 3)
    dataset = load("folder", tmp_path / "in")
    assert dataset.classes == ("cat", "dog")
    save(dataset, tmp_path / "out", seed=None)
    (key, image, label), (_, _, other) = records(tmp_path / "out/train_lmdb")
    assert (key, label, other) == (b"00000000_cat/a.png", 0, 1)  # convert_imageset
    np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))
    assert (tmp_path / "out/labels.txt").read_text() == "cat\ndog\n"


def test_list_file_resize_and_gray(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = picture(tmp_path / "with space.png")
    (tmp_path / "list.txt").write_text("with space.png 41\n")
    options = sources.FolderOptions(resize=(5, 7), train_list=str(tmp_path / "list.txt"))
    dataset = load("folder", tmp_path, options=options)
    assert dataset.train.labels.tolist() == [41]
    np.testing.assert_array_equal(dataset.train.images[0], cv2.resize(pixels, (7, 5)).transpose(2, 0, 1))
    grey = load("folder", tmp_path, options=sources.FolderOptions(gray=True, train_list=str(tmp_path / "list.txt")))
    assert grey.train.images[0].shape == (1, 9, 12)
    assert save(grey, tmp_path / "out") == (1, 9, 12)


def test_split_takes_its_share_of_every_class(tmp_path: Path) -> None:
    for n in range(10):
        picture(tmp_path / f"in/a/{n}.png", n)
        picture(tmp_path / f"in/b/{n}.png", n)
    whole, _ = folder.read_classes(tmp_path / "in")
    train, test = folder.split(whole, 0.2, seed=4)
    assert np.bincount(train.labels).tolist() == [8, 8]
    assert np.bincount(test.labels).tolist() == [2, 2]
    assert not set(train.names) & set(test.names)


# What is refused


def fails(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    """The one line that `rootgen data` fails with."""
    assert main(["data", *words]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def fashion_folder(path: Path) -> Path:
    """A tiny folder laid out as Fashion-MNIST."""
    for images, labels in idx.FILES.values():
        idx.write(path / f"{images}.gz", np.zeros((4, 28, 28), np.uint8))
        idx.write(path / f"{labels}.gz", np.arange(4))
    return path


def test_damaged_idx_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = fashion_folder(tmp_path / "in")
    words = ["fashion-mnist", "--source", str(source), "--out", str(tmp_path / "out")]
    images = source / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[:-9])
    assert "corrupt gzip" in fails(words, capsys)
    images.write_bytes(whole[:12] + b"\xff\xff" + whole[14:])
    assert "corrupt gzip" in fails(words, capsys)
    images.write_bytes(gzip.compress(gzip.decompress(whole)[:-5]))
    assert "4 x 28 x 28 = 3136 bytes, 3131 follow" in fails(words, capsys)
    images.write_bytes((source / "train-labels-idx1-ubyte.gz").read_bytes())
    assert "images are idx3, labels idx1" in fails(words, capsys)
    images.write_bytes(b"")
    assert "begins with 0x" in fails(words, capsys)
    idx.write(images, np.zeros((3, 28, 28), np.uint8))
    assert "3 images, but train-labels-idx1-ubyte.gz has 4 labels" in fails(words, capsys)
    images.unlink()
    assert "neither 'train-images-idx3-ubyte.gz' nor" in fails(words, capsys)
    assert not (tmp_path / "out").exists()


def test_an_idx_header_larger_than_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1))
    with pytest.raises(RootgenError, match="0 follow"):
        idx.read(tmp_path / "a", dimensions=3)


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_damaged_cifar_archives(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    batches = cifar_batches()
    archive = cifar_archive(tmp_path / "cifar.tar.gz", kind, batches)
    words = ["cifar10", "--source", str(archive), "--out", str(tmp_path / "out")]
    archive.write_bytes(archive.read_bytes()[:5000])
    assert "not a whole tar archive" in fails(words, capsys)
    archive.write_bytes(b"hello")
    assert "not a whole tar archive" in fails(words, capsys)
    lost = {name: batch for name, batch in batches.items() if name != "data_batch_3"}
    cifar_archive(archive, kind, lost)
    assert main(["data", *words]) == 1
    assert "has no batch 'data_batch_3'" in capsys.readouterr().err
    cifar_archive(archive, kind, {**batches, "data_batch_1": (batches["data_batch_1"][0], np.array([1, 2, 10, 3]))})
    assert main(["data", *words]) == 1
    assert "labels from 1 to 10" in capsys.readouterr().err
    cifar_archive(archive, kind, {**batches, "data_batch_1": (batches["data_batch_1"][0][:, :99], np.arange(4))})
    assert main(["data", *words]) == 1
    assert "fetch it again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return os.mkdir, (str(tmp_path / "made"),)

    for content in (pickle.dumps(Evil(), protocol=2), b"", b"\x80\x02cnumpy\nload\n."):
        with pytest.raises(RootgenError):
            cifar._read_pickle(content, Path("data_batch_1"))
    assert not (tmp_path / "made").exists()


def test_bad_image_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["folder", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert "no such folder" in fails(words, capsys)
    (tmp_path / "in").mkdir()
    assert "has no sub-folder of images" in fails(words, capsys)
    (tmp_path / "in/empty").mkdir()
    assert "class folder 'empty' holds no image" in fails(words, capsys)
    picture(tmp_path / "in/empty/a.png")
    picture(tmp_path / "in/empty/b.png", size=(8, 12))
    assert "give --resize HxW" in fails(words, capsys)
    (tmp_path / "in/empty/b.png").write_bytes(b"no picture")
    assert "b.png: not an image that OpenCV can decode" in fails(words, capsys)
    (tmp_path / "in/empty/b.png").write_bytes(b"")
    assert "b.png: not an image that OpenCV can decode" in fails(words, capsys)
    for text, message in (
        ("", "lists no images"),
        ("a.png", "is no 'path label' line"),
        ("empty/a.png -1", "is no 'path label' line"),
        ("empty/a.png 99999999999", "is no 'path label' line"),
        ("empty/a.png 0\nempty/x.png 1", "list.txt:2: no file 'empty/x.png'"),
    ):
        (tmp_path / "list.txt").write_text(text)
        assert message in fails([*words, "--list", str(tmp_path / "list.txt")], capsys)
    assert not (tmp_path / "out").exists()


def test_images_beyond_memory_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "in/a/a.png")
    words = ["folder", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    for size in ("30000x30000", "99999999x99999999", "99999999999x1"):
        message = f"images of 3x{size} are too large: their mean has to be below protobuf's 2 GiB (a smaller --resize)"
        assert message in fails([*words, "--resize", size], capsys)
    assert "are too large: " in fails([*words, "--resize", "30000x30000", "--gray"], capsys)
    assert "are too large: " in fails([*words, "--pad", "9999999"], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--resize 12000x12000", "--pad 3000"])
def test_want_of_memory_is_one_line(tmp_path: Path, option: str) -> None:
    picture(tmp_path / "in/a/a.png")
    words = ["data", "folder", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *option.split()]
    code = f"""
import resource, sys
import cv2, numpy
from rootgen import cli
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 3 * 2**28, held + 3 * 2**28))
sys.exit(cli.main({words!r}))
"""
    done = run_apart(code)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("rootgen data: ")
    assert "memory" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_file_names_that_are_no_utf_8_are_kept(tmp_path: Path) -> None:
    import lmdb

    picture(tmp_path / "0.png")
    folder_of_class = tmp_path / "in" / os.fsdecode(b"\xfe")
    folder_of_class.mkdir(parents=True)
    (tmp_path / "0.png").rename(folder_of_class / os.fsdecode(b"\xff.png"))
    assert main(["data", "folder", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    with lmdb.open(str(tmp_path / "out/train_lmdb"), readonly=True) as env, env.begin() as txn:
        assert [key for key, _ in txn.cursor()] == [b"00000000_\xfe/\xff.png"]
    assert (tmp_path / "out/labels.txt").read_bytes() == b"\xfe\n"


def test_options_that_would_do_nothing_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["fashion-mnist-sample", "--resize", "8x8"], "--resize is for image folders"),
        (["cifar10", "--test-fraction", "0.5"], "--test-fraction is for image folders"),
        (["fashion-mnist-sample", "--no-shuffle", "--seed", "0"], "--seed does nothing with --no-shuffle"),
        (["folder", "--source", "x", "--test-list", "x"], "--test-list goes with --list"),
        (["folder", "--source", "x", "--list", "x", "--test-list", "x", "--test-fraction", "0.1"], "goes without"),
    ):
        assert main(["data", *words, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    for part in ("train", "test"):
        picture(tmp_path / "in" / part / "a" / "0.png")
    words = ["folder", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--test-fraction", "0.1"]
    assert "has a test set of its own" in fails(words, capsys)
    picture(tmp_path / "own/a/0.png")
    picture(tmp_path / "own/a/1.png")
    words = ["folder", "--source", str(tmp_path / "own"), "--out", str(tmp_path / "out"), "--test-fraction", "0.5"]
    assert main(["data", *words, "--no-shuffle", "--seed", "9"]) == 0  # the seed chooses the test set


def test_existing_output_is_refused_or_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["fashion-mnist", "--source", str(fashion_folder(tmp_path / "in")), "--out", str(out)]
    assert main(["data", *words]) == 0
    capsys.readouterr()
    before = (out / "mean.binaryproto").stat().st_ino
    assert "give --force to replace it" in fails(words, capsys)
    assert (out / "mean.binaryproto").stat().st_ino == before
    assert main(["data", *words, "--force"]) == 0
    assert (out / "mean.binaryproto").stat().st_ino != before
    capsys.readouterr()
    (out / "thesis.tex").touch()
    assert "holds thesis.tex" in fails([*words, "--force"], capsys)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".partial")] == []


@pytest.mark.parametrize("words", [["no-set"], ["folder"], ["fashion-mnist-sample", "--source", "x"]])
def test_wrong_names(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails([*words, "--out", str(tmp_path / "out")], capsys, code=2 if words == ["no-set"] else 1)


def run_apart(code: str, *, stop: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own; with `stop`, interrupt it once it says that it writes."""
    environment = {**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) as process:
        if stop:
            assert process.stdout.readline() == "writing\n"
            process.send_signal(signal.SIGTERM if stop == "kill" else signal.SIGINT)
        out, error = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, out, error)


@pytest.mark.parametrize("how", ["Ctrl-C", "kill"])
def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, how: str) -> None:
    code = f"""
import signal, sys, time
from rootgen import cli
from rootgen.proto.database import Writer
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with it ignored
write = Writer.put
def put(*args):
    write(*args)
    print("writing", flush=True)
    time.sleep(30)
Writer.put = put
sys.exit(cli.main(["data", "fashion-mnist-sample", "--out", {str(tmp_path / "out")!r}]))
"""
    done = run_apart(code, stop=how)  # type: ignore[arg-type]
    assert done.returncode == 130
    assert done.stderr == "rootgen data: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import resource, sys
from rootgen import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
sys.exit(cli.main(["data", "fashion-mnist-sample", "--out", {str(tmp_path / "out")!r}]))
"""
    done = run_apart(code)
    assert done.returncode == 1
    assert done.stderr.startswith("rootgen data: ")
    assert done.stderr.count("\n") == 1
    assert "is the disk full?" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def server(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A web server of tmp_path/www; its address."""
    (tmp_path / "www").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()
        thread.join()


def test_downloads_are_checked_and_kept(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTGEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "www/file").write_bytes(b"content" * 1000)
    md5 = hashlib.md5(b"content" * 1000, usedforsecurity=False).hexdigest()
    with pytest.raises(RootgenError, match="the published file 0123"):
        download.fetch(server + "file", "0123")
    assert list((tmp_path / "cache/datasets").iterdir()) == []
    seen: list[tuple[str, int, int]] = []
    path = download.fetch(server + "file", md5, lambda *progress: seen.append(progress))
    assert path.read_bytes() == b"content" * 1000
    assert seen == [("download file", 7000, 7000)]
    (tmp_path / "www/file").unlink()
    assert download.fetch(server + "file", md5) == path
    with pytest.raises(RootgenError, match=r"cannot download: .*--source"):
        download.fetch(server + "other", md5)


def test_mean_bytes_are_a_blob_of_one_image() -> None:
    mean = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    blob = schema.BlobProto.FromString(mean_bytes(mean))
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, 3, 4, 5)
    np.testing.assert_array_equal(np.array(blob.data, np.float32).reshape(3, 4, 5), mean)


def test_an_interrupt_while_the_new_set_is_put_on_the_disk_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rootgen import files

    data = Dataset(small_set(), None, ("a",) * 10)
    save(data, tmp_path / "set")
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(data, tmp_path / "set", force=True)
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_full_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset(small_set(), None, ("a",) * 10)
    save(data, tmp_path / "set")
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "set":
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(RootgenError, match="Input/output error"):
        save(data, tmp_path / "set", force=True)
    assert (tmp_path / "set/train_lmdb/data.mdb").is_file()


def test_a_set_goes_where_a_link_leads_and_not_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset(small_set(), None, ("a",) * 10)
    save(data, tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    save(data, tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/train_lmdb/data.mdb").is_file()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RootgenError, match="not replaced: it holds"):
        save(data, ".", force=True)
