"""The CPU kernels by each compiler that is here: right to rounding, and in the instruction set that they are for."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rootgen.caffe_build import series
from rootgen.caffe_build.tree import find_tree

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parent / "simd_kernels/random_geometries.cpp"
COMPILERS = {
    "g++": ["g++", "-O2", "-static"],  # static: so that an emulator needs no libraries
    "clang++": ["clang++", "-O2", "-static"],
    "aarch64-linux-gnu-g++": ["aarch64-linux-gnu-g++", "-O2", "-static"],
    "sanitized": ["g++", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
SETS = ("baseline", "avx2", "avx512", "avx512 in halves")  # the last: the same, by the ways for such a CPU
CASES = 300


@pytest.fixture(scope="module")
def tree(caffe_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caffe's tree with the series."""
    folder = tmp_path_factory.mktemp("simd")
    found = find_tree(caffe_tree)
    series.copy_tree(found, folder)
    series.apply(series.wanted(vanilla=False), found, folder)
    return folder


@pytest.fixture(scope="module", params=COMPILERS)
def program(request: pytest.FixtureRequest, tree: Path) -> Path:
    """random_geometries by one of the compilers."""
    compiler, *flags = COMPILERS[request.param]
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    util = tree / "src/caffe/util"
    kernels = [*sorted(util.glob("*_conv*.cpp")), *sorted(util.glob("*_gradient.cpp"))]
    flags += ["-std=c++17", "-I", tree / "include"]
    command = [compiler, *flags, "-o", tree / request.param, SOURCE, *kernels]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tree / request.param


def emulator(program: Path) -> list[str]:
    """What runs a program of another machine."""
    if not program.name.startswith("aarch64") or platform.machine() == "aarch64":
        return []
    for name in ("qemu-aarch64-static", "qemu-aarch64"):
        if found := shutil.which(name):
            return [found]
    pytest.skip("no qemu-aarch64")


def known_sets(program: Path) -> int:
    """How many of SETS the program has and this CPU runs."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    if program.name.startswith("aarch64"):
        return 1
    return 4 if "avx512dq" in flags else 2 if "avx2" in flags else 1


def test_against_sums_in_double(program: Path) -> None:
    for simd in range(known_sets(program)):
        command = [*emulator(program), program, str(simd), str(CASES)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (SETS[simd], done.stdout, done.stderr)


def test_each_set_has_its_registers(program: Path) -> None:
    if program.name.startswith("aarch64") or program.name == "sanitized":
        pytest.skip("one set there, or checks between the instructions")
    listing = subprocess.run(["objdump", "-dC", program], capture_output=True, text=True, check=True).stdout
    registers: dict[str, set[str]] = {name: set() for name in SETS[:3]}
    for function in listing.split("\n\n"):
        name = re.search(r"conv_kernels::(\w+)::", function.partition("\n")[0])
        if name:
            registers[name[1]].update(re.findall(r"%([xyz]mm)", function))
    widest = {name: max(found) for name, found in registers.items()}
    assert widest == {"baseline": "xmm", "avx2": "ymm", "avx512": "zmm"}
