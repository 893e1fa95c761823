"""Batches of a Data layer, read from LMDB by threads that keep ahead of the net.

Batch number i is a function of i alone: it starts at record i * batch_size, modulo the number of records,
and draws its crops and mirrors from a generator seeded by i. So a run that goes on from iteration i reads
what an unbroken one would have read, and no cursor has to be saved; and processes that train together read no
record twice, where each takes the batches of its own numbers.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.engine import seeds
from rootgen.engine.datum import Transformer, image_of
from rootgen.errors import RootgenError
from rootgen.files import locate
from rootgen.net.graph import Layer, Net, Shape
from rootgen.proto.database import Database
from rootgen.text import shape_text

log = logging.getLogger("rootgen")


class _Lane:
    """A thread that makes every n-th batch, and the records that it stands at, those of batch number `batch`."""

    def __init__(self, name: str) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self.records: Iterator[tuple[str, Any]] | None = None
        self.batch = -1


def _lanes() -> int:
    """Threads per feed: one keeps a few cores fed, a GPU beside many cores wants more (JPEG: 800 images/s each)."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")  # torchrun's, of this machine
    cores = (os.cpu_count() or 1) // max(1, int(processes) if processes.isdecimal() else 1)
    return max(1, min(4, cores // 4))


class Feed:
    """The tops of one Data layer, batch after batch."""

    def __init__(
        self,
        layer: Layer,
        phase: str,
        seed: int,
        beside: Path | None = None,
        *,
        batch_size: int | None = None,
        lanes: int | None = None,
        stride: int = 1,
    ) -> None:
        """`layer` is a Data layer; `beside` the folder to look in after the current one; `lanes` threads read.

        They read ahead as if every `stride`-th batch were asked for.
        """
        self.layer = layer
        param = layer.param.data_param
        if not param.source:
            raise layer.error("data_param has no source", "name the LMDB's folder")
        self.batch_size = batch_size or param.batch_size
        if not self.batch_size:
            raise layer.error("batch_size is 0", "give data_param a batch_size")
        if param.backend != 1:
            raise layer.error(
                "backend is LEVELDB (Caffe's default), which is not read", "convert to LMDB; backend: LMDB"
            )
        transform = layer.param.transform_param
        mean = locate(transform.mean_file, beside, layer.where) if transform.HasField("mean_file") else None
        self.database = Database.at(locate(param.source, beside, layer.where))
        self.transform = Transformer(transform, phase, layer.where, mean)
        self.seed = seeds.derive(seed, "data", layer.name, phase)
        where, datum = next(self.database.read(0))
        self.image_shape: Shape = self.transform.output_shape(image_of(datum, transform, where).shape)
        self.waited = 0.0
        self._stride = stride
        self._lanes = [_Lane(f"feed-{layer.name}-{i}") for i in range(lanes or _lanes())]
        self._depth = max(param.prefetch, len(self._lanes))
        self._ahead: deque[tuple[int, Future[dict[str, np.ndarray]]]] = deque()

    @property
    def shapes(self) -> dict[str, Shape]:
        """Top name -> shape of its batches: N x C x H x W of the images, N of the labels."""
        return dict(zip(self.layer.tops, ((self.batch_size, *self.image_shape), (self.batch_size,)), strict=False))

    def batch(self, number: int) -> dict[str, np.ndarray]:
        """Top name -> array of batch `number`; time spent waiting for it is added to `waited` (seconds)."""
        while self._ahead and self._ahead[0][0] != number:
            self._ahead.popleft()[1].cancel()
        for later in range(number, number + (self._depth + 1) * self._stride, self._stride)[len(self._ahead) :]:
            lane = self._lanes[later // self._stride % len(self._lanes)]
            self._ahead.append((later, lane.thread.submit(self._load, later, lane)))
        begun = time.perf_counter()
        tops = self._ahead.popleft()[1].result()
        self.waited += time.perf_counter() - begun
        return tops

    def close(self) -> None:
        """Stop reading ahead."""
        for lane in self._lanes:
            lane.thread.shutdown(wait=True, cancel_futures=True)

    def _load(self, number: int, lane: _Lane) -> dict[str, np.ndarray]:
        """Read and transform one batch; runs in the lane's own thread."""
        size, others = self.batch_size, len(self._lanes) * self._stride - 1
        if number != lane.batch or lane.records is None:
            lane.records = self.database.read(number * size, take=size, skip=size * others)
        lane.batch = -1  # until this batch is whole
        choices = np.random.default_rng((self.seed, number)).random((self.batch_size, 3))
        images = np.empty((self.batch_size, *self.image_shape), np.float32)
        labels = np.empty(self.batch_size, np.float32)
        for i in range(self.batch_size):
            where, datum = next(lane.records)
            image = image_of(datum, self.transform.param, where)
            if self.transform.output_shape(image.shape) != self.image_shape:
                raise RootgenError(
                    f"image of {shape_text(image.shape)}, another size than those before",
                    where=where,
                    hint="a batch is of one size: crop_size, or resize the images",
                )
            self.transform(image, choices[i], images[i])
            labels[i] = datum.label
        lane.batch = number + 1 + others
        return dict(zip(self.layer.tops, (images, labels), strict=False))


def open_feeds(
    net: Net, phase: str, seed: int = 0, beside: Path | None = None, *, batch: int | None = None, stride: int = 1
) -> dict[str, Feed]:
    """Data layer name -> its feed, for those of `net` whose database is there; see Feed."""
    feeds = {}
    for layer in net.layers:
        if layer.type == "Data" and locate(layer.param.data_param.source, beside, layer.where).exists():
            if layer.param.data_param.rand_skip:  # a batch follows from its number alone
                log.warning("%s: rand_skip is left out", layer.where)
            feeds[layer.name] = Feed(layer, phase, seed, beside, batch_size=batch, stride=stride)
    return feeds
