"""The likeliest classes of images, by a trained net: prepared as its Data layer prepares them, run in batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rootgen import scratch
from rootgen.engine import open_network
from rootgen.engine.datum import decoded, read_mean
from rootgen.errors import RootgenError, standing_for
from rootgen.files import locate, read_bytes, write_text
from rootgen.net.forks import param_of
from rootgen.net.graph import Layer, Net
from rootgen.net.load import load_text
from rootgen.net.read import from_param, is_binary, read
from rootgen.progress import Report, silent
from rootgen.proto import prototxt, schema
from rootgen.text import shape_text
from rootgen.transform.deploy import DeployOptions, deploy

DEFAULT_K = 5
MOST_PIXELS = 2**26  # of an image that is resized: 8192x8192
LABELS = "labels.txt"  # as `rootgen data` writes it, beside the databases

log = logging.getLogger("rootgen")


@dataclass(frozen=True)
class ClassifyOptions:
    """How many classes to name, where their names lie, and how images are prepared; None takes the Data layer's way.

    `mean` is a .binaryproto or values such as "104,117,123". `resize` is (height, width) before the crop; None takes
    the mean image's size, else the smallest that the crop fits into, keeping the image's shape.
    """

    net: str | Path | None = None
    k: int | None = None
    labels: str | Path | None = None
    mean: str | None = None
    resize: tuple[int, int] | None = None
    batch_size: int = 32
    lenient: bool = False
    engine: str = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class Answer:
    """One image's likeliest classes, the likeliest first: (number, name or "", score)."""

    image: str
    classes: tuple[tuple[int, str, float], ...]


def classify(
    model: str | Path, images: Sequence[str | Path], options: ClassifyOptions, report: Report = silent
) -> list[Answer]:
    """The `options.k` likeliest classes of each image (None: DEFAULT_K, or all), in the order given."""
    source = options.net or model
    text, data = _deploy_text(source, options.lenient)
    deployed = deploy(text, source, DeployOptions(lenient=options.lenient))
    net = load_text(deployed.text, where=source, lenient=options.lenient)
    output, blob = deployed.outputs[-1], _image_blob(net)
    classes = int(np.prod(net.blobs[output][1:]))
    k = min(DEFAULT_K, classes) if options.k is None else options.k
    if not 1 <= k <= classes:
        raise RootgenError(f"{k} classes asked for, but '{output}' has {classes}", where=source)
    if data is None and options.mean is None:
        log.warning("%s: has no Data layer that says how images are prepared: no mean is subtracted (--mean)", source)
    names = _labels(options.labels, data, Path(model).parent, classes)
    prepare = _Preparation(net.blobs[blob], data, Path(model).parent, options)
    with scratch.folder("rootgen-classify-") as folder:
        path = folder / "net.prototxt"
        write_text(path, deployed.text, durable=False)
        how: dict[str, Any] = {"engine": options.engine, "device": options.device, "lenient": options.lenient}
        with standing_for(path, source, lines=False):
            network = open_network(path, weights=model, batch=options.batch_size, **how)
        answers = []
        for start in range(0, len(images), options.batch_size):
            paths = images[start : start + options.batch_size]
            batch = np.stack([prepare(path) for path in paths])
            scores = network.forward([output], {blob: batch})[output].reshape(len(batch), -1)
            answers += [_answer(str(path), row, names, k) for path, row in zip(paths, scores, strict=True)]
            report("images", len(answers), len(images))
    return answers


def _answer(image: str, scores: np.ndarray, names: Sequence[str], k: int) -> Answer:
    if np.isnan(scores).any():
        raise RootgenError("its scores are no numbers (NaN)", where=image, hint="has the model's training diverged?")
    best = np.argsort(-scores, kind="stable")[:k]
    return Answer(image, tuple((int(i), names[i] if names else "", float(scores[i])) for i in best))


def _deploy_text(path: str | Path, lenient: bool) -> tuple[str, Layer | None]:
    """A net as prototxt for `deploy`, and the Data layer that it has, if any."""
    if not is_binary(path):
        text = prototxt.read_source(path)
        return text, _data_layer(read(path, "TEST", lenient=lenient)) or _train_data_layer(path, lenient)
    net = read(path)
    message = param_of(net, without=("blobs", "include", "exclude", "phase"))  # a snapshot's layers are those of TRAIN
    return prototxt.format(message), _data_layer(from_param(message, "TEST", where=path))


def _train_data_layer(path: str | Path, lenient: bool) -> Layer | None:
    with suppress(RootgenError):  # a deploy net has no TRAIN phase
        return _data_layer(read(path, "TRAIN", lenient=lenient))
    return None


def _data_layer(net: Net) -> Layer | None:
    return next((layer for layer in net.layers if layer.type == "Data"), None)


def _image_blob(net: Net) -> str:
    """The blob that images go into: the first input of four axes."""
    inputs = [top for layer in net.layers if not layer.bottoms for top in layer.tops if len(net.blobs[top]) == 4]
    if not inputs:
        raise RootgenError("has no input of images (N x C x H x W)", where=net.source)
    return inputs[0]


def _labels(named: str | Path | None, data: Layer | None, beside: Path, classes: int) -> list[str]:
    """Names of the classes: of the file given, else of labels.txt beside the databases, else none."""
    if named is None:
        if data is None:
            return []
        found = locate(data.param.data_param.source, beside).parent / LABELS
        if not found.is_file():
            return []
        named = found
    names = read_bytes(named).decode("utf-8", "replace").splitlines()
    if len(names) < classes:
        raise RootgenError(f"names {len(names)} classes, but the net has {classes}", where=named, hint="--labels FILE")
    return names


class _Preparation:
    """From an image file to what the net takes: resized, the centre cut out, mean subtracted, scaled."""

    def __init__(self, shape: Sequence[int], data: Layer | None, beside: Path, options: ClassifyOptions) -> None:
        """`shape` is the input blob's, N x C x H x W; `beside` the folder to look for the mean in."""
        self.channels, *self.size = shape[1:]
        self.decoding = schema.TransformationParameter(force_color=self.channels == 3, force_gray=self.channels == 1)
        param = data.param.transform_param if data is not None else schema.TransformationParameter()
        self.scale = float(param.scale)
        mean = _mean(param, beside, options.mean)
        if mean.shape[0] not in (1, self.channels):
            raise RootgenError(f"{mean.shape[0]} mean values for images of {self.channels} channels (1, or one each)")
        if not np.isfinite(mean).all():
            raise RootgenError("the mean holds what is no finite number")
        self.resize = options.resize
        if mean.ndim == 3 and mean.shape[1:] != (1, 1):
            if mean.shape[0] != self.channels or any(a < b for a, b in zip(mean.shape[1:], self.size, strict=True)):
                wanted = shape_text((self.channels, *self.size))
                raise RootgenError(f"a mean of {shape_text(mean.shape)} does not fit images of {wanted}")
            if self.resize is None and not _only_padded(mean, self.size):
                self.resize = (mean.shape[1], mean.shape[2])
            mean = _centre(mean, self.size)
        self.mean = mean

    def __call__(self, path: str | Path) -> np.ndarray:
        """C x H x W, float32."""
        image = self._resized(decoded(read_bytes(path), self.decoding, path), path)
        return (_centre(image, self.size).astype(np.float32) - self.mean) * np.float32(self.scale)

    def _resized(self, image: np.ndarray, path: str | Path) -> np.ndarray:
        """The image, C x H x W, in the size before the crop."""
        from PIL import Image

        height, width = image.shape[1:]
        target = self.resize
        if target is None:  # the smallest that the net's input fits into
            ratio = max(self.size[0] / height, self.size[1] / width)
            target = (max(round(height * ratio), self.size[0]), max(round(width * ratio), self.size[1]))
        if target == (height, width):
            return image
        if target[0] * target[1] > MOST_PIXELS:
            told = f"{shape_text((height, width))} would become {shape_text(target)}, of more than {MOST_PIXELS} pixels"
            raise RootgenError(told, where=path, hint="--resize HxW says another size")
        planes = [Image.fromarray(plane).resize((target[1], target[0]), Image.Resampling.BILINEAR) for plane in image]
        return np.stack([np.asarray(plane) for plane in planes])


def _mean(param: Any, beside: Path, said: str | None) -> np.ndarray:
    """What is subtracted, C x H x W or C x 1 x 1: what was said, else the Data layer's own, else zero."""
    if said is not None:
        words = said.split(",")
        with suppress(ValueError):
            return np.array([float(word) for word in words], np.float32).reshape(-1, 1, 1)
        return read_mean(Path(said))
    if param.mean_file:
        return read_mean(locate(param.mean_file, beside))
    return np.array(list(param.mean_value) or [0.0], np.float32).reshape(-1, 1, 1)


def _only_padded(mean: np.ndarray, size: Sequence[int]) -> bool:
    """Whether a mean is zero outside the crop: its images were padded for random crops, not cut from larger ones."""
    inside = np.zeros(mean.shape, bool)
    _centre(inside, size)[...] = True
    return not mean[~inside].any()


def _centre(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The middle of an image, C x H x W, in the (height, width) `size`."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape[1:], size, strict=True))
    if top < 0 or left < 0:
        raise RootgenError(f"{shape_text(image.shape)} is smaller than the net's input, {shape_text(size)}")
    return image[:, top : top + size[0], left : left + size[1]]
