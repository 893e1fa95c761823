"""What the figures were taken on, for the first lines of each table."""

from __future__ import annotations

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path


def cpu_field(name: str) -> list[str]:
    """What /proc/cpuinfo says of each core; empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(name)]


def instruction_set() -> str:
    """The set of vector instructions that the patches' CPU kernels take here: avx512, avx2 or baseline."""
    flags = set(" ".join(cpu_field("flags")[:1]).split())
    if {"avx512f", "avx512vl", "avx512bw", "avx512dq", "fma"} <= flags:
        return "avx512"
    return "avx2" if {"avx2", "fma"} <= flags else "baseline"


def describe(*packages: str) -> str:
    """Date, processor, number of cores, and versions of Python and of `packages`."""
    names = cpu_field("model name")
    processor = f"{names[0]}, {len(names)} cores, {instruction_set()}" if names else platform.platform()
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    return ", ".join([str(date.today()), processor, *versions])
