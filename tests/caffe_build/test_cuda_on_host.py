"""The GPU code of the convolution series, run on the host: what it computes, and how many calls it makes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from rootgen.caffe_build import series
from rootgen.caffe_build import tree as source

HERE = Path(__file__).parent / "cuda_on_host"
pytestmark = pytest.mark.slow

PRODUCTS = {"CAFFE_CONV_DIRECT": "0"}
CALLS = {  # per layer and iteration (forward and backward) at batch 32 and 16 groups: vanilla, batched
    "Convolution": (1696, 6),
    "Deconvolution": (1664, 6),
    "CuDNNConvolution": (82, 5),
    "CuDNNDeconvolution": (82, 5),
}
SUITES = {  # of conv_tests: once, or for each type, or for each type and device (/2 and /3 are the GPU's)
    *("ConvImagesPerPassTest", "ConvWorkspaceTest", "CuDNNErrorTest", "DirectConvolutionTest", "GpuMemoryTest"),
    *("LayerScopeTest", "SettingTest"),
    *(f"{name}/{i}" for i in range(2) for name in (
        "CuDNNConvolutionLayerTest", "GroupedCuDNNTest", "StridedBatchedGemmTest",
    )),
    *(f"{name}/{i}" for i in range(4) for name in (
        "BatchedConvolutionTest", "ConvolutionLayerTest", "CuDNNDeconvolutionLayerTest", "DeconvolutionLayerTest",
        "GroupedConvolutionLayerTest", "NoImagesTest",
    )),
}  # fmt: skip
OTHERS = {  # of layers that have no settings
    *(f"PlaneLayersTest/{i}" for i in range(2)),
    *(f"{name}LayerTest/{i}" for i in range(4) for name in ("BatchNorm", "Bias", "Scale")),
}
NUMERIC_GRADIENTS = "*Gradient:*Gradient3D:*GradientGroup*:*GradientCuDNN"


@pytest.fixture(scope="module")
def counter(caffe_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The program count_calls of "vanilla" Caffe, or of "batched": with the conv series."""

    @cache
    def build(kind: str) -> Path:
        return _build(
            tmp_path_factory.mktemp(kind), caffe_tree, "count_calls", "-DWITH_CUDNN=ON", vanilla=kind == "vanilla"
        )

    return build


@pytest.fixture
def batched(counter: Callable[[str], Path]) -> Path:
    """The program count_calls of Caffe with the conv series."""
    return counter("batched")


def _build(folder: Path, tree: Path, target: str, *options: str, vanilla: bool = False) -> Path:
    """Patch a copy of `tree`, configure and compile; the path of the program `target`."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake")
    found = source.find_tree(tree)
    series.copy_tree(found, folder / "tree")
    series.apply(series.wanted(vanilla=vanilla), found, folder / "tree")
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    configure = ["cmake", "-S", HERE, "-B", folder / "build", f"-DCAFFE_SOURCE={folder / 'tree'}", *launcher, *options]
    done = subprocess.run(configure, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return _compile(folder / "build", target)


def _compile(folder: Path, target: str) -> Path:
    """Compile in the configured `folder`; the path of the program `target`."""
    jobs = str(len(os.sched_getaffinity(0)))
    command = ["cmake", "--build", folder, "--target", target, "--parallel", jobs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder / target


def _passed(program: Path, settings: Mapping[str, str], left_out: str = "") -> set[str]:
    """Run a test program, which must pass; the suites of which a test passed."""
    done = subprocess.run(
        [program, f"--gtest_filter=*-{left_out}"], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **settings},
    )  # fmt: skip
    assert done.returncode == 0, (settings, (done.stdout + done.stderr)[-4000:])
    return set(re.findall(r"^\[       OK \] ([\w/]+)\.", done.stdout, re.MULTILINE))


def _counts(program: Path, *arguments: object, **environment: str) -> dict[str, int]:
    """What `program` printed: calls by name."""
    command = [str(part) for part in (program, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return {name: int(calls) for name, calls in (line.split() for line in done.stdout.splitlines())}


@pytest.mark.parametrize("layer", CALLS)
def test_calls_per_layer_and_iteration(counter: Callable[[str], Path], layer: str) -> None:
    totals = [_counts(counter(kind), layer, 32, 16)["total"] for kind in ("vanilla", "batched")]
    assert tuple(totals) == CALLS[layer]


def test_calls_of_products(batched: Path) -> None:
    totals = [_counts(batched, layer, 32, 16, **PRODUCTS)["total"] for layer in ("Convolution", "Deconvolution")]
    assert totals == [40, 39]


@pytest.mark.parametrize("kind", ["vanilla", "batched"])
def test_without_groups_the_calls_are_vanillas_where_asked_for(counter: Callable[[str], Path], kind: str) -> None:
    counts = _counts(counter(kind), "Convolution", 8, 1, CAFFE_CONV_BATCH="groups")
    assert counts == {"im2col_gpu_kernel": 16, "col2im_gpu_kernel": 8, "cublasSgemm": 32, "cublasSgemv": 8, "total": 64}


def test_without_groups_all_images_go_together(batched: Path) -> None:
    counts = _counts(batched, "Convolution", 8, 1)
    assert counts == {
        "im2col_gpu_kernel": 2, "col2im_gpu_kernel": 1, "cublasSgemmStridedBatched": 4, "cublasSgemv": 3, "total": 10
    }  # fmt: skip


PASSES = {"cudnnConvolutionForward", "cudnnConvolutionBackwardData", "cudnnConvolutionBackwardFilter"}


@pytest.mark.parametrize(
    ("settings", "algorithm"),
    [({}, ""), ({"CAFFE_CUDNN_FIND": "guess"}, "/1"), ({"CAFFE_CUDNN_MATH": "tf32"}, "/2")],
    ids=["found", "guessed", "found with tensor cores"],
)
def test_which_algorithm_of_cudnn(batched: Path, settings: dict[str, str], algorithm: str) -> None:
    # The host's cuDNN takes 1 for fastest by its heuristics; run, 2 is, which needs tensor cores, and then 0.
    counts = _counts(batched, "CuDNNConvolution", 4, 2, **settings)
    assert {name for name in counts if name.startswith(tuple(PASSES))} == {name + algorithm for name in PASSES}


def test_a_full_device_finds_algorithms_without_workspace(batched: Path) -> None:
    # Blobs take 3.4 MB: there are no 64 MiB to try in, nor for the filter's gradient.
    counts = _counts(batched, "CuDNNConvolution", 4, 2, CUDA_ON_HOST_MEMORY="6000000")
    assert {"cudnnConvolutionForward", "cudnnConvolutionBackwardData"} <= set(counts)


def test_few_channels_in_a_group_slide(batched: Path) -> None:
    one, four, eight = (set(_counts(batched, "Convolution", 4, 64 // channels, 64)) for channels in (1, 4, 8))
    assert {"slide", "slide_gradient"} <= one
    assert {"slide", "weight_gradient"} <= four
    assert "slide" not in eight


def test_a_smaller_limit_takes_more_passes(batched: Path) -> None:
    # 256 channels of 14 x 14 pixels: 1.7 MiB of columns and 0.14 of partial gradients per image.
    limits = {mb: {**PRODUCTS, "CAFFE_CONV_BUFFER_MB": str(mb)} for mb in (64, 32, 4, 1, 0)}
    passes = {mb: _counts(batched, **limit)["col2im_gpu_kernel"] for mb, limit in limits.items()}
    assert passes == {64: 1, 32: 2, 4: 16, 1: 32, 0: 32}


def test_a_full_device_takes_more_passes(batched: Path) -> None:
    # Bottom and top, data and diff, take 25 MiB, the weights 0.3: a workspace for all 32 images does not fit.
    counts = _counts(batched, CUDA_ON_HOST_MEMORY=str(50 << 20), **PRODUCTS)
    assert counts["col2im_gpu_kernel"] == 4


def test_a_full_device_takes_fewer_partial_gradients(batched: Path) -> None:
    # Blobs take 25.99 MB, each of 21 partial gradients 0.15.
    for layer in ("Convolution", "Deconvolution"):
        assert _counts(batched, layer, 32, 16, CUDA_ON_HOST_MEMORY="26200000")["total"] == 6


def test_a_full_device_adds_up_the_bias_image_by_image(batched: Path) -> None:
    # Blobs take 25.71 MB, a partial gradient 0.009, the bias's sums 0.033.
    counts = _counts(batched, "Convolution", 32, 256, CUDA_ON_HOST_MEMORY="25730000")
    assert counts["cublasSgemv"] == 32 + 1


def test_a_full_device_and_a_layer_that_needs_no_workspace(batched: Path) -> None:
    # Of a 1x1 convolution: blobs take 25.73 MB, each image's partial gradient 0.016; one image alone needs none.
    counts = _counts(batched, "Convolution", 32, 16, 256, 14, 1, CUDA_ON_HOST_MEMORY="25740000")
    assert counts["cublasSgemmStridedBatched"] == 16 + 1 + 32 + 32


def test_out_of_memory_names_the_layer_and_the_size(batched: Path) -> None:
    command = [str(batched), "Convolution", "2", "2", "256", "14", "3"]
    environment = {**os.environ, **PRODUCTS, "CUDA_ON_HOST_MEMORY": str(4 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode != 0
    assert "layer 'counted': out of GPU memory: asked for 1806336 bytes (1 MiB)" in done.stderr


SETTINGS = {  # the layer that reads it, a value that it does not know, what it must be
    "CAFFE_CONV_BATCH": ("Convolution", "none", "all or groups"),
    "CAFFE_CONV_BUFFER_MB": ("Convolution", "1.5", "a whole number of MiB"),
    "CAFFE_CONV_DIRECT": ("Convolution", "2", "1 or 0"),
    "CAFFE_CUDNN_FIND": ("CuDNNConvolution", "0", "run or guess"),
    "CAFFE_CUDNN_MATH": ("CuDNNConvolution", "fp16", "fp32 or tf32"),
    "CAFFE_CUDNN_WORKSPACE_MB": ("CuDNNConvolution", "many", "a whole number of MiB"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_unknown_and_empty(batched: Path, name: str) -> None:
    layer, unknown, must = SETTINGS[name]
    assert _counts(batched, layer, 4, 2, **{name: ""}) == _counts(batched, layer, 4, 2)
    done = subprocess.run(
        [batched, layer, "4", "2"], capture_output=True, text=True, check=False, env={**os.environ, name: unknown}
    )
    assert done.returncode != 0
    assert f"{name}={unknown}: it must be {must}" in done.stderr


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
def test_convolutions_on_the_host(caffe_tree: Path, tmp_path: Path, sanitize: bool) -> None:
    program = _build(tmp_path, caffe_tree, "conv_tests", f"-DSANITIZE={'ON' if sanitize else 'OFF'}", "-DWITH_CUDNN=ON")
    for settings in ({}, PRODUCTS, {"CAFFE_CONV_BATCH": "groups"}):
        # Numeric gradients run the same kernels some thousand times more.
        left_out = NUMERIC_GRADIENTS if sanitize or settings else ""
        if settings:
            left_out += "".join(f":{suite}.*" for suite in OTHERS)
        # A program without some of the tests passes too.
        assert _passed(program, settings, left_out) == (SUITES if settings else SUITES | OTHERS)


@pytest.mark.parametrize("settings", [{}, PRODUCTS, {"CAFFE_CONV_BATCH": "groups"}], ids=["all", "products", "groups"])
def test_which_engine_is_the_default(batched: Path, settings: dict[str, str]) -> None:
    program = _compile(batched.parent, "engine_tests")
    assert _passed(program, settings) == {"ConvolutionEngineTest"}
