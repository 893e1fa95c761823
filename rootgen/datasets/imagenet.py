"""ILSVRC 2012 as it is published, unpacked: train/<synset>/*.JPEG, and val/ by synset or with its ground truth.

The ground truth of a flat val/ is any of the files that go with the images: Caffe's val.txt (`name label` a line,
labels in the order of the synsets), Kaggle's LOC_val_solution.csv, or the development kit's
ILSVRC2012_validation_ground_truth.txt, whose numbers its meta.mat translates.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.datasets.folder import MAX_LIST, Files
from rootgen.datasets.image_set import ImageSet
from rootgen.errors import RootgenError, did_you_mean, printable
from rootgen.files import read_bytes

TRAIN_IMAGES, VAL_IMAGES = 1_281_167, 50_000
"""How many there are (Russakovsky et al. 2015, arXiv:1409.0575, Table 2)."""
GROUND_TRUTHS = ("val.txt", "LOC_val_solution.csv", "ILSVRC2012_validation_ground_truth.txt")
WORDS = ("synset_words.txt", "LOC_synset_mapping.txt")  # `synset words` a line
META = "meta.mat"
MAX_META = 2**22  # bytes; what it holds is compressed
_SYNSET = re.compile(r"n\d{8}")
_PLACES = ("", "val", "data", "ILSVRC2012_devkit_t12/data", "devkit/data")  # where those files are looked for
_SUFFIXES = (".jpeg", ".jpg", ".png")


def read(source: str | Path, ground_truth: str | Path | None = None) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
    """Training images, validation images and the classes (`synset words`, or the synset alone), in synset order."""
    root = Path(source)
    synsets = _synsets(root / "train")
    train = _by_folder(root, "train", synsets)
    if not (root / "val").is_dir():
        raise RootgenError("no val/ beside train/", where=root, hint="unpack ILSVRC2012_img_val.tar into it")
    if ground_truth is None and any(map(_SYNSET.fullmatch, _folders(root / "val"))):
        val = _by_folder(root, "val", synsets)
    else:
        val = _by_ground_truth(root, _found(root, ground_truth), synsets)
    words = _words(root)
    return train, val, tuple(f"{synset} {words[synset]}" if synset in words else synset for synset in synsets)


def _synsets(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise RootgenError("no train/ in it", where=folder.parent, hint="ILSVRC 2012 unpacked: train/<synset>/*.JPEG")
    names = _folders(folder)
    odd = [name for name in names if not _SYNSET.fullmatch(name)]
    if odd or not names:
        what = f"'{odd[0]}' is no synset, such as n01440764" if odd else "no synset's folder in it"
        raise RootgenError(what, where=folder, hint="other images: rootgen data folder --shortest 256")
    return names


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _by_folder(root: Path, part: str, synsets: list[str]) -> ImageSet:
    """The images of `part`, a folder per synset."""
    names: list[str] = []
    labels: list[int] = []
    there = set(_folders(root / part))
    if there != set(synsets):
        odd = ", ".join(sorted(there ^ set(synsets))[:3])
        raise RootgenError(f"train/ and {part}/ do not have the same synsets: {odd}", where=root)
    for label, synset in enumerate(synsets):
        found = sorted(path.name for path in (root / part / synset).iterdir() if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise RootgenError("holds no image", where=root / part / synset, hint="unpack the synset's archive into it")
        names += [f"{part}/{synset}/{name}" for name in found]
        labels += [label] * len(found)
    return ImageSet(Files(root, names, None, False), np.array(labels, np.int64), names=names)


def _found(root: Path, named: str | Path | None) -> Path:
    """The ground truth's file: the one that is named, or one of those that are known, beside the images."""
    if named is not None:
        return Path(named)
    for name in GROUND_TRUTHS:
        for place in _PLACES:
            if (root / place / name).is_file():
                return root / place / name
    raise RootgenError(
        f"val/ has no folders of synsets, and there is none of {', '.join(GROUND_TRUTHS)}",
        where=root,
        hint="give one as --ground-truth",
    )


def _by_ground_truth(root: Path, path: Path, synsets: list[str]) -> ImageSet:
    """The images of a flat val/, labelled by the ground truth `path`."""
    text = read_bytes(path, most=MAX_LIST).decode("utf-8", "replace")
    label_of = {synset: label for label, synset in enumerate(synsets)}
    if not text.strip():
        raise RootgenError("names no images", where=path)
    if path.suffix == ".csv":
        pairs = list(_of_kaggle(text, path, label_of))
    elif any(" " in line.strip() for line in text.splitlines()[:1]):
        pairs = list(_of_caffe(text, path, len(synsets)))
    else:
        pairs = list(_of_devkit(text, path, label_of, root))
    names = [f"val/{name}" for name, _ in pairs]
    there = {path.name for path in (root / "val").iterdir()}
    missing = next((name for name, _ in pairs if name not in there), None)
    if missing is not None:
        raise RootgenError(f"names '{missing}', which is not in val/", where=path, hint=did_you_mean(missing, there))
    return ImageSet(Files(root, names, None, False), np.array([label for _, label in pairs], np.int64), names=names)


def _of_caffe(text: str, path: Path, classes: int) -> Iterator[tuple[str, int]]:
    """`ILSVRC2012_val_00000001.JPEG 65`: the label counts from 0, in synset order."""
    for number, line in enumerate(text.splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if line.strip() and not (name and label.isdecimal() and len(label) < 10 and int(label) < classes):
            raise RootgenError(f"'{line[:60]}' is no 'name label' of {classes} classes", where=f"{path}:{number}")
        if name:
            yield Path(name).name, int(label)


def _of_kaggle(text: str, path: Path, label_of: dict[str, int]) -> Iterator[tuple[str, int]]:
    """`ILSVRC2012_val_00048981,n03995372 85 1 499 272`: synset and boxes, several of them perhaps."""
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise RootgenError(f"no table of CSV: {error}", where=path) from None
    for number, row in enumerate(rows[1:], 2):
        synset = row[1].split(" ")[0] if len(row) > 1 else ""
        if synset not in label_of:
            raise RootgenError(f"'{synset}' is no synset of train/", where=f"{path}:{number}")
        yield f"{Path(row[0]).name}.JPEG", label_of[synset]


def _of_devkit(text: str, path: Path, label_of: dict[str, int], root: Path) -> Iterator[tuple[str, int]]:
    """A number a line, the synset's in the development kit, which are not in the synsets' order."""
    ids = {number: synset for number, synset, _ in _meta(_beside(path, root))}
    for number, line in enumerate(text.split(), 1):
        synset = ids.get(int(line)) if line.isdecimal() and len(line) < 10 else None
        if synset not in label_of:
            raise RootgenError(f"'{line[:20]}' is no synset's number of train/", where=f"{path}:{number}")
        yield f"ILSVRC2012_val_{number:08}.JPEG", label_of[synset]


def _beside(path: Path, root: Path) -> Path:
    places = [path.parent / META, *(root / place / META for place in _PLACES)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise RootgenError(f"its numbers need {META} of the development kit, beside it", where=path)
    return found


def _meta(path: Path) -> Iterator[tuple[int, str, str]]:
    """(number, synset, words) of every synset in the development kit's meta.mat."""
    from scipy.io import loadmat

    try:
        content = io.BytesIO(read_bytes(path, most=MAX_META))
        table: Any = np.atleast_1d(loadmat(content, squeeze_me=True, variable_names="synsets")["synsets"])
        rows = [(int(row["ILSVRC2012_ID"]), str(row["WNID"]), printable(str(row["words"]))) for row in table]
    except RootgenError:
        raise
    except Exception as error:  # files of this form fail in every possible way
        raise RootgenError(f"not the development kit's table of synsets: {error}", where=path) from None
    yield from rows


def _words(root: Path) -> dict[str, str]:
    """Synset -> what it is called, where a file that tells it lies beside the images."""
    for place in _PLACES:
        for name in WORDS:
            if (root / place / name).is_file():
                text = read_bytes(root / place / name, most=MAX_LIST).decode("utf-8", "replace")
                pairs = (line.partition(" ")[::2] for line in text.splitlines())
                return {synset: printable(words) for synset, words in pairs}
        if (root / place / META).is_file():
            return {synset: words for _, synset, words in _meta(root / place / META)}
    return {}
