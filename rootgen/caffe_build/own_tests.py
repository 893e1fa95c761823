"""Caffe's own tests, C++ and Python, run on the tree that was built."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

from rootgen.caffe_build.commands import Commands

CPP_TESTS = 1058  # of Caffe's on the CPU, without OpenCV and LevelDB; conv/ adds its own. For the progress bar
KERNEL_TESTS = ":".join(
    f"{suite}/*"
    for suite in (
        *("BatchNormLayerTest", "ConvolutionLayerTest", "DeconvolutionLayerTest", "GroupedConvolutionLayerTest"),
        *("NetConcatTest", "NetTailTest", "NormTailTest", "PoolingLayerTest", "PlanesTest", "PoolingPlanesTest"),
        *("ScaleLayerTest", "SumTailTest", "TapGradientTest"),
    )
)
LESSER_SETS = ("avx2", "baseline")  # CAFFE_SIMD of conv/; the first run takes the best that the CPU has
ONE_CPP_TEST = re.compile(r"\[       OK \]")


def run(commands: Commands, work: Path, installed: Path, *, gpu: bool) -> None:
    """Run both; `work` holds tree/ and build/ (with WITH_TESTS), `installed` the prefix. RootgenError on a failure."""
    tree = work / "tree"
    gtest = [str(work / "build/caffe_tests"), *([] if gpu else ["--gtest_filter=-*GPU*"])]
    commands.run(gtest, "Caffe's C++ tests", cwd=tree, steps=(ONE_CPP_TEST, CPP_TESTS))
    for simd in LESSER_SETS:
        by_kernels = [gtest[0], f"--gtest_filter={KERNEL_TESTS}{'' if gpu else '-*GPU*'}"]
        commands.run(by_kernels, f"the same of its kernels, {simd}", cwd=tree, environment={"CAFFE_SIMD": simd})
    if not (installed / "python/caffe/_caffe.so").is_file():
        return
    folder = tree / "python/caffe/test"
    modules = sorted(path.stem for path in folder.glob("test_*.py"))
    if not find_spec("pydot"):
        modules.remove("test_draw")  # draws with Graphviz, through pydot
    commands.run(
        [sys.executable, "-m", "unittest", "--verbose", *modules], "pycaffe's tests", cwd=folder,
        environment={"PYTHONPATH": str(installed / "python"), "GLOG_minloglevel": "2"},
    )  # fmt: skip
