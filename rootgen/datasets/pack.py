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
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.datasets.catalogue import Dataset
from rootgen.datasets.folder import MAX_FILE, Files
from rootgen.datasets.image_set import ImageSet
from rootgen.datasets.save import LABELS, LISTED, MEAN_VALUES, STATE, lock_of, refuse_existing
from rootgen.errors import RootgenError
from rootgen.files import read_bytes, sync, told, write_text
from rootgen.locks import locked
from rootgen.progress import Report, silent
from rootgen.proto import schema
from rootgen.proto.database import FORMATS, Writer, check_key, held

MAX_PIXELS = 89_478_485  # of an image: Pillow's own limit, which the readers of the LMDB keep to as well
BATCH = 256  # images of a transaction, after each of which the work can be gone on with
ENCODINGS = ("jpeg", "raw")
_FORMS = {".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".pgm": "PPM", ".png": "PNG", ".ppm": "PPM"} | {
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}

ORIENTATION = 0x0112  # EXIF's tag

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

    def fits(self, images: int, channels: int) -> bool:
        """Whether it can be what became of the first `done` of so many images; it may be any file's content."""
        counts = (self.done, self.records, self.left_out, self.pixels)
        return (
            all(type(count) is int and count >= 0 for count in counts)
            and self.records + self.left_out == self.done <= images
            and self.records <= self.pixels <= self.records * MAX_PIXELS
            and type(self.sums) is type(self.odd) is list
            and len(self.sums) == (channels if self.records else 0)
            and all(type(total) is float and 0 <= total <= 255 * self.pixels for total in self.sums)
            and self.left_out <= len(self.odd) <= self.done
            and all(type(line) is str for line in self.odd)
        )

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

    What is there of an image is not made again, even if its file has changed. RootgenError where no image of a set can
    be read, or where the file system refuses.
    """
    out = Path(out)
    if packing.shortest**2 > MAX_PIXELS:
        raise RootgenError(f"a shorter side of {packing.shortest} gives images of more than {MAX_PIXELS} pixels")
    sets = {"train_lmdb": (dataset.train, packing.seed)}
    if dataset.test is not None:
        sets["test_lmdb"] = (dataset.test, None)
    for images, _ in sets.values():
        names = _files(images).names
        check_key(images.key(0, max(range(len(names)), key=lambda i: len(os.fsencode(names[i])))))
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
        self.packed = self._found({name: len(images) for name, (images, _) in sets.items()})
        if self.packed:
            log.info("%s: goes on after %d images", folder, sum(one.done for one in self.packed.values()))
            return
        if (folder / STATE).exists():
            log.warning("%s: of other images, or another form of them, or damaged: begins anew", folder)
        with told(folder):
            if folder.is_symlink():
                folder.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def _found(self, sizes: dict[str, int]) -> dict[str, Packed]:
        """What an earlier run of the same work did, on sets of these sizes; nothing where that cannot be told."""
        try:
            facts = self.folder.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():  # it may lead anywhere
                return {}
            state = json.loads(read_bytes(self.folder / STATE))
            packed = {name: Packed(**told) for name, told in state["packed"].items()}
            channels = 1 if self.packing.gray else 3
            whole = all(
                one.fits(sizes[name], channels) and held(self.folder / name) >= one.records
                for name, one in packed.items()
            )
            return packed if whole and state["key"] == self.key else {}
        except (RootgenError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
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
        if not so_far.records:  # whatever is there, half a file of an LMDB among it
            shutil.rmtree(self.folder / name, ignore_errors=True)
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
        words = (name, os.path.realpath(files.root), *files.names, "")
        digest.update("\n".join(words).encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(images.labels, np.int64).tobytes())
    return digest.hexdigest()


def _files(images: ImageSet) -> Files:
    if not isinstance(images.images, Files):
        raise TypeError("only sets of files are packed")
    return images.images


def _record(images: ImageSet, index: int, packing: Packing) -> _Record:
    """Decode, resize and encode one image; an image that cannot be read becomes a record without content."""
    from PIL import Image, UnidentifiedImageError

    files, label = _files(images), int(images.labels[index])
    path = files.root / files.names[index]
    mode = "L" if packing.gray else "RGB"
    try:
        content = read_bytes(path, most=MAX_FILE)
    except RootgenError as error:
        cause = error.__cause__  # such as a disk that failed or a lost mount, which are no fault of this image's
        if isinstance(cause, OSError) and not isinstance(cause, IsADirectoryError):
            raise
        return _Record(None, label, odd=f"left out: {error.what}")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            form, own_mode = image.format, image.mode
            image.load()  # all of it: what is cut short fails
            image.info.pop("transparency", None)  # which has no place in the records, and Pillow warns of
            upright = _upright(image)
            whole = _of_8_bits(upright).convert(mode)
        scaled = _scaled(whole, packing.shortest)
    except Exception as error:  # damaged images fail in every possible way
        reason = "of no format that is read" if isinstance(error, UnidentifiedImageError) else str(error)[:200]
        return _Record(None, label, odd=f"left out: {reason}")
    odd = "" if form == _FORMS.get(path.suffix.lower()) and own_mode in ("RGB", "L") else f"was a {form} of {own_mode}"
    if upright is not image:
        odd = f"{odd}, " * bool(odd) + "was turned upright, as its EXIF data say"
    pixels = np.asarray(scaled).reshape(scaled.height, scaled.width, -1)[:, :, ::-1]
    shape = (pixels.shape[2], scaled.height, scaled.width)
    if packing.encoding == "raw":
        datum = schema.Datum(data=pixels.transpose(2, 0, 1).tobytes())
    elif scaled is whole and upright is image and (form, own_mode) == ("JPEG", mode):
        datum = schema.Datum(data=content, encoded=True)
    else:
        file = io.BytesIO()
        scaled.save(file, "JPEG", quality=packing.quality)
        datum = schema.Datum(data=file.getvalue(), encoded=True)
    datum.channels, datum.height, datum.width = shape
    datum.label = label
    sums = tuple(float(total) for total in pixels.sum((0, 1), np.float64))
    return _Record(schema.to_bytes(datum), label, shape, sums, odd)


def _upright(image: Any) -> Any:
    """`image` as a person sees it, and OpenCV reads it; itself where its EXIF data tell of no turn, or are damaged."""
    from PIL import ImageOps

    try:
        turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except Exception:  # damaged EXIF data, which are not rare
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _of_8_bits(image: Any) -> Any:
    """`image`; of 16-bit grey its upper 8 bits, as OpenCV takes them. ValueError for wider values."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 2**16:
        raise ValueError(f"pixels of the kind {image.mode}, which have no black and white")
    return Image.fromarray((values >> 8).astype(np.uint8))


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
