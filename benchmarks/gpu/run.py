#!/usr/bin/env python3
"""Tests and times grouped convolution on a GPU: one command, about 9 minutes, no network.

    python benchmarks/gpu/run.py caffe-gpu.tar.xz --out RESULTS [--minutes 9] [--only STEP,...] [--variants NAME;...]

From the repository, with PyTorch and its CUDA libraries, protobuf and NumPy; with Matplotlib for the plot. Writes
RESULTS/times.csv, table.md, plot.png and logs: Caffe's VARIANTS and PyTorch (convolutions NCHW and channels_last, whole
nets channels_last; TF32 off, then on). Exit code 1 if a test failed. What was not run, or the time did not suffice for,
is named.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
# (A folder "google" may be other packages' alone, but then importing protobuf says so.)
PACKAGES = {"google": "protobuf", "numpy": "numpy", "torch": "torch"}
if missing := [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]:
    raise SystemExit(f"run.py: not installed here: {', '.join(missing)}")

import cases  # noqa: E402
import report  # noqa: E402
import torch  # noqa: E402
import torch_layers  # noqa: E402
from report import Row  # noqa: E402


class Variant(NamedTuple):
    """A way to run Caffe: which build, by which engine, with which settings."""

    name: str
    build: str
    engine: str
    settings: Mapping[str, str] = MappingProxyType({})


# Fast ones first: what the time does not suffice for is the slowest.
VARIANTS = (
    Variant("batched CAFFE", "batched", "CAFFE"),
    Variant("batched CUDNN", "batched", "CUDNN"),
    Variant("batched CUDNN, guess", "batched", "CUDNN", MappingProxyType({"CAFFE_CUDNN_FIND": "guess"})),
    Variant("batched DEFAULT", "batched", "DEFAULT"),
    Variant("batched CAFFE, one by one", "batched", "CAFFE", MappingProxyType({"CAFFE_CONV_BATCH": "groups"})),
    Variant("batched CAFFE, products", "batched", "CAFFE", MappingProxyType({"CAFFE_CONV_DIRECT": "0"})),
    Variant("vanilla CUDNN", "vanilla", "CUDNN"),
    Variant("vanilla CAFFE", "vanilla", "CAFFE"),
)
# The tests of the bundle: once, or for each type, or for each type and device, of which /2 and /3 are the GPU's.
SUITES = (
    *("ConvImagesPerPassTest", "ConvWorkspaceTest", "ConvolutionEngineTest", "DirectConvolutionTest", "GpuMemoryTest"),
    "LayerScopeTest",
    *(f"{name}/{i}" for i in (0, 1) for name in (
        "CuDNNConvolutionLayerTest", "GroupedCuDNNTest", "PlaneLayersTest", "StridedBatchedGemmTest",
    )),
    *(f"{name}/{i}" for i in (2, 3) for name in (
        "BatchNormLayerTest", "BatchedConvolutionTest", "ConvolutionLayerTest", "CuDNNDeconvolutionLayerTest",
        "DeconvolutionLayerTest", "GroupedConvolutionLayerTest", "Im2colLayerTest", "NoImagesTest", "ScaleLayerTest",
    )),
)  # fmt: skip
TESTS = (
    ":".join(f"{suite}.*" for suite in SUITES)
    + "-*LayerTest*Gradient*:*LayerTest*NDAgainst2D"  # minutes; BatchedConvolutionTest has its own
)
SANITIZED = ":".join((
    *("BatchedConvolutionTest/2.TestWholeBatch", "StridedBatched*"),
    *("PlaneLayersTest/0.TestBatchNorm", "PlaneLayersTest/0.TestScaleAndBias"),
))  # fmt: skip
BUFFERS = (32, 64, 128, 256, 1024)


class Bench:
    """The unpacked bundle, the results so far, and the time that is left."""

    def __init__(self, bundle: Path, out: Path, minutes: float, variants: Sequence[Variant] = VARIANTS) -> None:
        self.bundle, self.out, self.variants = bundle, out, variants
        self.end = time.monotonic() + 60 * minutes
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.left_out: dict[str, list[str]] = {}  # nets that the time did not suffice for
        self.environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries(bundle)))}

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def start(self, log: str, *command: object, **environment: str) -> tuple[subprocess.Popen[bytes], Path, int]:
        """Start a program, its output into OUT/log too; the process, the log, and where its output begins there."""
        path = self.out / log
        with path.open("ab") as sink:
            begin = sink.tell()
            process = subprocess.Popen(
                [str(part) for part in command], stdout=sink, stderr=subprocess.STDOUT, cwd=self.bundle,
                env={**self.environment, **environment}, start_new_session=True,
            )  # fmt: skip
        return process, path, begin

    def end_of(self, started: tuple[subprocess.Popen[bytes], Path, int], limit: float) -> tuple[int, str]:
        """Wait for what `start` started, at most `limit` seconds; exit code (124: out of time) and output."""
        process, path, begin = started
        try:
            code = process.wait(max(0, min(limit, self.left)))
        except subprocess.TimeoutExpired:
            code = 124
        finally:  # what it started too: it would share the GPU with all that is timed after it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return code, path.read_bytes()[begin:].decode("utf-8", "replace")

    def call(self, log: str, *command: object, limit: float, **environment: str) -> tuple[int, str]:
        """Run a program; see `start` and `end_of`."""
        if self.left < 1:
            self.note(f"no time left for {log}")
            return 124, ""
        return self.end_of(self.start(log, *command, **environment), limit)

    def note(self, text: str) -> None:
        print(text, flush=True)
        self.notes.append(text)


def libraries(bundle: Path) -> Iterator[Path]:
    """Folders of shared libraries: PyTorch's CUDA wheels, the toolkit, then the bundle's."""
    for entry in sys.path:
        yield from sorted(Path(entry).glob("nvidia/*/lib"))
    yield Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "lib64"
    yield bundle / "lib"


def check(bench: Bench) -> bool:
    """Run the convolution tests on the GPU, and beside them some under compute-sanitizer; whether all passed."""
    tests = bench.bundle / "batched/conv_tests"
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    results = dict.fromkeys(("memcheck", "racecheck"), "NOT RUN: no compute-sanitizer here")
    passed = True
    with contextlib.ExitStack() as stack:
        under = {}
        for name in results if tool else ():
            command = [tool, f"--tool={name}", "--error-exitcode=9", tests, f"--gtest_filter={SANITIZED}"]
            under[name] = bench.start(f"{name}.log", *command)
            stack.callback(bench.end_of, under[name], limit=0)  # whatever happens here
        code, said = bench.call("tests.log", tests, f"--gtest_filter={TESTS}", limit=150)
        bench.note(f"tests on the GPU: exit code {code}, {said.count('[       OK ]')} passed")
        missing = [suite for suite in SUITES if f"[       OK ] {suite}." not in said]
        if missing:
            bench.note(f"no test passed of {', '.join(missing)}")
        passed &= code == 0 and not missing
        for name, started in under.items():
            code, _ = bench.end_of(started, limit=75)
            results[name] = {0: "clean", 124: "NOT RUN to its end: out of time"}.get(code, f"exit code {code}")
            passed &= code in (0, 124)
    for name, result in results.items():
        bench.note(f"{name}: {result}")
        with (bench.out / "tests.log").open("a") as sink:
            sink.write(f"{name}: {result}\n")
    return passed


def _layer_nets(bench: Bench, batch: int, engine: str, shapes: Sequence[cases.Convolution]) -> list[Path]:
    """A net for each convolution."""
    nets = bench.out / "nets" / f"{engine}_{batch}"
    nets.mkdir(parents=True, exist_ok=True)
    for shape in shapes:
        (nets / shape.name).write_text(shape.net_parameter(batch, engine))
    return [nets / shape.name for shape in shapes]


def time_caffe_layers(bench: Bench) -> None:
    shapes = list(cases.convolutions())
    for batch in cases.BATCHES:
        for variant in bench.variants:
            if variant.engine == "DEFAULT":
                continue
            program = bench.bundle / variant.build / "time_nets"
            paths = _layer_nets(bench, batch, variant.engine, shapes)
            _, said = bench.call("layers.log", program, 0.1, "conv", *paths, limit=90, **variant.settings)
            bench.rows += parse(said, "layer", batch, variant.name)


def time_buffers(bench: Bench) -> None:
    """The products of the batched code with other sizes of their buffer, at the larger batch."""
    batch = cases.BATCHES[-1]
    nets = _layer_nets(bench, batch, "CAFFE", [shape for shape in cases.convolutions() if shape.group > 1])
    for mb in BUFFERS:
        settings = {"CAFFE_CONV_DIRECT": "0", "CAFFE_CONV_BUFFER_MB": str(mb)}
        program = bench.bundle / "batched/time_nets"
        _, said = bench.call("buffers.log", program, 0.05, "conv", *nets, limit=30, **settings)
        bench.rows += parse(said, "buffer", batch, f"{mb} MiB")


def time_nets(bench: Bench) -> None:
    """Whole nets, the smaller batch first."""
    for batch in cases.BATCHES:
        bench.rows += torch_layers.net_times(batch, lambda: bench.left)
        for variant in bench.variants:
            if "products" in variant.name:
                continue
            for name in cases.NETS:
                _time_net(bench, name, batch, variant)


def time_net_layers(bench: Bench) -> None:
    """Every layer of some nets, the smaller batch, in the ways that a net's convolutions may go."""
    batch = cases.BATCHES[0]
    for variant in bench.variants:
        for name in cases.NETS_BY_LAYER:
            if variant.build == "vanilla" or "products" in variant.name:
                continue
            path = _whole_net(bench, name, batch, variant)
            program = bench.bundle / variant.build / "time_nets"
            _, said = bench.call("net_layers.log", program, 0.01, "+", path, limit=30, **variant.settings)
            for row in parse(said, "net layer", batch, variant.name):
                layer = row.case.partition(":")[2]
                bench.rows.append(row._replace(case=f"{name} {layer}"))


def _whole_net(bench: Bench, name: str, batch: int, variant: Variant) -> Path:
    path = bench.out / "nets" / f"{name.replace('/', '_')}_{variant.engine}_{batch}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(cases.whole_net(cases.train_val(name), batch, variant.engine))
    return path


def _time_net(bench: Bench, name: str, batch: int, variant: Variant) -> None:
    if bench.left < 5:
        bench.left_out.setdefault(f"{variant.name}, batch {batch}", []).append(name)
        return
    path = _whole_net(bench, name, batch, variant)
    program = bench.bundle / variant.build / "time_nets"
    code, said = bench.call("nets.log", program, 0.3, "-", path, limit=40, **variant.settings)
    bench.rows += [Row(row.kind, name, *row[2:]) for row in parse(said, "net", batch, variant.name)]
    if code:
        bench.note(f"{name}, batch {batch}, {variant.name}: exit code {code}, see nets.log")


def parse(said: str, kind: str, batch: int, implementation: str) -> list[Row]:
    """The lines of time_nets."""
    rows = []
    for line in said.splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[0].startswith("/"):
            path, colon, layer = parts[0].partition(":")
            case = f"{Path(path).name}{colon}{layer}"
            rows.append(Row(kind, case, batch, implementation, float(parts[1]), float(parts[2])))
    return rows


STEPS: dict[str, Callable[[Bench], object]] = {
    "layers": time_caffe_layers,
    "torch": lambda bench: bench.rows.extend(torch_layers.times(lambda: bench.left)),
    "buffers": time_buffers,
    "nets": time_nets,
    "net-layers": time_net_layers,
}


def chosen(text: str | None, between: str, known: Sequence[str]) -> list[str]:
    """Which of the `known` names `text` lists, with `between` between them; all without one."""
    if text is None:
        return list(known)
    wanted = text.split(between)
    found = [name for name in known if name in wanted]
    if len(found) < len(set(wanted)):
        raise SystemExit(f"run.py: {text}: each must be one of {'; '.join(known)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="what make_bundle.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--only", metavar="STEP,...", help=f"of tests, {', '.join(STEPS)}")
    parser.add_argument("--variants", metavar="NAME;...", help="of the ways to run Caffe")
    args = parser.parse_args()
    steps = chosen(args.only, ",", ["tests", *STEPS])
    names = chosen(args.variants, ";", [variant.name for variant in VARIANTS])
    if not torch.cuda.is_available():
        raise SystemExit("run.py: PyTorch finds no CUDA device here")
    if not args.bundle.is_file():
        raise SystemExit(f"run.py: {args.bundle} is no file: make it with make_bundle.py")
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(args.bundle) as archive:
            archive.extractall(folder, filter="data")
        variants = [variant for variant in VARIANTS if variant.name in names]
        bench = Bench(Path(folder) / "bundle", args.out, args.minutes, variants)
        passed = check(bench) if "tests" in steps else True
        machine = torch_layers.machine()
        report.write(args.out, bench.rows, machine, bench.notes)  # something, if what follows is cut off
        for name, step in STEPS.items():
            if name in steps:
                step(bench)
                report.write(args.out, bench.rows, machine, bench.notes)
        shutil.rmtree(args.out / "nets", ignore_errors=True)
        for what, left_out in bench.left_out.items():
            bench.note(f"no time left for {what}: {', '.join(left_out)}")
        report.write(args.out, bench.rows, machine, bench.notes)
    print((args.out / "table.md").read_text())
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
