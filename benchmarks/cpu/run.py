"""Time grouped convolution on the CPU: vanilla and patched Caffe, OpenCV, PyTorch; layers and whole nets.

    python benchmarks/cpu/run.py --vanilla PREFIX --patched PREFIX [--threads 1 2] [--batch 16]

A PREFIX is what `rootgen caffe build` installs (vanilla: with the build series only). Every engine runs in a process
of its own with the same threads. A time is the median of at least 7 runs in each process, and of --rounds such
processes: the engines take turns, so that none has all its runs while a shared machine is slow. Writes cpu.csv, cpu.md
and cpu.png into a folder named after the CPU's vector instructions, as the kernels differ by them.
oneDNN and LIBXSMM (libraries.cpp, compiled here) are left out, with a note, where they are not installed (Debian:
libdnnl-dev, libxsmm-dev). --keep takes the rows of other engines and threads from the cpu.csv that is there.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(Path(__file__).parent)]

import report  # noqa: E402
from machine import instruction_set  # noqa: E402

from rootgen import paths  # noqa: E402
from rootgen.errors import RootgenError  # noqa: E402
from rootgen.files import write_text  # noqa: E402
from rootgen.generator import architectures as tables  # noqa: E402

LAYERS = {  # the paper's spatial convolutions, ungrouped and as grouped as the paper has them
    "ResNet-50 res2 3x3": ((64, 56, 64, 3), (1, 64)),
    "ResNet-50 res3 3x3": ((128, 28, 128, 3), (1, 32)),
    "ResNet-50 res4 3x3": ((256, 14, 256, 3), (1, 16)),
    "ResNet-50 res5 3x3": ((512, 7, 512, 3), (1, 8)),
    "NiN conv2a 5x5": ((96, 16, 192, 5), (1, 8)),
    "NiN conv3a 3x3": ((192, 8, 192, 3), (1, 4)),
    "GoogLeNet 4a 3x3": ((96, 14, 208, 3), (1, 16)),
    "GoogLeNet 4a 5x5": ((16, 14, 48, 5), (1, 16)),
}
NETS = ("nin", "googlenet", "resnet50")
LIBRARIES = {"onednn": "-ldnnl", "onednn blocked": "-ldnnl", "libxsmm": "-lxsmm"}  # engine: what it is linked with
NUMBERS = ("group", "batch", "threads")  # whole numbers in cpu.csv
ENGINES = ("vanilla", "patched", "opencv", "torch", "torch channels_last", "copy", *LIBRARIES)


def layer_jobs(batch: int) -> list[dict]:
    return [
        {"layer": name, "channels": c, "size": s, "num_output": m, "kernel": k, "group": group, "batch": batch}
        for name, ((c, s, m, k), groups) in LAYERS.items()
        for group in groups
    ]


def net_jobs(batch: int) -> list[dict]:
    """One job for each row of the paper's tables that has a CPU time."""
    folder = paths.resource("prototxt")
    return [
        {
            "net": str(folder / arch / tables.row_folder(row) / "deploy.prototxt"),
            "arch": arch,
            "row": row,
            "batch": batch,
        }
        for arch in NETS
        for row in tables.reported(arch)
    ]


def compiled(engine: str, folder: Path) -> Path | None:
    """libraries.cpp with the library of `engine`; None, and a note on stderr, where that is not installed."""
    library, program = LIBRARIES[engine], folder / "libraries"
    define = f"-DWITH_{engine.partition(' ')[0].upper()}"
    command = ["c++", "-O2", "-fopenmp", define, str(Path(__file__).with_name("libraries.cpp")), "-o", str(program)]
    done = subprocess.run([*command, library, "-lblas"], capture_output=True, text=True, check=False)
    if done.returncode:
        telling = [line for line in done.stderr.splitlines() if "error" in line] or ["it does not compile"]
        print(f"{engine} is left out: {telling[0]}", file=sys.stderr)
        return None
    return program


def measure_library(engine: str, threads: int, jobs: list[dict]) -> list[dict]:
    """Rows of results of oneDNN or LIBXSMM; none where it is not installed."""
    fields = ("channels", "size", "num_output", "kernel", "group", "batch")
    lines = "".join(" ".join(str(job[field]) for field in fields) + "\n" for job in jobs)
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(engine, Path(folder))
        if program is None:
            return []
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [str(program), engine]
        done = subprocess.run(command, input=lines, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RootgenError(f"'{engine}' failed: {done.stderr.strip()}", hint="leave the engine out with --engines")
    times = map(float, done.stdout.split())
    return [
        {**job, "engine": engine, "threads": threads, "pass": "forward", "ms": ms}
        for job, ms in zip(jobs, times, strict=True)
    ]


def measure(engine: str, threads: int, jobs: list[dict], prefix: Path | None) -> list[dict]:
    """Rows of results: the job's fields, engine, threads, pass, ms."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *([str(prefix / "python")] if prefix else [])])}
    environment |= {"GLOG_minloglevel": "2"}
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), engine, str(threads)]
    done = subprocess.run(
        command, input=json.dumps(jobs), env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RootgenError(f"the worker of '{engine}' failed: {last}", hint="leave the engine out with --engines")
    rows = []
    for line in done.stdout.splitlines():
        job, name, milliseconds = json.loads(line)
        rows.append({**job, "engine": engine, "threads": threads, "pass": name, "ms": milliseconds})
    return rows


def measure_all(args: argparse.Namespace) -> list[dict]:
    prefixes = {"vanilla": args.vanilla, "patched": args.patched}
    for engine in args.engines:
        if engine in prefixes and prefixes[engine] is None:
            raise RootgenError(f"the engine '{engine}' needs a Caffe", hint=f"name it with --{engine} PREFIX")
    rows = []
    for threads, turn, engine in itertools.product(args.threads, range(args.rounds), args.engines):
        jobs = layer_jobs(args.batch)
        if engine in prefixes:
            jobs += [job for batch in args.net_batch for job in net_jobs(batch)]
        print(f"{engine}, {threads} threads, round {turn + 1} of {args.rounds}: {len(jobs)} jobs", file=sys.stderr)
        if engine in LIBRARIES:
            rows += measure_library(engine, threads, jobs)
        else:
            rows += measure(engine, threads, jobs, prefixes.get(engine))
    return medians(rows)


def medians(rows: list[dict]) -> list[dict]:
    """One row for all that differ in time only: their median."""
    times: dict[tuple, list[float]] = {}
    for row in rows:
        times.setdefault(tuple((name, value) for name, value in row.items() if name != "ms"), []).append(row["ms"])
    return [{**dict(job), "ms": statistics.median(found)} for job, found in times.items()]


def kept(path: Path, rows: list[dict]) -> list[dict]:
    """`rows` after those that the CSV file at `path` has of other engines and threads."""
    measured = {(row["engine"], row["threads"]) for row in rows}
    with path.open(encoding="utf-8", newline="") as file:
        read = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    before: list[dict] = [
        {**row, **{name: int(row[name]) for name in NUMBERS if name in row}, "ms": float(row["ms"])} for row in read
    ]
    return [row for row in before if (row["engine"], row["threads"]) not in measured] + rows


def csv_text(rows: list[dict]) -> str:
    out = io.StringIO()
    fields = ["layer", "arch", "row", "group", "batch", "threads", "engine", "pass", "ms"]
    writer = csv.DictWriter(out, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "ms": f"{row['ms']:.3f}"} for row in rows)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vanilla", type=Path, metavar="PREFIX")
    parser.add_argument("--patched", type=Path, metavar="PREFIX")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each engine (default: 3)")
    parser.add_argument("--net-batch", type=int, nargs="*", default=[1], help="of whole nets (default: 1)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--keep", action="store_true", help="add to what --out has of other engines and threads")
    here = Path(__file__).parent / instruction_set()
    parser.add_argument("--out", type=Path, default=here, help=f"folder (default: {here.name}, beside run.py)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}: at least 1 is needed")
    if args.keep and not (args.out / "cpu.csv").is_file():
        parser.error(f"--keep: there is no {args.out / 'cpu.csv'} to add to")
    try:
        args.out.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    except OSError as error:
        sys.exit(f"run.py: --out {args.out}: {error.strerror}")
    try:
        rows = measure_all(args)
        if args.keep:
            rows = kept(args.out / "cpu.csv", rows)
        write_text(args.out / "cpu.csv", csv_text(rows))
        write_text(args.out / "cpu.md", report.markdown(rows, LAYERS))
        report.plot(rows, LAYERS, args.out / "cpu.png")
    except RootgenError as error:
        sys.exit(f"run.py: {error}")


if __name__ == "__main__":
    main()
