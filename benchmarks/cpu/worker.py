"""Milliseconds of forward and backward passes in one engine: a child process of run.py, which sets its threads.

Reads jobs from stdin, writes one JSON list [job, pass, milliseconds] per line. A job is a dict: "layer" with channels,
size, num_output, kernel, group, batch; "net" with the path of a deploy prototxt and batch; or "folded" or "training"
with the name of a net, batch, and the folder of its files, which whole.py made.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDED = {"patched": "caffe", "torch": "torch", "onnxruntime": "onnx"}  # the names that rootgen has for them

LAYER = """force_backward: true
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: {batch} dim: {channels} dim: {size} dim: {size} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: {num_output} kernel_size: {kernel} pad: {pad} group: {group} bias_term: false
    weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
"""


class Often(NamedTuple):
    """How often a run is timed: so many after others to warm up, and so many seconds, at least."""

    warm_up: int
    runs: int
    seconds: float


LAYERS, NETS = Often(2, 7, 0.15), Often(1, 2, 0.5)

Pass = tuple[str, tuple[float, float]]


def median(run: Callable[[], object], often: Often = LAYERS) -> tuple[float, float]:
    """Milliseconds of one run: the median and the best."""
    for _ in range(often.warm_up):
        run()
    times: list[float] = []
    while len(times) < often.runs or sum(times) < often.seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times), 1e3 * min(times)


def layer_text(job: dict) -> str:
    return LAYER.format(pad=job["kernel"] // 2, **job)


def caffe_passes(job: dict, folder: Path) -> Iterator[Pass]:
    import caffe
    import numpy as np

    path = folder / "net.prototxt"
    if "net" in job:
        text = Path(job["net"]).read_text(encoding="utf-8")
        path.write_text(re.sub(r"dim: \d+", f"dim: {job['batch']}", text, count=1), encoding="utf-8")
    else:
        path.write_text(layer_text(job), encoding="utf-8")
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(1).normal(size=net.blobs["data"].data.shape)
    last = len(net.layers) - 1
    yield "forward", median(lambda: net._forward(0, last))
    if "net" not in job:
        net.blobs["conv"].diff[...] = np.random.default_rng(2).normal(size=net.blobs["conv"].diff.shape)
        yield "backward", median(lambda: net._backward(last, last))


def torch_passes(job: dict, channels_last: bool) -> Iterator[Pass]:
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (job["batch"], job["channels"], job["size"], job["size"])
    x = torch.randn(shape).to(memory_format=layout).requires_grad_()
    conv = torch.nn.Conv2d(
        job["channels"], job["num_output"], job["kernel"], padding=job["kernel"] // 2, groups=job["group"], bias=False
    ).to(memory_format=layout)
    with torch.inference_mode():
        yield "forward", median(lambda: conv(x))
    y = conv(x)
    dy = torch.randn_like(y)
    yield "backward", median(lambda: torch.autograd.grad(y, (x, conv.weight), dy, retain_graph=True))


def copy_passes(job: dict) -> Iterator[Pass]:
    """Copying the layer's input, then its output, from memory to memory."""
    import torch

    plane = job["batch"] * job["size"] ** 2
    blobs = [(torch.randn(plane * c), torch.empty(plane * c)) for c in (job["channels"], job["num_output"])]
    yield "forward", median(lambda: [to.copy_(of) for of, to in blobs])


def opencv_passes(job: dict, folder: Path) -> Iterator[Pass]:
    import cv2
    import numpy as np

    from rootgen.proto import schema

    rng = np.random.default_rng(1)
    weights = rng.normal(size=(job["num_output"], job["channels"] // job["group"], job["kernel"], job["kernel"]))
    model = schema.NetParameter()
    layer = model.layer.add(name="conv", type="Convolution")
    blob = layer.blobs.add()
    blob.shape.dim.extend(weights.shape)
    blob.data.extend(weights.ravel())
    (folder / "net.prototxt").write_text(layer_text(job), encoding="utf-8")
    (folder / "net.caffemodel").write_bytes(schema.to_bytes(model))
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    shape = (job["batch"], job["channels"], job["size"], job["size"])
    net.setInput(rng.normal(size=shape).astype(np.float32))
    yield "forward", median(net.forward)


def folded_passes(engine: str, threads: int, job: dict) -> Iterator[Pass]:
    import numpy as np

    files = Path(job["files"])
    forward, size = opened(engine, threads, files, job["batch"])
    images = np.random.default_rng(1).normal(size=(job["batch"], 3, size, size)).astype(np.float32)
    assert forward(images).shape[0] == job["batch"]
    yield "forward", median(lambda: forward(images), NETS)


def opened(engine: str, threads: int, files: Path, batch: int) -> tuple[Callable[[Any], Any], int]:
    """What gives `prob` of images, and their height and width."""
    size = 32 if "NiN" in files.name else 224
    if engine == "openvino":
        import openvino

        core = openvino.Core()
        model = core.read_model(files / "folded.onnx")
        model.reshape([batch, 3, size, size])
        how = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(model, "CPU", how)
        return lambda images: compiled(images)[0], size
    if engine == "opencv":
        import cv2

        net = cv2.dnn.readNetFromCaffe(str(files / "folded.prototxt"), str(files / "folded.caffemodel"))

        def by_opencv(images: Any) -> Any:
            net.setInput(images)
            return net.forward("prob")

        return by_opencv, size
    from rootgen.engine import open_network

    name = FOLDED[engine]
    file, weights = ("folded.onnx", None) if name == "onnx" else ("folded.prototxt", files / "folded.caffemodel")
    network = open_network(
        files / file, weights=weights, engine=name, device="cpu", batch=None if name == "onnx" else batch
    )
    return lambda images: network.forward(["prob"], {"data": images})["prob"], size


def training_passes(engine: str, job: dict) -> Iterator[Pass]:
    from rootgen.engine import open_trainer

    trainer = open_trainer(Path(job["files"]) / "solver.prototxt", engine=FOLDED[engine], device="cpu")
    yield "step", median(trainer.step, NETS)


def passes(engine: str, threads: int, job: dict, folder: Path) -> Iterator[Pass]:
    if "folded" in job:
        return folded_passes(engine, threads, job)
    if "training" in job:
        return training_passes(engine, job)
    if engine in ("vanilla", "patched"):
        return caffe_passes(job, folder)
    if engine == "opencv":
        return opencv_passes(job, folder)
    if engine == "copy":
        return copy_passes(job)
    return torch_passes(job, engine == "torch channels_last")


def main() -> None:
    engine, threads = sys.argv[1], int(sys.argv[2])
    if engine == "opencv":
        import cv2

        cv2.setNumThreads(threads)
    elif engine.startswith("torch") or engine == "copy":
        import torch

        torch.set_num_threads(threads)
    for job in json.load(sys.stdin):
        with tempfile.TemporaryDirectory() as folder:
            for name, (milliseconds, best) in passes(engine, threads, job, Path(folder)):
                print(json.dumps([job, name, milliseconds, best]), flush=True)


if __name__ == "__main__":
    main()
