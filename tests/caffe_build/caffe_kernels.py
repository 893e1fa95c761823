"""Layers that the patches give kernels of their own, run by pycaffe: a child process of test_caffe_kernels.py.

`python caffe_kernels.py OUT.npz` runs CASES forward and backward and saves every array, named CASE/blob.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

# type, bottom shape, the layer's parameter
CASES: dict[str, tuple[str, tuple[int, ...], str]] = {
    "grouped 3x3": ("Convolution", (5, 6, 9, 7), "group: 3 num_output: 12 kernel_size: 3 pad: 1"),
    "depthwise": ("Convolution", (3, 8, 20, 37), "group: 8 num_output: 8 kernel_size: 3 pad: 1"),
    "depthwise, stride 2": ("Convolution", (2, 6, 19, 18), "group: 6 num_output: 6 kernel_size: 3 stride: 2"),
    "many channels": ("Convolution", (8, 64, 7, 7), "group: 2 num_output: 64 kernel_size: 3 pad: 1"),
    "rows shorter than a vector": ("Convolution", (3, 32, 14, 13), "group: 2 num_output: 22 kernel_size: 3 pad: 1"),
    "rows of two vectors": ("Convolution", (2, 8, 28, 28), "group: 2 num_output: 8 kernel_size: 3 pad: 1"),
    "longer rows, many channels": ("Convolution", (2, 64, 9, 13), "group: 2 num_output: 128 kernel_size: 3 pad: 1"),
    "one image, many channels": ("Convolution", (1, 64, 7, 6), "group: 2 num_output: 192 kernel_size: 3 pad: 1"),
    "one image, many channels, odd": ("Convolution", (1, 40, 5, 6), "group: 2 num_output: 86 kernel_size: 3 pad: 1"),
    "three short vectors of channels": ("Convolution", (2, 12, 9, 8), "group: 2 num_output: 24 kernel_size: 3 pad: 1"),
    "three vectors of channels": ("Convolution", (2, 12, 9, 8), "group: 2 num_output: 48 kernel_size: 3 pad: 1"),
    "five vectors of channels": ("Convolution", (2, 12, 9, 8), "group: 2 num_output: 80 kernel_size: 3 pad: 1"),
    "wide padding, dilation": (
        "Convolution", (3, 16, 5, 3), "group: 2 num_output: 32 kernel_size: 3 pad: 3 dilation: 2",
    ),
    "wide pads, stride 3": ("Convolution", (2, 16, 9, 13), "group: 2 num_output: 64 kernel_size: 4 pad: 3 stride: 3"),
    "pairs of rows, stride 2": ("Convolution", (3, 8, 13, 12), "group: 2 num_output: 64 kernel_size: 3 stride: 2"),
    "depthwise, short rows": ("Convolution", (3, 6, 5, 11), "group: 6 num_output: 12 kernel_size: 3 pad: 1"),
    "depthwise, one row": ("Convolution", (2, 5, 1, 70), "group: 5 num_output: 5 kernel_size: 3 pad: 1"),
    "odd filters": ("Convolution", (3, 10, 14, 14), "group: 2 num_output: 22 kernel_size: 5 pad: 2"),
    "dilation": ("Convolution", (2, 4, 11, 13), "group: 2 num_output: 6 kernel_size: 3 pad: 2 dilation: 2"),
    "smaller than the kernel": ("Convolution", (3, 4, 2, 2), "group: 2 num_output: 6 kernel_size: 3 stride: 2"),
    "less wide than the kernel": ("Convolution", (3, 4, 9, 3), "group: 2 num_output: 6 kernel_size: 5 stride: 3"),
    "first layer": ("Convolution", (2, 3, 33, 29), "num_output: 16 kernel_size: 7 pad: 3 stride: 2"),
    "grouped 1x1": ("Convolution", (3, 8, 6, 5), "group: 2 num_output: 12 kernel_size: 1"),
    "1x1": ("Convolution", (2, 40, 17, 19), "num_output: 21 kernel_size: 1"),
    "1x1, one image, a position beyond vectors": ("Convolution", (1, 70, 7, 7), "num_output: 26 kernel_size: 1"),
    "1x1, stride 2": ("Convolution", (2, 24, 13, 18), "num_output: 35 kernel_size: 1 stride: 2"),
    "no groups": ("Convolution", (2, 24, 14, 13), "num_output: 22 kernel_size: 3 pad: 1"),
    "no groups, large maps": ("Convolution", (2, 8, 26, 33), "num_output: 12 kernel_size: 3 pad: 1"),
    "no groups, stride 2": ("Convolution", (2, 8, 17, 19), "num_output: 18 kernel_size: 5 pad: 2 stride: 2"),
    "no groups, many weights and filters": ("Convolution", (3, 26, 6, 7), "num_output: 260 kernel_size: 3 pad: 1"),
    "1x1, many weights": ("Convolution", (4, 230, 9, 7), "num_output: 300 kernel_size: 1"),
    "1x1, stride 3, many images": ("Convolution", (9, 21, 11, 40), "num_output: 40 kernel_size: 1 stride: 3"),
    "deconvolution, no groups": ("Deconvolution", (2, 6, 7, 8), "num_output: 10 kernel_size: 3 pad: 1"),
    "1x1, small maps": ("Convolution", (9, 70, 3, 5), "num_output: 33 kernel_size: 1"),
    "deconvolution": ("Deconvolution", (3, 6, 7, 8), "group: 2 num_output: 10 kernel_size: 4 pad: 1 stride: 2"),
    "max 3x3": ("Pooling", (3, 5, 15, 15), "pool: MAX kernel_size: 3 pad: 1"),
    "max, stride 2": ("Pooling", (2, 5, 28, 27), "pool: MAX kernel_size: 3 stride: 2"),
    "max, wide stride": ("Pooling", (2, 3, 22, 17), "pool: MAX kernel_size: 2 stride: 5"),
    "max, uneven": (
        "Pooling", (2, 3, 13, 40), "pool: MAX kernel_h: 4 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 2 pad_w: 1",
    ),
    "max, smaller than the kernel": ("Pooling", (2, 3, 2, 2), "pool: MAX kernel_size: 3 stride: 2"),
    "mean, smaller than the kernel": ("Pooling", (2, 3, 2, 5), "pool: AVE kernel_size: 3 stride: 2"),
    "mean": ("Pooling", (2, 5, 16, 17), "pool: AVE kernel_size: 3 stride: 2 pad: 1"),
    "mean 7x7": ("Pooling", (3, 4, 8, 8), "pool: AVE kernel_size: 7"),
    "global mean": ("Pooling", (3, 4, 9, 8), "pool: AVE global_pooling: true"),
    "fc, one image": ("InnerProduct", (1, 5, 4, 4), "num_output: 33"),
    "fc": ("InnerProduct", (3, 5, 4, 4), "num_output: 33"),
    "no images": ("Convolution", (0, 4, 6, 7), "group: 2 num_output: 6 kernel_size: 3"),
    "no images, 1x1": ("Convolution", (0, 5, 6, 7), "num_output: 6 kernel_size: 1"),
    "no images, max": ("Pooling", (0, 5, 6, 7), "pool: MAX kernel_size: 3"),
    "no outputs, max": ("Pooling", (2, 3, 2, 2), "pool: MAX kernel_size: 3 stride: 100 round_mode: FLOOR"),
    "no outputs, mean": ("Pooling", (2, 3, 2, 2), "pool: AVE kernel_size: 3 stride: 100 round_mode: FLOOR"),
    "no images, fc": ("InnerProduct", (0, 5, 4, 4), "num_output: 33"),
}  # fmt: skip


LAYER = """force_backward: true
layer {{ name: "data" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}
layer {{ name: "layer" type: "{kind}" bottom: "x" top: "y" {parameter} {{ {fields} }} }}
"""
PARAMETERS = {"Pooling": "pooling_param", "InnerProduct": "inner_product_param"}  # the others: convolution_param


def layer_net(case: str) -> str:
    """The prototxt of a net of this one layer."""
    kind, shape, fields = CASES[case]
    dims = " ".join(f"dim: {d}" for d in shape)
    return LAYER.format(dims=dims, kind=kind, parameter=PARAMETERS.get(kind, "convolution_param"), fields=fields)


def run(case: str, folder: Path) -> dict[str, np.ndarray]:
    """Every array of a forward and a backward pass; maxima have ties."""
    import caffe

    rng = np.random.default_rng(sorted(CASES).index(case))
    path = folder / "net.prototxt"
    path.write_text(layer_net(case), encoding="utf-8")
    net = caffe.Net(str(path), caffe.TEST)
    x, y = net.blobs["x"], net.blobs["y"]
    shape = x.data.shape
    x.data[...] = rng.integers(-3, 4, shape) if case.startswith("max") else rng.normal(size=shape)
    arrays = {"x": x.data.copy()}
    for name, blob in zip("wb", net.params.get("layer", []), strict=False):
        blob.data[...] = rng.normal(size=blob.data.shape)
        blob.diff[...] = 0
        arrays[name] = blob.data.copy()
    net.forward()
    y.diff[...] = rng.normal(size=y.data.shape)
    arrays |= {"y": y.data.copy(), "dy": y.diff.copy()}
    net._backward(1, 1)  # net.backward() copies the diffs that it is given
    arrays["dx"] = x.diff.copy()
    for name, blob in zip("wb", net.params.get("layer", []), strict=False):
        arrays[f"d{name}"] = blob.diff.copy()
    return arrays


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        arrays = {f"{case}/{name}": a for case in CASES for name, a in run(case, Path(folder)).items()}
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
