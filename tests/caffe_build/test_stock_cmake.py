"""Stock Caffe's CMake files with the series: the GPU architectures that each CUDA is asked for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rootgen.caffe_build import series
from rootgen.caffe_build.tree import find_tree

# What each CUDA compiles for, of all that the series knows; the last one as PTX too, for what comes later.
ARCHITECTURES = {
    "8.0": "20 21 30 35 50 60 61",
    "9.2": "30 35 50 60 61 70",
    "10.2": "30 35 50 60 61 70 75",
    "11.0": "35 50 60 61 70 75 80",
    "11.1": "35 50 60 61 70 75 80 86",
    "11.8": "35 50 60 61 70 75 80 86 89 90",
    "12.4": "50 60 61 70 75 80 86 89 90",
    "12.8": "50 60 61 70 75 80 86 89 90 100 120",
    "13.0": "75 80 86 89 90 100 120",
}
# Cuda.cmake with a CUDA that is not there, and without what else it looks for.
PROJECT = """\
cmake_minimum_required(VERSION 3.18...4.0)
project(Architectures LANGUAGES NONE)
macro(find_package)
endmacro()
macro(find_cuda_helper_libs)
endmacro()
set(CUDA_FOUND TRUE)
include({tree}/cmake/Utils.cmake)
include({tree}/cmake/Cuda.cmake)
message("flags: ${{NVCC_FLAGS_EXTRA}}")
"""


@pytest.fixture(scope="module")
def tree(caffe_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caffe's tree with the build series."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake")
    folder = tmp_path_factory.mktemp("stock")
    found = find_tree(caffe_tree)
    series.copy_tree(found, folder)
    series.apply(series.wanted(vanilla=True), found, folder)
    return folder


def flags(tree: Path, folder: Path, *definitions: str) -> tuple[list[str], list[str]]:
    """The architectures that nvcc is to make code for, and those for PTX."""
    (folder / "CMakeLists.txt").write_text(PROJECT.format(tree=tree), encoding="utf-8")
    command = ["cmake", "-S", folder, "-B", folder / "build", "-DCUDA_NVCC_EXECUTABLE=/none", *definitions]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stderr.partition("flags: ")[2]
    return re.findall(r"code=sm_(\d+)", told), re.findall(r"code=compute_(\d+)", told)


@pytest.mark.parametrize("name", ["All", "Auto"])  # Auto: no GPU is found
@pytest.mark.parametrize("version", ARCHITECTURES)
def test_all_architectures_of_a_cuda(version: str, name: str, tree: Path, tmp_path: Path) -> None:
    real, virtual = flags(tree, tmp_path, f"-DCUDA_VERSION={version}", f"-DCUDA_ARCH_NAME={name}")
    assert real == ARCHITECTURES[version].split()
    assert virtual == real[-1:]


def test_named_architectures(tree: Path, tmp_path: Path) -> None:
    manual = ["-DCUDA_VERSION=13.0", "-DCUDA_ARCH_NAME=Manual"]
    assert flags(tree, tmp_path, *manual, "-DCUDA_ARCH_BIN=80 90") == (["80", "90"], [])
    assert flags(tree, tmp_path, *manual, "-DCUDA_ARCH_BIN=80", "-DCUDA_ARCH_PTX=75") == (["80"], ["75"])
