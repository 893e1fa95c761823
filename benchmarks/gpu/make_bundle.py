#!/usr/bin/env python3
"""Makes what run.py needs on a GPU machine without network: Caffe twice, its tests, and the libraries they load.

    python benchmarks/gpu/make_bundle.py [--arch 90] [--source TREE] [--out caffe-gpu.tar.xz]

Needs nvcc and the CUDA wheels that `rootgen caffe build --gpu --cudnn` asks for; no GPU. "vanilla" is Caffe with the
build series, "batched" with the conv series too. CUDA's own libraries stay out: PyTorch brings them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rootgen.caffe_build import series, toolchain
from rootgen.caffe_build import tree as source
from rootgen.caffe_build.build import build
from rootgen.caffe_build.options import BuildOptions
from rootgen.errors import RootgenError
from rootgen.files import replacing

HERE = Path(__file__).resolve().parent
LIMIT_MIB = 64
# Every machine with PyTorch and a GPU driver has its own of these, and perhaps newer ones.
LEFT_OUT = re.compile(
    r"ld-linux|lib(c|m|dl|rt|pthread|util|resolv|stdc\+\+|gcc_s)\.so|libcaffe"
    r"|lib(cuda|cudart|cublas|cublasLt|curand|cudnn|nccl)\b"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="90", help="CUDA architecture (default: 90, the H100's)")
    parser.add_argument("--source", type=Path, metavar="TREE", help="Caffe's source tree (default: fetched)")
    parser.add_argument("--out", type=Path, default=Path("caffe-gpu.tar.xz"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        for name in ("vanilla", "batched"):
            options = BuildOptions(vanilla=name == "vanilla", gpu=True, arch=args.arch, cudnn=True, python=False)
            add_variant(bundle, name, options, args.source)
        pack(bundle, args.out)
    mib = args.out.stat().st_size / 2**20
    print(f"{args.out}: {mib:.1f} MiB")
    if mib > LIMIT_MIB:
        raise SystemExit(f"more than the {LIMIT_MIB} MiB that a bundle may have")


def add_variant(bundle: Path, name: str, options: BuildOptions, named: Path | None) -> None:
    """Build Caffe with `options` and its programs; copy them and what they load into `bundle`."""
    roots = toolchain.find_toolchain(options).cuda_roots
    place = bundle / name
    (place / "lib").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        # A place of its own: the Caffe that rootgen uses stays what it is.
        prefix = build(options, named=named, prefix=Path(work) / "prefix").path
        shutil.copy(prefix / "lib/libcaffe.so.1.0.0", place / "lib")
        shutil.copy(prefix / "rootgen.json", place)
        for program in programs(Path(work), prefix, options, named, roots):
            shutil.copy(program, place)
            subprocess.run(["strip", place / program.name], check=True)
            copy_libraries(program, [prefix / "lib", *(root / "lib" for root in roots)], bundle / "lib")


def programs(
    work: Path, prefix: Path, options: BuildOptions, named: Path | None, roots: Iterable[Path]
) -> Iterator[Path]:
    """Compile conv_tests and time_nets against the Caffe at `prefix`."""
    tree = source.find_tree(named)
    series.copy_tree(tree, work / "tree")
    series.apply(series.wanted(vanilla=options.vanilla), tree, work / "tree")
    configure = [
        "cmake", "-S", str(HERE), "-B", str(work / "build"),
        f"-DCAFFE_PREFIX={prefix}", f"-DCAFFE_TREE={work / 'tree'}",
        f"-DCUDA_ROOTS={';'.join(map(str, roots))}", "-DCMAKE_BUILD_TYPE=Release",
    ]  # fmt: skip
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    jobs = str(len(os.sched_getaffinity(0)))
    subprocess.run(["cmake", "--build", str(work / "build"), "--parallel", jobs], check=True, stdout=subprocess.DEVNULL)
    yield from (work / "build/conv_tests", work / "build/time_nets")


def copy_libraries(program: Path, folders: Iterable[Path], to: Path) -> None:
    """Copy the libraries that `program` loads, but those of LEFT_OUT."""
    to.mkdir(exist_ok=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, env=environment).stdout
    for name, path in re.findall(r"(\S+) => (\S+)", said):
        if LEFT_OUT.match(name):
            continue
        if path == "not":
            raise SystemExit(f"{program.name} needs {name}, which is not found")
        shutil.copy(path, to / name)


def pack(bundle: Path, out: Path) -> None:
    """Write the archive, whole or not at all."""
    with replacing(out) as beside, tarfile.open(beside, "w:xz", preset=9) as archive:
        archive.add(bundle, arcname="bundle")


if __name__ == "__main__":
    try:
        main()
    except RootgenError as error:
        raise SystemExit(f"make_bundle.py: {error}") from None
    except subprocess.CalledProcessError as error:  # what it said stands above
        raise SystemExit(f"make_bundle.py: {error.cmd[0]} failed with exit code {error.returncode}") from None
