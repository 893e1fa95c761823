"""The patches' CPU kernels under every instruction set: right to rounding, and the same bits with 1 and 2 threads."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from caffe_kernels import CASES

pytestmark = pytest.mark.caffe

SETS = ("baseline", "avx2", "avx512")  # a CPU without one runs the next lesser
TOLERANCE = 2e-5  # of an array's largest value
# BLAS's products: on some CPUs their bits depend on the threads.
BLAS = {"fc", "fc, one image"}
BLAS_BACKWARD = {"1x1, one image, a position beyond vectors", "no groups, stride 2"}

Arrays = dict[str, np.ndarray]


def run(out: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """caffe_kernels.py, run in a process of its own; its arrays are in `out`."""
    spec = importlib.util.find_spec("caffe")
    assert spec is not None
    assert spec.origin is not None
    root = Path(__file__).resolve().parents[2]
    paths = [str(root), str(Path(spec.origin).parent.parent)]
    settings |= {"GLOG_minloglevel": "2", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "ignore", str(root / "tests/caffe_build/caffe_kernels.py"), str(out)]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Arrays]:
    """All arrays by instruction set and number of threads, each from a process of its own."""
    folder = tmp_path_factory.mktemp("kernels")
    found = {}
    for simd in SETS:
        for threads in (1, 2):
            out = folder / f"{simd}-{threads}.npz"
            done = run(out, {"CAFFE_SIMD": simd, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"})
            assert done.returncode == 0, done.stderr
            with np.load(out) as arrays:
                found[simd, threads] = dict(arrays)
    return found


def fields_of(case: str) -> dict[str, int]:
    """The numbers among a case's fields."""
    return {name: int(value) for name, value in re.findall(r"(\w+): (\d+)", CASES[case][2])}


def taps(case: str, y_shape: tuple[int, ...]) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """(row, column, the padded elements that meet it) of each element of a kernel."""
    fields = fields_of(case)
    size, stride, dilation = fields["kernel_size"], fields.get("stride", 1), fields.get("dilation", 1)
    for i in range(size):
        for j in range(size):
            at = [(k * dilation, n) for k, n in zip((i, j), y_shape[2:], strict=True)]
            yield i, j, tuple(slice(a, a + (n - 1) * stride + 1, stride) for a, n in at)  # type: ignore[misc]


def convolution(case: str, arrays: Arrays) -> Arrays:
    """What a (de)convolution makes of x, w, b and dy: sums in double over taps and groups."""
    fields = fields_of(case)
    x, w, b, dy = (arrays[name].astype(float) for name in ("x", "w", "b", "dy"))
    group, pad = fields.get("group", 1), fields.get("pad", 0)
    transposed = CASES[case][0] == "Deconvolution"
    few, many = (dy, x) if transposed else (x, dy)  # a kernel reads "few" where it makes one element of "many"
    beyond = pad + fields["kernel_size"] * fields.get("dilation", 1)  # of images smaller than the kernel
    padded = np.pad(few, [(0, 0), (0, 0), (pad, beyond), (pad, beyond)])
    to_many, to_padded, dw = np.zeros_like(many), np.zeros_like(padded), np.zeros_like(w)
    outputs, channels = w.shape[0] // group, w.shape[1]
    for g in range(group):
        m, c = slice(g * outputs, (g + 1) * outputs), slice(g * channels, (g + 1) * channels)
        for i, j, (rows, columns) in taps(case, many.shape):
            met = padded[:, c, rows, columns]
            to_many[:, m] += np.einsum("nchw,mc->nmhw", met, w[m, :, i, j])
            to_padded[:, c, rows, columns] += np.einsum("nmhw,mc->nchw", many[:, m], w[m, :, i, j])
            dw[m, :, i, j] += np.einsum("nmhw,nchw->mc", many[:, m], met)
    height, width = few.shape[2:]
    to_few = to_padded[:, :, pad : pad + height, pad : pad + width]
    y, dx = (to_few, to_many) if transposed else (to_many, to_few)
    return {"y": y + b[None, :, None, None], "dx": dx, "dw": dw, "db": dy.sum((0, 2, 3))}


def pooling(case: str, arrays: Arrays) -> Arrays:
    """What a pooling makes of x and dy, window by window; of equal maxima the first one has the gradient."""
    _, shape, text = CASES[case]
    fields, mean = fields_of(case), "pool: AVE" in text
    x, dy = arrays["x"].astype(float), arrays["dy"].astype(float)
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    kernel, stride, pad = (
        [
            fields.get(f"{name}_{axis}", fields.get(name if name != "kernel" else "kernel_size", default))
            for axis in "hw"
        ]
        for name, default in (("kernel", None), ("stride", 1), ("pad", 0))
    )
    if "global_pooling" in text:
        kernel = list(shape[2:])
    for p, q in np.ndindex(y.shape[2:]):
        begin = [k * s - a for k, s, a in zip((p, q), stride, pad, strict=True)]
        end = [min(a + k, n + o) for a, k, n, o in zip(begin, kernel, shape[2:], pad, strict=True)]
        at = tuple(slice(max(a, 0), min(z, n)) for a, z, n in zip(begin, end, shape[2:], strict=True))
        for n, c in np.ndindex(y.shape[:2]):
            window, gradient = x[(n, c, *at)], dx[(n, c, *at)]
            if mean:
                count = (end[0] - begin[0]) * (end[1] - begin[1])
                y[n, c, p, q] = window.sum() / count
                gradient += dy[n, c, p, q] / count
            else:
                y[n, c, p, q] = window.max()
                gradient[np.unravel_index(window.argmax(), window.shape)] += dy[n, c, p, q]
    return {"y": y, "dx": dx}


def inner_product(arrays: Arrays) -> Arrays:
    """What an InnerProduct makes of x, w, b and dy."""
    w, b, dy = (arrays[name].astype(float) for name in ("w", "b", "dy"))
    x = arrays["x"].astype(float).reshape(len(dy), w.shape[1])
    return {"y": x @ w.T + b, "dx": (dy @ w).reshape(arrays["x"].shape), "dw": dy.T @ x, "db": dy.sum(0)}


def test_a_set_that_no_cpu_has(tmp_path: Path) -> None:
    done = run(tmp_path / "out.npz", {"CAFFE_SIMD": "AVX2"})
    assert done.returncode != 0
    assert "CAFFE_SIMD=AVX2: it must be best, baseline, avx2 or avx512" in done.stderr


@pytest.mark.parametrize("simd", SETS)
@pytest.mark.parametrize("case", CASES)
def test_against_the_definition(case: str, simd: str, runs: dict[tuple[str, int], Arrays]) -> None:
    arrays = {name.partition("/")[2]: a for name, a in runs[simd, 2].items() if name.startswith(f"{case}/")}
    kind = CASES[case][0]
    if kind == "Pooling":
        expected = pooling(case, arrays)
    else:
        expected = inner_product(arrays) if kind == "InnerProduct" else convolution(case, arrays)
    for name, array in expected.items():
        np.testing.assert_allclose(
            arrays[name], array, rtol=0, atol=TOLERANCE * abs(array).max(initial=0), err_msg=name
        )


def by_blas(case: str, array: str, simd: str) -> bool:
    """Whether BLAS's product is at work in an array of a case: always in the gradient of a bias."""
    dense = "onvolution" in CASES[case][0] and "group" not in fields_of(case)
    if simd == "baseline" and dense and (array in {"dx", "dw"} or fields_of(case)["kernel_size"] == 1):
        return True
    return case in BLAS or array == "db" or (case in BLAS_BACKWARD and array != "y")


@pytest.mark.parametrize("simd", SETS)
def test_threads_do_not_change_a_bit(simd: str, runs: dict[tuple[str, int], Arrays]) -> None:
    one, two = runs[simd, 1], runs[simd, 2]
    assert one.keys() == two.keys()
    ours = {name: array for name, array in one.items() if not by_blas(*name.split("/", 1), simd)}
    assert ours
    for name, array in ours.items():
        np.testing.assert_array_equal(array.view(np.int32), two[name].view(np.int32), err_msg=name)
