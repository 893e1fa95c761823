"""ImageNet's layout in small, and images of many sizes: packed, gone on with, read by both engines."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from rootgen.cli import main
from rootgen.datasets import imagenet, load, pack
from rootgen.datasets.record import Packing
from rootgen.datasets.save import lock_of
from rootgen.engine.datum import image_of
from rootgen.errors import RootgenError
from rootgen.proto import schema
from rootgen.proto.database import Database

ROOT = Path(__file__).resolve().parents[2]
SYNSETS = ("n01440764", "n01443537", "n02105855")
VAL = [2, 0, 1, 1]  # classes of the validation images 1 to 4
IDS = {"n01440764": 3, "n01443537": 1, "n02105855": 2}  # the development kit has an order of its own


def picture(seed: int, size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """A smooth picture of (width, height) that JPEG hardly changes."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with 3 x 4 images, val/ with 4 and Caffe's val.txt; four images are not as usual."""
    root = tmp_path_factory.mktemp("ilsvrc")
    sizes = [(40, 30), (30, 64), (32, 32), (100, 50)]
    for label, synset in enumerate(SYNSETS):
        (root / "train" / synset).mkdir(parents=True)
        for number, size in enumerate(sizes):
            picture(10 * label + number, size).save(root / f"train/{synset}/{synset}_{number}.JPEG", quality=95)
    (root / "val").mkdir()
    for number in range(1, 5):
        picture(100 + number, (50, 40)).save(root / f"val/ILSVRC2012_val_{number:08}.JPEG", quality=95)
    (root / "val.txt").write_text("".join(f"ILSVRC2012_val_{i:08}.JPEG {label}\n" for i, label in enumerate(VAL, 1)))
    first = root / "train" / SYNSETS[0]
    picture(0, (40, 30), "CMYK").save(first / f"{SYNSETS[0]}_0.JPEG", quality=95)
    picture(1, (30, 64)).save(first / f"{SYNSETS[0]}_1.JPEG", "PNG")
    picture(2, (32, 32), "L").save(first / f"{SYNSETS[0]}_2.JPEG")
    whole = (first / f"{SYNSETS[0]}_3.JPEG").read_bytes()
    (first / f"{SYNSETS[0]}_3.JPEG").write_bytes(whole[: len(whole) // 2])
    return root


def kit_of(root: Path, numbers: str) -> None:
    """Put the development kit, with this ground truth, into `root` in place of Caffe's."""
    kit = root / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    (root / "val.txt").unlink(missing_ok=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(numbers)
    kind = [("ILSVRC2012_ID", float), ("WNID", object), ("words", object)]
    table = np.array([(number, synset, f"words of {synset}") for synset, number in IDS.items()], kind)
    savemat(kit / "meta.mat", {"synsets": table[:, None]})


def kaggle_of(root: Path, line: str) -> None:
    """Put Kaggle's ground truth, of this line, into `root` in place of Caffe's."""
    (root / "val.txt").unlink()
    (root / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{line}\n")


def records(folder: Path) -> list[tuple[str, int, np.ndarray]]:
    """(key, label, pixels) of every record."""
    database = Database(folder)
    found = itertools.islice(database.read(0), database.size)
    param = schema.TransformationParameter()
    return [(where.split("'")[1], datum.label, image_of(datum, param, where)) for where, datum in found]


def test_the_layout_becomes_what_caffe_reads(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    assert main(["data", "imagenet", "--source", str(source), "--out", str(out), "--shortest", "32"]) == 0
    told = capsys.readouterr()
    assert f"{out}/train_lmdb: 11 images (of the 1281167 published), shorter side 32, JPEG\n" in told.out
    assert f"{out}/test_lmdb: 4 images (of the 50000 published)" in told.out
    assert "3 images were not as usual, 1 of them left out" in told.err
    odd = (out / "odd_images.txt").read_text()
    for line in ("_0.JPEG: was a JPEG of CMYK", "_1.JPEG: was a PNG of RGB", "_3.JPEG: left out: "):
        assert f"train/{SYNSETS[0]}/{SYNSETS[0]}{line}" in odd
    assert odd.count("\n") == 3
    assert (out / "labels.txt").read_text().split() == list(SYNSETS)
    train, test = records(out / "train_lmdb"), records(out / "test_lmdb")
    assert [label for _, label, _ in test] == VAL
    assert [key for key, _, _ in test] == [f"{i:08}_val/ILSVRC2012_val_{i + 1:08}.JPEG" for i in range(4)]
    assert all(min(pixels.shape[1:]) == 32 and pixels.shape[0] == 3 for _, _, pixels in train + test)
    assert {key.split("/")[1]: label for key, label, _ in train} == {synset: i for i, synset in enumerate(SYNSETS)}
    names = [key.split("_", 1)[1] for key, _, _ in train]
    assert names != sorted(names)  # shuffled
    for key, _, pixels in train:
        file = Image.open(source / key.split("_", 1)[1]).convert("RGB")
        ratio = 32 / min(file.size)
        assert pixels.shape[1:] == (round(file.height * ratio), round(file.width * ratio))
        wanted = np.asarray(file.resize(pixels.shape[:0:-1], Image.Resampling.BILINEAR))[:, :, ::-1]
        assert np.abs(pixels.transpose(1, 2, 0).astype(int) - wanted).mean() < 2
    means = [float(word) for word in (out / "mean_values.txt").read_text().split(",")]
    pixels = np.concatenate([one.reshape(3, -1) for _, _, one in train], 1)
    assert means == pytest.approx(pixels.mean(1), abs=1)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_seed_orders_the_training_images_alone(tmp_path: Path, source: Path) -> None:
    dataset = load("imagenet", source)
    orders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1), ("d", None)):
        pack.pack(dataset, tmp_path / name, Packing(32, seed=seed))
        orders.append([key.split("_", 1)[1] for key, _, _ in records(tmp_path / name / "train_lmdb")])
    assert orders[0] == orders[1] != orders[2]
    assert orders[3] == sorted(orders[0])


@pytest.mark.parametrize("form", ["folders", "kaggle", "devkit", "named"])
def test_every_form_of_ground_truth_gives_the_same_labels(tmp_path: Path, source: Path, form: str) -> None:
    root = tmp_path / "ilsvrc"
    (root / "val").mkdir(parents=True)
    (root / "train").symlink_to(source / "train")
    truth = None
    for number, label in enumerate(VAL, 1):
        name = f"ILSVRC2012_val_{number:08}.JPEG"
        place = root / "val" / SYNSETS[label] if form == "folders" else root / "val"
        place.mkdir(exist_ok=True)
        (place / name).symlink_to(source / "val" / name)
    if form == "kaggle":
        lines = [f"ILSVRC2012_val_{i:08},{SYNSETS[label]} 1 2 3 4 " for i, label in enumerate(VAL, 1)]
        (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n")
        (root / "LOC_synset_mapping.txt").write_text(f"{SYNSETS[1]} goldfish, Carassius auratus\n")
    if form == "devkit":
        kit_of(root, "".join(f"{IDS[SYNSETS[i]]}\n" for i in VAL))
    if form == "named":
        truth = tmp_path / "truth.txt"
        truth.write_text((source / "val.txt").read_text())
    _, val, classes = imagenet.read(root, truth)
    found = dict(zip((Path(name).name for name in val.names or ()), val.labels.tolist(), strict=True))
    assert found == {f"ILSVRC2012_val_{number:08}.JPEG": label for number, label in enumerate(VAL, 1)}
    if form == "kaggle":
        assert classes == (SYNSETS[0], f"{SYNSETS[1]} goldfish, Carassius auratus", SYNSETS[2])
    if form == "devkit":
        assert classes == tuple(f"{synset} words of {synset}" for synset in SYNSETS)


def test_images_that_keep_their_size_keep_their_bytes(tmp_path: Path, source: Path) -> None:
    packed = pack.pack(load("imagenet", source), tmp_path / "data", Packing(0))
    assert packed["train_lmdb"].records == 11
    database = Database(tmp_path / "data" / "train_lmdb")
    changed = []
    for where, datum in itertools.islice(database.read(0), 11):
        name = where.split("'")[1].split("_", 1)[1]
        if datum.data != (source / name).read_bytes():
            changed.append(Path(name).name)
            assert Image.open(io.BytesIO(datum.data)).mode == "RGB"
    assert sorted(changed) == [f"{SYNSETS[0]}_{number}.JPEG" for number in (0, 1, 2)]


def test_raw_and_gray(tmp_path: Path, source: Path) -> None:
    words = ["--source", str(source), "--out", str(tmp_path / "raw"), "--shortest", "16", "--encoding", "raw", "--gray"]
    assert main(["data", "imagenet", *words]) == 0
    _, datum = next(Database(tmp_path / "raw" / "train_lmdb").read(0))
    assert (datum.encoded, datum.channels, min(datum.height, datum.width)) == (False, 1, 16)
    assert "," not in (tmp_path / "raw" / "mean_values.txt").read_text()


class _KilledError(BaseException):
    """What nothing expects."""


@pytest.mark.parametrize("place", ["report", "state", "records"])
@pytest.mark.parametrize("after", [1, 3, 6])
def test_what_was_stopped_anywhere_is_gone_on_with(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, place: str, after: int
) -> None:
    monkeypatch.setattr(pack, "BATCH", 2)
    dataset = load("imagenet", source)
    whole = pack.pack(dataset, tmp_path / "whole", Packing(32))
    calls = itertools.count(1)

    def stopped(run):  # type: ignore[no-untyped-def]
        def wrapped(*args, **options):  # type: ignore[no-untyped-def]
            if next(calls) == after:
                raise _KilledError
            return run(*args, **options)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack._Work, "_save", stopped(pack._Work._save)) if place == "state" else None
        patch.setattr(pack.Writer, "put_encoded", stopped(pack.Writer.put_encoded)) if place == "records" else None
        report = stopped(lambda *told: None) if place == "report" else pack.silent
        with pytest.raises(_KilledError):
            pack.pack(dataset, tmp_path / "broken", Packing(32), report=report)
    assert not (tmp_path / "broken").exists()
    begun: list[int] = []
    found = pack.pack(dataset, tmp_path / "broken", Packing(32), report=lambda what, done, total: begun.append(done))
    assert found == whole
    assert begun[0] == 2 * (after if place == "report" else after - 1) % 12 + 2 or after == 6
    for name in ("train_lmdb", "test_lmdb"):
        for one, other in zip(records(tmp_path / "broken" / name), records(tmp_path / "whole" / name), strict=True):
            assert one[:2] == other[:2]
            assert (one[2] == other[2]).all()
    for name in ("labels.txt", "mean_values.txt", "odd_images.txt"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "whole"]


def test_a_kill_leaves_what_the_same_command_goes_on_with_and_another_does_not(tmp_path: Path, source: Path) -> None:
    many = tmp_path / "many"
    for synset in SYNSETS[:2]:
        (many / "train" / synset).mkdir(parents=True)
        for number in range(400):
            (many / "train" / synset / f"{number}.JPEG").symlink_to(
                source / "train" / SYNSETS[1] / f"{SYNSETS[1]}_3.JPEG"
            )
    (many / "val").symlink_to(many / "train")
    command = [sys.executable, "-m", "rootgen", "data", "imagenet", "--source", str(many), "--out"]
    out = tmp_path / "data"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, str(out), "--shortest", "300"], env=environment, stderr=subprocess.PIPE)
    state = lock_of(out).with_suffix(".unfinished") / "unfinished.json"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(
        [*command, str(out), "--shortest", "300"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "goes on after " in done.stderr
    assert Database(out / "train_lmdb").size == Database(out / "test_lmdb").size == 800
    assert not state.parent.exists()


def test_other_images_or_another_form_begin_anew(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "BATCH", 2)
    dataset = load("imagenet", source)
    out = tmp_path / "data"

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack.pack(dataset, out, Packing(32), report=stop)
    begun: list[int] = []
    pack.pack(dataset, out, Packing(16), report=lambda what, done, total: begun.append(done))
    assert begun[0] == 2
    state = lock_of(out).with_suffix(".unfinished") / "unfinished.json"
    for damage in ("{", "[]", '{"key": 1}'):
        with pytest.raises(KeyboardInterrupt):
            pack.pack(dataset, out, Packing(8), force=True, report=stop)
        state.write_text(damage)
        begun.clear()
        pack.pack(dataset, out, Packing(8), force=True, report=lambda what, done, total: begun.append(done))
        assert begun[0] == 2
        assert min(records(out / "train_lmdb")[0][2].shape[1:]) == 8


def test_any_folder_of_images_keeps_its_proportions_likewise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, number in itertools.product(("cat", "dog"), range(3)):
        (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
        picture(number, (60 + number, 40)).save(tmp_path / "own" / name / f"{number}.png")
    words = ["--source", str(tmp_path / "own"), "--test-fraction", "0.3", "--shortest", "20"]
    assert main(["data", "folder", *words, "--out", str(tmp_path / "data")]) == 0
    assert "train_lmdb: 4 images, shorter side 20, JPEG\n" in capsys.readouterr().out
    assert (tmp_path / "data" / "labels.txt").read_text() == "cat\ndog\n"
    assert {pixels.shape[1] for _, _, pixels in records(tmp_path / "data" / "train_lmdb")} == {20}
    assert not (tmp_path / "data" / "odd_images.txt").exists()  # PNG is what their names say


@pytest.mark.torch
@pytest.mark.parametrize("engine", ["torch", pytest.param("caffe", marks=pytest.mark.caffe)])
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_nets_train_on_it(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, engine: str, encoding: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pack.pack(load("imagenet", source), "data", Packing(32, encoding))
    means = Path("data/mean_values.txt").read_text().strip()
    words = ["--classes", "3", "--batch-size", "4", "--test-batch-size", "4", "--crop", "32", "--mean", means]
    assert main(["emit", "nin", "--root", "16", "--data", "data", *words, "-o", "net.prototxt"]) == 0
    sizes = ["--train-images", "11", "--test-images", "4", "--batch-size", "4", "--test-batch-size", "4"]
    assert main(["solver", "nin", "--net", "net.prototxt", *sizes, "--max-iter", "2", "-o", "solver.prototxt"]) == 0
    assert main(["train", "solver.prototxt", "--engine", engine]) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: (root / "val.txt").unlink(), "val/ has no folders of synsets, and there is none of val.txt"),
        (lambda root: (root / "val.txt").write_text("x.JPEG 0\n"), "names 'x.JPEG', which is not in val/"),
        (lambda root: (root / "val.txt").write_text("x.JPEG 3\n"), "val.txt:1: 'x.JPEG 3' is no 'name label' of 3"),
        (lambda root: (root / "val.txt").write_text("17\n"), "its numbers need meta.mat"),
        (lambda root: (root / "val.txt").write_text("../../etc/passwd 0\n"), "names 'passwd', which is not in val/"),
        (lambda root: (root / "val.txt").write_text(f"x.JPEG {'9' * 5000}\n"), "is no 'name label' of 3 classes"),
        (lambda root: kit_of(root, "9" * 5000), "ground_truth.txt:1: '99999999999999999999' is no synset's number"),
        (lambda root: kit_of(root, "3\n" * 5), "names 'ILSVRC2012_val_00000005.JPEG', which is not in val/"),
        (lambda root: kaggle_of(root, f'x,"{"n01440764 " * 20000}"'), "no table of CSV: field larger than"),
        (lambda root: kaggle_of(root, "x"), "LOC_val_solution.csv:2: '' is no synset of train/"),
        (lambda root: (root / "val.txt").write_text(""), "names no images"),
        (lambda root: (root / "train" / "cats").mkdir(), "'cats' is no synset, such as n01440764"),
        (lambda root: (root / "train" / "n00000001").mkdir(), "n00000001: holds no image"),
        (lambda root: (root / "val" / SYNSETS[0]).mkdir(), "train/ and val/ do not have the same synsets"),
        (lambda root: (root / "val").rename(root / "test"), "no val/ beside train/"),
        (lambda root: (root / "train").rename(root / "t"), "no train/ in it"),
    ],
)
def test_a_layout_that_is_none_is_one_line(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str], change, told: str
) -> None:
    import shutil

    root = shutil.copytree(source, tmp_path / "ilsvrc")
    change(root)
    assert main(["data", "imagenet", "--source", str(root), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ilsvrc"]


def test_classes_are_a_line_each_whatever_a_table_of_words_holds(tmp_path: Path, source: Path) -> None:
    (tmp_path / "train").symlink_to(source / "train")
    (tmp_path / "val").symlink_to(source / "train")
    kind = [("ILSVRC2012_ID", float), ("WNID", object), ("words", object)]
    table = np.array([(1, SYNSETS[0], "cat\n\x1b[31mdog")], kind)
    savemat(tmp_path / "meta.mat", {"synsets": table[:, None]})
    _, _, classes = imagenet.read(tmp_path)
    assert classes == (rf"{SYNSETS[0]} cat\n\x1b[31mdog", *SYNSETS[1:])


def test_images_that_are_none_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "val"):
        (tmp_path / "in" / part / SYNSETS[0]).mkdir(parents=True)
        (tmp_path / "in" / part / SYNSETS[0] / "a.JPEG").write_text("no picture")
    assert main(["data", "imagenet", "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    told = f"train/{SYNSETS[0]}/a.JPEG: left out: of no format that is read"
    assert f"{tmp_path}/in: not one image can be read: {told}\n" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["imagenet", "--resize", "32x32"], "--resize is for image"),
        (["imagenet", "--pad", "4"], "--pad is for images of one size"),
        (["imagenet", "--encoding", "raw", "--quality", "90"], "--quality is of JPEG alone"),
        (["folder", "--quality", "90"], "--quality is of JPEG alone"),
        (["folder", "--shortest", "32", "--resize", "8x8"], "--resize is for images of one size"),
        (["folder", "--ground-truth", "x"], "--ground-truth is for imagenet"),
        (["cifar10", "--shortest", "32"], "--shortest is for image files"),
    ],
)
def test_options_that_would_do_nothing(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(["data", *words, "--out", "x", "--source", "y"]) == 2
    assert told in capsys.readouterr().err


def test_imagenet_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(RootgenError, match="cannot be downloaded by a program"):
        load("imagenet")
