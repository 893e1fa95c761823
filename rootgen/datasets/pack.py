"""Image files of many sizes as Caffe reads them: LMDBs of JPEG or of pixels, the shorter side brought to one length.

Pillow decodes and resizes (bilinear over the pixels that fall together, as torchvision does it), on all cores. Sides
keep their proportion, so that there is no mean image; the channels' means take its place. What cannot be decoded is
left out and listed. Work is not done twice: what a kill leaves in .NAME.unfinished beside NAME is gone on with.
"""

from __future__ import annotations

import hashlib
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

import numpy as np

from rootgen.datasets.catalogue import Dataset
from rootgen.datasets.image_set import ImageSet
from rootgen.datasets.record import MAX_PIXELS, Packing, Record, files_of, make
from rootgen.datasets.save import LABELS, LISTED, MEAN_VALUES, STATE, lock_of, refuse_existing
from rootgen.errors import RootgenError
from rootgen.files import read_bytes, sync, told, write_text
from rootgen.locks import locked
from rootgen.progress import Report, silent
from rootgen.proto.database import Writer, check_key, held

BATCH = 256  # images of a transaction, after each of which the work can be gone on with

log = logging.getLogger("rootgen")


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

    def count(self, names: Sequence[str], indices: Sequence[int], records: Sequence[Record]) -> None:
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
        names = files_of(images).names
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
                so_far.count(files_of(images).names, indices, records)
                self._save()
                self.report(f"write {name}", so_far.done, len(order))
        if not so_far.records:
            first = so_far.odd[0] if so_far.odd else "there is none"
            raise RootgenError(f"not one image can be read: {first}", where=files_of(images).root)

    def _records(
        self, pool: ThreadPoolExecutor, images: ImageSet, order: np.ndarray
    ) -> Iterator[tuple[list[int], list[Record]]]:
        """Batches of images by their indices, each made while the one before is written."""
        batches = [order[start : start + BATCH].tolist() for start in range(0, len(order), BATCH)]
        jobs: deque[list[Future[Record]]] = deque()
        try:
            for number in range(len(batches)):
                for later in batches[number + len(jobs) : number + 2]:
                    jobs.append([pool.submit(make, images, i, self.packing) for i in later])
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
        files = files_of(images)
        words = (name, os.path.realpath(files.root), *files.names, "")
        digest.update("\n".join(words).encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(images.labels, np.int64).tobytes())
    return digest.hexdigest()
