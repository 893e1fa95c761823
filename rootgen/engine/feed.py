"""Batches of a Data layer, read from LMDB by a thread that keeps ahead of the net.

Batch number i is a function of i alone: it starts at record i * batch_size, modulo the number of records,
and draws its crops and mirrors from a generator seeded by i. So a run that goes on from iteration i reads
what an unbroken one would have read, and no cursor has to be saved.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rootgen.database import Database
from rootgen.engine import seeds
from rootgen.engine.datum import Transformer, image_of
from rootgen.engine.locate import locate
from rootgen.errors import RootgenError
from rootgen.net import Layer
from rootgen.shapes import Shape, text


class Feed:
    """The tops of one Data layer, batch after batch."""

    def __init__(
        self, layer: Layer, phase: str, seed: int, beside: Path | None = None, batch_size: int | None = None
    ) -> None:
        """`layer` is a Data layer; `beside` the folder to look in after the current one."""
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
        mean = locate(transform.mean_file, beside) if transform.HasField("mean_file") else None
        self.database = Database.at(locate(param.source, beside))
        self.transform = Transformer(transform, phase, layer.where, mean)
        self.seed = seeds.derive(seed, "data", layer.name, phase)
        where, datum = next(self.database.read(0))
        self.image_shape: Shape = self.transform.output_shape(image_of(datum, transform, where).shape)
        self.waited = 0.0
        self._depth = max(param.prefetch, 1)
        self._ahead: deque[tuple[int, Future[dict[str, np.ndarray]]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"feed-{layer.name}")
        self._records: Iterator[tuple[str, Any]] | None = None
        self._next_batch = -1  # the batch that _records stands at

    def batch(self, number: int) -> dict[str, np.ndarray]:
        """Top name -> array of batch `number`; time spent waiting for it is added to `waited` (seconds)."""
        while self._ahead and self._ahead[0][0] != number:
            self._ahead.popleft()[1].cancel()
        for later in range(number + len(self._ahead), number + self._depth + 1):
            self._ahead.append((later, self._thread.submit(self._load, later)))
        begun = time.perf_counter()
        tops = self._ahead.popleft()[1].result()
        self.waited += time.perf_counter() - begun
        return tops

    def close(self) -> None:
        """Stop reading ahead."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _load(self, number: int) -> dict[str, np.ndarray]:
        """Read and transform one batch; runs in the feed's own thread."""
        if number != self._next_batch or self._records is None:
            self._records = self.database.read(number * self.batch_size)
        self._next_batch = -1  # until this batch is whole
        choices = np.random.default_rng((self.seed, number)).random((self.batch_size, 3))
        images = np.empty((self.batch_size, *self.image_shape), np.float32)
        labels = np.empty(self.batch_size, np.float32)
        for i in range(self.batch_size):
            where, datum = next(self._records)
            image = image_of(datum, self.transform.param, where)
            if self.transform.output_shape(image.shape) != self.image_shape:
                raise RootgenError(
                    f"image of {text(image.shape)}, another size than those before",
                    where=where,
                    hint="a batch is of one size: crop_size, or resize the images",
                )
            self.transform(image, choices[i], images[i])
            labels[i] = datum.label
        self._next_batch = number + 1
        return dict(zip(self.layer.tops, (images, labels), strict=False))
