"""Image files of many sizes as Caffe reads them: LMDBs of JPEG or of pixels, the shorter side brought to one length.

Pillow decodes and resizes (bilinear over the pixels that fall together, as torchvision does it), on all cores. Sides
keep their proportion, so that there is no mean image; the channels' means take its place. What cannot be decoded is
left out and listed. Work is not done twice: what a kill leaves in .NAME.unfinished beside NAME is gone on with.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.datasets.catalogue import Dataset
from rootgen.datasets.folder import MAX_FILE, MAX_PIXELS, Files
from rootgen.datasets.image_set import ImageSet
from rootgen.datasets.save import LABELS, LISTED, MEAN_VALUES, STATE, lock_of, refuse_existing
from rootgen.errors import RootgenError
from rootgen.files import read_bytes, sync, write_text
from rootgen.locks import locked
from rootgen.progress import Report, silent
from rootgen.proto import schema
from rootgen.proto.database import Writer

BATCH = 256  # images of a transaction, after each of which the work can be gone on with
ENCODINGS = ("jpeg", "raw")
_FORMS = {".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".pgm": "PPM", ".png": "PNG", ".ppm": "PPM"} | {
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class Packing:
    """How images are stored.

    shortest: pixels of the shorter side; 0 leaves sizes as they are. encoding: "jpeg" (of `quality`; an RGB JPEG that
    keeps its size stays as it is, byte for byte) or "raw", bytes in the order blue, green, red. gray: one channel
    instead. seed: of the order of the training images (None: as they come); test images stay in order.
    """

    shortest: int = 256
    encoding: str = ENCODINGS[0]
    quality: int = 95
    gray: bool = False
    seed: int | None = 0


@dataclass(frozen=True)
class _Record:
    """An image ready to be written; `content` is None of one that cannot be read, `odd` says what is not as usual."""

    content: bytes | None
    label: int
    shape: tuple[int, int, int] = (0, 0, 0)
    sums: tuple[float, ...] = ()
    odd: str = ""


@dataclass
class Packed:
    """What one LMDB got: records, and the sums (of pixel values, by channel in Caffe's order) that make the mean.

    done: how many images were gone through so far. odd: `name: why` of each left out, or put into another form.
    """

    done: int = 0
    records: int = 0
    pixels: int = 0
    sums: list[float] = field(default_factory=list)
    left_out: int = 0
    odd: list[str] = field(default_factory=list)

    @property
    def means(self) -> list[float]:
        """Mean value of each channel, in Caffe's order."""
        return [total / self.pixels for total in self.sums]

    def count(self, names: Sequence[str], indices: Sequence[int], records: Sequence[_Record]) -> None:
        """Take the images `indices` of `names` in, which became `records`."""
        self.done += len(records)
        for i, record in zip(indices, records, strict=True):
            if record.odd:
                self.odd.append(f"{names[i]}: {record.odd}")
            if record.content is None:
                self.left_out += 1
                continue
            self.records += 1
            self.pixels += record.shape[1] * record.shape[2]
            self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(record.sums), record.sums, strict=True)]


def pack(
    dataset: Dataset, out: str | Path, packing: Packing, *, force: bool = False, report: Report = silent
) -> dict[str, Packed]:
    """Make LMDBs, labels.txt and mean_values.txt of image files in the folder `out`; what each LMDB got, by its name.

    RootgenError where no image of a set can be read.
    """
    out = Path(out)
    sets = {"train_lmdb": (dataset.train, packing.seed)}
    if dataset.test is not None:
        sets["test_lmdb"] = (dataset.test, None)
    refuse_existing(out, force)
    with locked(lock_of(out), str(out)):
        refuse_existing(out, force)
        work = _Work(lock_of(out).with_suffix(".unfinished"), sets, packing, report)
        try:
            for name, (images, seed) in sets.items():
                work.write(name, images, seed)
            work.put_facts(dataset)
        except BaseException:
            if any(one.records for one in work.packed.values()):
                log.warning("%s: not finished; the same command goes on from here", out)
            else:
                shutil.rmtree(work.folder, ignore_errors=True)
            raise
        _put(work.folder, Path(os.path.realpath(out)))
    return work.packed


def _put(folder: Path, out: Path) -> None:
    """Give the finished `folder` its name; what has it goes when the new one is there."""
    old = folder.with_suffix(".replaced")
    if out.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    folder.rename(out)
    (out / STATE).unlink()
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


class _Work:
    """The unfinished folder: what is in it, how far it is, and the rest of the work."""

    def __init__(
        self, folder: Path, sets: dict[str, tuple[ImageSet, int | None]], packing: Packing, report: Report
    ) -> None:
        self.folder, self.packing, self.report = folder, packing, report
        self.key = _key(sets, packing)
        self.packed = self._found()
        if self.packed:
            log.info("%s: goes on after %d images", folder, sum(one.done for one in self.packed.values()))
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def _found(self) -> dict[str, Packed]:
        """What an earlier run of the same work did; nothing where that cannot be told."""
        try:
            state = json.loads(read_bytes(self.folder / STATE))
            return (
                {name: Packed(**facts) for name, facts in state["packed"].items()} if state["key"] == self.key else {}
            )
        except (RootgenError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _save(self) -> None:
        state = {"key": self.key, "packed": {name: asdict(one) for name, one in self.packed.items()}}
        write_text(self.folder / STATE, json.dumps(state))

    def write(self, name: str, images: ImageSet, seed: int | None) -> None:
        """Go through what is left of `images`; each transaction is on the disk before the state that counts it."""
        order = np.arange(len(images))
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        so_far = self.packed.setdefault(name, Packed())
        with Writer(self.folder / name, keep=so_far.records) as writer, ThreadPoolExecutor(os.cpu_count()) as pool:
            for indices, records in self._records(pool, images, order[so_far.done :]):
                good = [(i, one.content) for i, one in zip(indices, records, strict=True) if one.content is not None]
                keys = [images.key(so_far.records + place, i) for place, (i, _) in enumerate(good)]
                writer.put_encoded(keys, [content for _, content in good])
                so_far.count(_files(images).names, indices, records)
                self._save()
                self.report(f"write {name}", so_far.done, len(order))
        if not so_far.records:
            first = so_far.odd[0] if so_far.odd else "there is none"
            raise RootgenError(f"not one image can be read: {first}", where=_files(images).root)

    def _records(
        self, pool: ThreadPoolExecutor, images: ImageSet, order: np.ndarray
    ) -> Iterator[tuple[list[int], list[_Record]]]:
        """Batches of images by their indices, each made while the one before is written."""
        batches = [order[start : start + BATCH].tolist() for start in range(0, len(order), BATCH)]
        jobs: deque[list[Future[_Record]]] = deque()
        try:
            for number in range(len(batches)):
                for later in batches[number + len(jobs) : number + 2]:
                    jobs.append([pool.submit(_record, images, i, self.packing) for i in later])
                yield batches[number], [job.result() for job in jobs.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def put_facts(self, dataset: Dataset) -> None:
        """The files beside the LMDBs."""
        means = self.packed["train_lmdb"].means
        write_text(self.folder / MEAN_VALUES, ",".join(f"{mean:.3f}" for mean in means) + "\n")
        odd = [line for one in self.packed.values() for line in one.odd]
        if odd:
            write_text(self.folder / LISTED, "\n".join(odd) + "\n")
        if dataset.classes:
            write_text(self.folder / LABELS, "\n".join(dataset.classes) + "\n")
        sync(self.folder)


def _key(sets: dict[str, tuple[ImageSet, int | None]], packing: Packing) -> str:
    """What the work depends on: another list of images, or another form of them, begins anew."""
    digest = hashlib.sha256(json.dumps(asdict(packing)).encode())
    for name, (images, _) in sets.items():
        files = _files(images)
        digest.update("\n".join((name, str(files.root), *files.names, "")).encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(images.labels, np.int64).tobytes())
    return digest.hexdigest()


def _files(images: ImageSet) -> Files:
    if not isinstance(images.images, Files):
        raise TypeError("only sets of files are packed")
    return images.images


def _record(images: ImageSet, index: int, packing: Packing) -> _Record:
    """Decode, resize and encode one image; an image that cannot be read becomes a record without content."""
    from PIL import Image

    files, label = _files(images), int(images.labels[index])
    path = files.root / files.names[index]
    content = read_bytes(path, most=MAX_FILE)
    mode = "L" if packing.gray else "RGB"
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            form, own_mode = image.format, image.mode
            image.load()  # all of it: what is cut short fails
            whole = image.convert(mode)
        scaled = _scaled(whole, packing.shortest)
    except Exception as error:  # damaged images fail in every possible way
        return _Record(None, label, odd=f"left out: {str(error).replace(str(path), 'the image')[:200]}")
    usual = form == _FORMS.get(path.suffix.lower()) and own_mode in ("RGB", "L")
    pixels = np.asarray(scaled).reshape(scaled.height, scaled.width, -1)[:, :, ::-1]
    shape = (pixels.shape[2], scaled.height, scaled.width)
    if packing.encoding == "raw":
        datum = schema.Datum(data=pixels.transpose(2, 0, 1).tobytes())
    elif scaled is whole and (form, own_mode) == ("JPEG", mode):
        datum = schema.Datum(data=content, encoded=True)
    else:
        file = io.BytesIO()
        scaled.save(file, "JPEG", quality=packing.quality)
        datum = schema.Datum(data=file.getvalue(), encoded=True)
    datum.channels, datum.height, datum.width = shape
    datum.label = label
    sums = tuple(float(total) for total in pixels.sum((0, 1), np.float64))
    return _Record(schema.to_bytes(datum), label, shape, sums, "" if usual else f"was a {form} of {own_mode}")


def _scaled(image: Any, shortest: int) -> Any:
    """`image` with its shorter side of `shortest` pixels and its proportions kept; itself where it is so, or for 0.

    ValueError where the longer side would come to more than anybody reads.
    """
    from PIL import Image

    width, height = image.size
    if not shortest or min(width, height) == shortest:
        return image
    ratio = shortest / min(width, height)
    size = tuple(
        shortest if side == min(width, height) else max(shortest, round(side * ratio)) for side in (width, height)
    )
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{size[0]} x {size[1]} pixels")
    return image.resize(size, Image.Resampling.BILINEAR)
