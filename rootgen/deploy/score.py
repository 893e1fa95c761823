"""How well a trained net does on labelled images: its outputs, averaged as by `caffe test`, and top-1 and top-5."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rootgen import scratch
from rootgen.engine import open_network
from rootgen.engine.api import Network
from rootgen.engine.feed import Feed
from rootgen.errors import RootgenError, standing_for
from rootgen.files import locate, write_text
from rootgen.net.forks import param_of
from rootgen.net.graph import Layer, Net
from rootgen.net.read import from_param, is_binary, read
from rootgen.progress import Report, silent
from rootgen.proto import prototxt, schema
from rootgen.proto.database import Database

TOPS = (1, 5)


@dataclass(frozen=True)
class ScoreOptions:
    """What to score on: `data` an LMDB or a folder with a test_lmdb (None: the net's own), how many batches, and how.

    `iterations` None goes once through the data, each image counted once in top-1 and top-5. `lenient` passes over
    fields that Caffe 1.0 does not have.
    """

    data: str | Path | None = None
    iterations: int | None = None
    batch_size: int | None = None
    mean: str | Path | None = None
    lenient: bool = False
    engine: str = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class Scores:
    """What was found: shares of right answers among the k likeliest classes, and the means of the net's outputs.

    `outputs` has a number per value of each output blob, named as `caffe test` names them: the blob, or blob[i] where
    it has several; means over `iterations` batches.
    """

    net: str
    images: int
    iterations: int
    outputs: dict[str, float] = field(default_factory=dict)
    top: dict[int, float] = field(default_factory=dict)
    engine: str = ""
    device: str = ""


def score(net_path: str | Path, weights: str | Path | None, options: ScoreOptions, report: Report = silent) -> Scores:
    """Scores of the net in `net_path` with `weights` in phase TEST; RootgenError where it has no labelled images."""
    net = _own_net(net_path, options)
    data = [layer for layer in net.layers if layer.type == "Data"]
    if len(data) != 1:
        raise RootgenError(
            f"has {len(data)} Data layers in phase TEST, and one is needed to score it on",
            where=net_path,
            hint="pass the train_val net",
        )
    Database.at(Path(data[0].param.data_param.source))  # refuses what is none
    with scratch.folder("rootgen-score-") as folder:
        path = folder / "net.prototxt"
        write_text(path, prototxt.format(param_of(net)), durable=False)
        model = net_path if weights is None and is_binary(net_path) else weights
        how: dict[str, Any] = {"engine": options.engine, "device": options.device, "batch": options.batch_size}
        with standing_for(path, net_path, lines=False):
            network = open_network(path, phase="TEST", weights=model, **how)
            return _scored(net, network, data[0], options, report)


def _own_net(path: str | Path, options: ScoreOptions) -> Net:
    """The net of phase TEST, its files found, on the data that the options name."""
    param = _message(path, options.lenient)
    beside = Path(path).parent
    for layer in param.layer:
        if layer.type == "Data":
            _point(layer, beside, options)
    return from_param(param, "TEST", where=path)


def _message(path: str | Path, lenient: bool) -> Any:
    """A NetParameter without blobs, in today's form, with the layers of phase TEST."""
    net = read(path, "TEST", lenient=lenient)
    # a snapshot's layers are those of TRAIN, and say so
    return param_of(net, without=("blobs", *(("include", "exclude", "phase") if is_binary(path) else ())))


def _point(layer: Any, beside: Path, options: ScoreOptions) -> None:
    """Have a Data layer read the data that the options name, or its own where it is found; nothing random in it."""
    source, mean = layer.data_param, layer.transform_param
    layer.transform_param.mirror = False
    if options.data is not None:
        folder = Path(options.data)
        inner = folder / "test_lmdb"
        source.source = str(inner if inner.is_dir() else folder)
        source.backend = schema.DataParameter.LMDB
        found = folder / "mean.binaryproto"
        if mean.mean_file and found.is_file():
            mean.mean_file = str(found)
    elif source.source:
        source.source = str(locate(source.source, beside))
    if options.mean is not None:
        mean.ClearField("mean_value")
        mean.mean_file = str(options.mean)
    elif mean.mean_file:
        mean.mean_file = str(locate(mean.mean_file, beside))


def _scored(net: Net, network: Network, data: Layer, options: ScoreOptions, report: Report) -> Scores:
    """Run the batches, and add up."""
    batch = network.blobs[data.tops[0]][0]
    records = Database.at(Path(data.param.data_param.source)).size
    iterations = options.iterations or math.ceil(records / batch)
    images = iterations * batch if options.iterations else records
    scores, labels = _scores_and_labels(net, network)
    outputs = [blob for blob in net.outputs if blob not in data.tops]
    wanted = list(dict.fromkeys([*outputs, *([scores, labels] if scores else [])]))
    sums: dict[str, np.ndarray] = {blob: np.zeros(network.blobs[blob]) for blob in outputs}
    right, counted = dict.fromkeys(TOPS, 0), 0
    with closing(Feed(data, "TEST", 0, batch_size=batch)) as feed:
        for number in range(iterations):
            inputs = feed.batch(number)
            found = network.forward(wanted, inputs)
            for blob in outputs:
                sums[blob] += found[blob]
            if scores:
                count = min(batch, images - number * batch)  # the last batch goes on with the first images
                ranks = _ranks(found[scores][:count], found[labels][:count])
                counted += len(ranks)
                for k in right:
                    right[k] += int((ranks < k).sum())
            report("test", number + 1, iterations)
    means = {blob: total / iterations for blob, total in sums.items()}
    classes = network.blobs[scores][1] if scores else 0
    return Scores(
        net.source,
        images,
        iterations,
        {key: float(value) for blob, mean in means.items() for key, value in _named(blob, mean)},
        {k: right[k] / counted for k in TOPS if counted and k < classes},
        network.engine,
        network.device,
    )


def _scores_and_labels(net: Net, network: Network) -> tuple[str, str]:
    """The blobs of class scores (N x classes) and of their labels (N), of the last loss or Accuracy that has such."""
    for layer in reversed(net.layers):
        if layer.type not in ("SoftmaxWithLoss", "Accuracy"):
            continue
        scores, labels = (network.blobs[blob] for blob in layer.bottoms[:2])
        if len(scores) > 1 and math.prod(scores[1:]) == scores[1] and math.prod(labels) == scores[0]:
            return layer.bottoms[0], layer.bottoms[1]
    return "", ""


def _ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes score at least as high as the true one, per image: Caffe counts a tie as wrong.

    Images whose label is no class are left out: the net lets none pass but its ignore_label.
    """
    flat, classes = scores.reshape(len(scores), -1), labels.reshape(-1).astype(np.int64)
    known = (classes >= 0) & (classes < flat.shape[1])
    flat = flat[known]
    true = np.take_along_axis(flat, classes[known, None], 1)
    return (~(flat < true)).sum(1) - 1  # what is no number beats whatever it is compared with


def _named(blob: str, mean: np.ndarray) -> list[tuple[str, float]]:
    """The values of an output blob under the names that tell them apart."""
    if mean.size == 1:
        return [(blob, mean.reshape(-1)[0])]
    return [(f"{blob}[{i}]", value) for i, value in enumerate(mean.reshape(-1))]
