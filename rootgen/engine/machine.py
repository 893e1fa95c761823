"""The machine that an engine runs on and the versions of what runs there, in words."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # variables that OpenMP and BLAS go by


def processor() -> str:
    """Name of the processor, as Linux gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its control group leaves it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdecimal() else whole


def threads() -> str:
    """Processors that this process may use, and the threads that it is told to take."""
    told = (f"{name}={os.environ[name]}" for name in THREADS if os.environ.get(name))
    return ", ".join([f"{len(os.sched_getaffinity(0))} processors", *told])


def versions(engine: str) -> str:
    """Versions of the packages that the results of an engine ("caffe", "torch", "onnx") depend on."""
    told = ["caffe 1.0"] if engine == "caffe" else []
    own = {"torch": ["torch"], "onnx": ["onnx", "onnxruntime"]}
    for package in ("rootgen", *own.get(engine, ()), "numpy"):
        with suppress(PackageNotFoundError):
            told.append(f"{package} {version(package)}")
    return ", ".join(told)


def facts(engine: str, device: str) -> dict[str, str]:
    """All that times in an engine depend on, besides the net; `device` is in words."""
    return {
        "engine": engine,
        "device": device,
        "processor": processor(),
        "threads": threads(),
        "versions": versions(engine),
        "commit": commit(),
        "library": library(engine),
    }


def library(engine: str) -> str:
    """Which build an engine without versions is: for pycaffe its library's place and when that was written, else ""."""
    found = find_spec("caffe") if engine == "caffe" else None
    if found is None or found.origin is None:
        return ""
    path = Path(found.origin).resolve().with_name("_caffe.so")
    return f"{path} {path.stat().st_mtime_ns}" if path.exists() else str(path)


@cache
def commit() -> str:
    """The commit of the git checkout that this package lies in, `-dirty` with changes; "" where it lies in none."""
    here = Path(__file__)
    asked = (
        ["ls-files", "--error-unmatch", here.name],  # else the repository is one around an installation
        ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
    )
    told = ""
    for words in asked:
        command = ["git", "-C", str(here.parent), *words]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return ""
    return told.strip()
