"""What a build needs of the machine: compiler, tools, libraries. What is missing, and the apt line that brings it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rootgen.caffe_build.options import BuildOptions
from rootgen.errors import RootgenError

log = logging.getLogger("rootgen")

# A header that tells whether a library is there, and Debian's package of it.
HEADERS = {
    ("boost/thread.hpp",): "libboost-thread-dev",
    ("boost/filesystem.hpp",): "libboost-filesystem-dev",
    ("glog/logging.h",): "libgoogle-glog-dev",
    ("gflags/gflags.h",): "libgflags-dev",
    ("google/protobuf/message.h",): "libprotobuf-dev",
    ("hdf5.h", "hdf5/serial/hdf5.h"): "libhdf5-dev",
    ("lmdb.h",): "liblmdb-dev",
    ("cblas.h", "openblas/cblas.h"): "libopenblas-openmp-dev",  # shares its threads with the OpenMP loops of conv/
}
OPENCV = {("opencv2/core.hpp", "opencv4/opencv2/core.hpp"): "libopencv-dev"}
LEVELDB = {("leveldb/db.h",): "libleveldb-dev"}
TOOLS = {"cmake": "cmake", "protoc": "protobuf-compiler", "patch": "patch"}
APT_INSTALL = ("apt-get", "install", "-y", "--no-install-recommends")
# A header of each CUDA library, and PyPI's wheels of it for CUDA 13 and for CUDA 12.
CUDA_WHEELS = {
    "cublas": ("cublas_v2.h", "nvidia-cublas", "nvidia-cublas-cu12"),
    "curand": ("curand.h", "nvidia-curand", "nvidia-curand-cu12"),
    "cudnn": ("cudnn.h", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    "nccl": ("nccl.h", "nvidia-nccl-cu13", "nvidia-nccl-cu12"),
}


@dataclass(frozen=True)
class Toolchain:
    """What was found: the C++ compiler, the CMake generator, and folders of CUDA libraries."""

    compiler: str
    generator: str
    cuda_roots: tuple[Path, ...]
    versions: dict[str, str]


def find_toolchain(options: BuildOptions) -> Toolchain:
    """The tools and libraries for `options`; RootgenError with the exact apt line for all that is missing."""
    packages = missing(options)
    if packages:
        raise RootgenError(
            f"missing to build Caffe: {', '.join(packages)}", hint=f"run: {' '.join([*APT_INSTALL, *packages])}"
        )
    versions = {"compiler": _version(_compiler()), "cmake": _version("cmake"), "protoc": _version("protoc")}
    roots: tuple[Path, ...] = ()
    if options.gpu:
        versions["nvcc"] = _version(_nvcc())
        roots = _cuda_roots(options, old="cuda_12." in versions["nvcc"])
    generator = "Ninja" if shutil.which("ninja") else "Unix Makefiles"
    return Toolchain(_compiler(), generator, roots, versions)


def install(packages: Sequence[str]) -> None:
    """Install Debian packages, where this is root on a Debian; elsewhere nothing happens, and `find` tells."""
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    log.info("installing %s", " ".join(packages))
    for command in (["apt-get", "update", "--quiet"], [*APT_INSTALL, *packages]):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise RootgenError(f"{' '.join(command[:2])} failed: {said}")


def missing(options: BuildOptions) -> list[str]:
    """Debian's packages for the tools and libraries that `options` need and this machine lacks."""
    compiler = _compiler()
    packages = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if not shutil.which("ninja") and not shutil.which("make"):
        packages.append("ninja-build")
    if not compiler:
        packages.insert(0, "g++")
    elif not shutil.which(compiler):
        raise RootgenError(f"CXX={compiler} names no compiler", hint="unset CXX, or name one that is installed")
    headers = HEADERS | (OPENCV if options.opencv else {}) | (LEVELDB if options.leveldb else {})
    packages += _missing_headers(compiler, headers)
    if options.python:
        packages += _missing_python(compiler)
    return packages


def _compiler() -> str:
    """The C++ compiler to use, '' where there is none."""
    return os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), "")


def _missing_headers(compiler: str, headers: dict[tuple[str, ...], str]) -> list[str]:
    """Packages of the headers that `compiler` does not find (one preprocessor run for all of them).

    Without a compiler, of those that are not in Debian's folders: one apt line then brings all.
    """
    if not compiler:
        folders = [Path("/usr/include"), *Path("/usr/include").glob("*-linux-gnu")]
        return [package for names, package in headers.items()
                if not any((folder / name).is_file() for folder in folders for name in names)]  # fmt: skip
    lines = []
    for names, package in headers.items():
        found = " || ".join(f"__has_include(<{name}>)" for name in names)
        lines.append(f"#if !({found})\nmissing {package}\n#endif")
    done = subprocess.run(
        [compiler, "-E", "-P", "-x", "c++", "-std=c++17", "-"],
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RootgenError(f"the compiler does not run: {said}", where=compiler, hint="set CXX to one that does")
    return re.findall(r"missing (\S+)", done.stdout)


def _missing_python(compiler: str) -> list[str]:
    """What pycaffe needs for the running interpreter: its headers and a Boost.Python for its version."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return ["python3-dev"]
    library = f"libboost_python{sys.version_info.major}{sys.version_info.minor}.so"
    there = {path.name for path in Path("/usr/lib").glob("*/libboost_python3*.so")}
    if library in there or (compiler and _library(compiler, library)):
        return []
    others = sorted(there)
    if others:
        raise RootgenError(
            f"no Boost.Python for this interpreter: {library} is wanted, {', '.join(others)} is there",
            where=sys.executable,
            hint="run rootgen with the Python that Boost.Python is for, or build with --no-python",
        )
    return ["libboost-python-dev"]


def _library(compiler: str, name: str) -> bool:
    """Whether the compiler's linker would find the library file `name`."""
    done = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    return done.stdout.strip() != name


def _nvcc() -> str:
    """Path of the CUDA compiler."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    found = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    if found is None:
        raise RootgenError("no nvcc, the CUDA compiler", hint="install the CUDA toolkit (12 or 13) or set CUDA_HOME")
    return found


def _cuda_roots(options: BuildOptions, *, old: bool) -> tuple[Path, ...]:
    """Folders with include/ and lib/ of the CUDA libraries: PyPI's nvidia-* wheels of this environment.

    `old`: the compiler is of CUDA 12, whose wheels have other names.
    """
    wanted = ["cublas", "curand", *(["cudnn"] if options.cudnn else []), *(["nccl"] if options.nccl else [])]
    toolkit = Path(_nvcc()).resolve().parent.parent
    system = [toolkit / "include", toolkit / "targets/x86_64-linux/include", Path("/usr/include")]
    roots: list[Path] = []
    missing = []
    for name in wanted:
        header, *wheels = CUDA_WHEELS[name]
        if any((folder / header).is_file() for folder in system):
            continue
        found = [folder.parent for entry in sys.path for folder in Path(entry).glob("nvidia/*/include")
                 if (folder / header).is_file()]  # fmt: skip
        if found:
            roots.append(found[0])
        else:
            missing.append(wheels[old])
    if missing:
        raise RootgenError(
            f"missing to build Caffe for the GPU: {', '.join(missing)}", hint=f"run: pip install {' '.join(missing)}"
        )
    return tuple(dict.fromkeys(roots))


def gpu_arch() -> str:
    """Compute capability of the first GPU here, as CMake wants it: 90."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.split()[0].replace(".", "")
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise RootgenError("no GPU here to build for", hint="name its architecture: --arch 90") from error


def _version(tool: str) -> str:
    """The line of `tool --version` that holds a version number."""
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout
    numbered = [line for line in said.splitlines() if re.search(r"\d+\.\d+", line)]
    return numbered[-1 if "nvcc" in tool else 0].strip() if numbered else "unknown"
