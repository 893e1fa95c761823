"""What one core reads: ImageNet's archives into LMDBs, and these into batches (decode, crop, mirror, mean).

python benchmarks/feed.py > benchmarks/feed.md      (a minute)
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import describe
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rootgen.datasets import load, pack, record  # noqa: E402
from rootgen.engine.feed import Feed  # noqa: E402
from rootgen.net import read  # noqa: E402

PICTURES = 300
SIZE = 500, 375  # width and height, ImageNet's most frequent ones
BATCH, BATCHES, RUNS = 32, 12, 5
NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ crop_size: 224 mirror: true mean_value: 104 mean_value: 117 mean_value: 123 }}
  data_param {{ source: "{}" batch_size: 32 backend: LMDB }} }}
"""


def pictures(folder: Path) -> None:
    """Photographs' stand-ins in ImageNet's layout: smooth colours with grain, about 100 KB each as JPEG."""
    rng = np.random.default_rng(0)
    for part, count in (("train", PICTURES), ("val", 4)):
        for synset in ("n01440764", "n01443537"):
            (folder / part / synset).mkdir(parents=True)
            for number in range(count // 2):
                small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
                pixels = np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC), np.float64)
                grain = rng.normal(0, 14, (*SIZE[::-1], 1)) + rng.normal(0, 4, (*SIZE[::-1], 3))
                image = Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))
                image.save(folder / part / synset / f"{number}.JPEG", quality=90)


def cost(run: Callable[[], object], images: int) -> tuple[float, float]:
    """Milliseconds an image of `run`: of CPU, of all threads, and of wall-clock time."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return (time.process_time() - cpu) / images * 1000, (time.perf_counter() - wall) / images * 1000


def median(costs: list[tuple[float, float]]) -> str:
    """Two cells of the table."""
    cpu, wall = (statistics.median(values) for values in zip(*costs, strict=True))
    return f"{cpu:.2f} | {1000 / wall:.0f}"


def batches(feed: Feed, begin: int) -> None:
    for number in range(begin, begin + BATCHES):
        feed.batch(number)


def main() -> None:
    logging.disable()
    print("# Reading images\n")
    print(f"{describe('pillow', 'numpy', 'lmdb')}; load {os.getloadavg()[0]:.1f} (1: one core busy).")
    print(f"`python benchmarks/feed.py`: {PICTURES} pictures of {SIZE[0]} x {SIZE[1]} made for it,")
    print("medians. One core's images/s follow from its milliseconds; a feed's threads wait for no other.\n")
    print("| | ms of CPU an image | images/s |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        pictures(folder / "in")
        size = sum(path.stat().st_size for path in (folder / "in" / "train").rglob("*.JPEG")) / PICTURES
        dataset = load("imagenet", folder / "in")
        for encoding in record.ENCODINGS:
            packing = record.Packing(encoding=encoding)
            out = folder / encoding
            costs = [
                cost(lambda: pack.pack(dataset, out, packing, force=True), PICTURES + 4)  # noqa: B023
                for _ in range(RUNS)
            ]
            stored = (out / "train_lmdb" / "data.mdb").stat().st_size / PICTURES
            cores = os.cpu_count()
            what = (
                f"`rootgen data imagenet`, {encoding}, {cores} threads: {size / 1000:.0f} KB to {stored / 1000:.0f} KB"
            )
            print(f"| {what} | {median(costs)} |")
        for encoding in record.ENCODINGS:
            layer = read.parse(NET.format(folder / encoding / "train_lmdb"), "TRAIN").layers[0]
            for lanes in (1, 2, 4):
                feed = Feed(layer, "TRAIN", 1, lanes=lanes)
                feed.batch(0)
                costs = [
                    cost(lambda: batches(feed, 1 + run * BATCHES), BATCH * BATCHES)  # noqa: B023
                    for run in range(RUNS)
                ]
                print(
                    f"| batches of 224 x 224, {encoding} records, {lanes} thread{'s' * (lanes > 1)} | {median(costs)} |"
                )
                feed.close()


if __name__ == "__main__":
    main()
