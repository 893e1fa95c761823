"""Time grouped convolution on the CPU: vanilla and patched Caffe, OpenCV, PyTorch; layers and whole nets.

    python benchmarks/cpu/run.py --vanilla PREFIX --patched PREFIX [--threads 1 2] [--batch 16]
    python benchmarks/cpu/run.py --tables folded training --rounds 2 [--patched PREFIX] [--readme] [--short]

A PREFIX is what `rootgen caffe build` installs (vanilla: with the build series only). Every engine runs in a process
of its own with the same threads. A time is the median of at least 7 runs in each process, and of --rounds such
processes: the engines take turns, so that none has all its runs while a shared machine is slow. Writes cpu.csv, cpu.md
and cpu.png into a folder named after the CPU's vector instructions, as the kernels differ by them.
oneDNN and LIBXSMM (libraries.cpp, compiled here) are left out, with a note, where they are not installed (Debian:
libdnnl-dev, libxsmm-dev). --keep takes the rows of other engines and threads from the cpu.csv that is there.

The second command has whole nets, folded, in every runtime (`pip install -r benchmarks/cpu/requirements.txt`; what is
not installed is left out) and their training by our Caffe and by the embedded PyTorch engine, beside what the machine
allows: whole.csv and whole.md, with --readme README's table too. It takes some ten minutes; interrupted, the same
command goes on. --short is one net, one round.
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
from contextlib import suppress
from datetime import date
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(Path(__file__).parent)]

import report  # noqa: E402
import whole  # noqa: E402
import whole_report  # noqa: E402
from machine import instruction_set  # noqa: E402

from rootgen import paths  # noqa: E402
from rootgen.caffe_build.prefix import find_prefix  # noqa: E402
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
TIMES = ("ms", "best")
FIELDS = ("layer", "arch", "row", "group", "batch", "threads", "engine", "pass", "ms")  # of cpu.csv
WHOLE_FIELDS = ("folded", "training", "batch", "threads", "engine", "pass", "ms", "best")  # of whole.csv
NUMBERS = ("group", "batch", "threads")  # whole numbers in cpu.csv
LAYER_ENGINES = ("vanilla", "patched", "opencv", "torch", "torch channels_last", "copy", *LIBRARIES)
ENGINES = tuple(dict.fromkeys((*LAYER_ENGINES, *whole.RUNTIMES)))
MODULES = {"opencv": "cv2", "torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
TABLES = ("layers", "folded", "training")


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
    own = [str(ROOT), *([str(prefix / "python")] if prefix else []), os.environ.get("PYTHONPATH", "")]
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, own))}
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
        job, name, milliseconds, best = json.loads(line)
        job.pop("files", None)
        rows.append({**job, "engine": engine, "threads": threads, "pass": name, "ms": milliseconds, "best": best})
    return rows


def measure_all(args: argparse.Namespace, files: Path) -> list[dict]:
    """Rows of all that was asked for; `files` has those of whole nets. What an interrupted run has is not run again."""
    prefixes = {"vanilla": args.vanilla, "patched": args.patched}
    for engine in args.engines:
        if engine in prefixes and prefixes[engine] is None and jobs_of(engine, args):
            raise RootgenError(f"the engine '{engine}' needs a Caffe", hint=f"name it with --{engine} PREFIX")
    done, rows = Done(args.out / "unfinished.jsonl"), []
    for threads, turn, engine in itertools.product(args.threads, range(args.rounds), args.engines):
        jobs, prefix = jobs_of(engine, args), prefixes.get(engine)
        if engine in MODULES and jobs and not find_spec(MODULES[engine]):
            print(f"{engine} is left out: it is not installed", file=sys.stderr)
            continue
        key = [str(date.today()), threads, turn, engine, jobs, stamp(prefix)]
        found = done.find(key)
        if found is None and jobs:
            print(f"{engine}, {threads} threads, round {turn + 1} of {args.rounds}: {len(jobs)} jobs", file=sys.stderr)
            named = [
                job | {"files": str(whole.place(files, name))} if (name := whole.name_of(job)) else job for job in jobs
            ]
            by_itself = engine in LIBRARIES
            found = measure_library(engine, threads, jobs) if by_itself else measure(engine, threads, named, prefix)
            done.add(key, found)
        rows += found or []
    return medians(rows)


def jobs_of(engine: str, args: argparse.Namespace) -> list[dict]:
    """What an engine runs for the tables that are asked for."""
    jobs = whole.jobs(engine, args.nets, args.tables, args.whole_batch)
    if "layers" in args.tables and engine in LAYER_ENGINES:
        jobs += layer_jobs(args.batch)
        if engine in ("vanilla", "patched"):
            jobs += [job for batch in args.net_batch for job in net_jobs(batch)]
    return jobs


def stamp(prefix: Path | None) -> str:
    """Which Caffe lies in a prefix."""
    libraries = sorted(prefix.glob("lib*/libcaffe.so*")) if prefix else []
    return " ".join(f"{path} {path.stat().st_mtime_ns}" for path in libraries)


class Done:
    """Rows of rounds that a run has been through, in a file that the next one goes on from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.found = {json.dumps(key): rows for key, rows in map(json.loads, lines)}

    def find(self, key: list) -> list[dict] | None:
        return self.found.get(json.dumps(key))

    def add(self, key: list, rows: list[dict]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, rows]) + "\n")


def medians(rows: list[dict]) -> list[dict]:
    """One row for all that differ in time only: their median, and the best of them."""
    times: dict[tuple, list[dict]] = {}
    for row in rows:
        times.setdefault(tuple((name, value) for name, value in row.items() if name not in TIMES), []).append(row)
    return [
        {
            **dict(job),
            "ms": statistics.median(row["ms"] for row in found),
            "best": min(row.get("best", row["ms"]) for row in found),
        }
        for job, found in times.items()
    ]


def kept(path: Path, rows: list[dict]) -> list[dict]:
    """`rows` after those that the CSV file at `path` has of other engines and threads."""
    measured = {(row["engine"], row["threads"]) for row in rows}
    with path.open(encoding="utf-8", newline="") as file:
        read = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    before: list[dict] = [
        {**row, **{name: int(row[name]) for name in NUMBERS if name in row}, "ms": float(row["ms"])} for row in read
    ]
    return [row for row in before if (row["engine"], row["threads"]) not in measured] + rows


def csv_text(rows: list[dict], fields: tuple[str, ...] = FIELDS) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: f"{row[name]:.3f}" if name in TIMES else row[name] for name in fields if name in row} for row in rows
    )
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
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["layers"], help="(default: layers)")
    parser.add_argument("--nets", nargs="+", choices=list(whole.NETS), default=list(whole.NETS), help="folded, trained")
    parser.add_argument("--whole-batch", type=int, nargs="+", default=[1, 16], help="of folded nets (default: 1 16)")
    parser.add_argument("--short", action="store_true", help="one small net, batch 1, one round")
    parser.add_argument("--readme", action="store_true", help="write README's table of whole nets")
    parser.add_argument("--keep", action="store_true", help="add to what --out has of other engines and threads")
    here = Path(__file__).parent / instruction_set()
    parser.add_argument("--out", type=Path, default=here, help=f"folder (default: {here.name}, beside run.py)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds is {args.rounds}: at least 1 is needed")
    if args.keep and not (args.out / "cpu.csv").is_file():
        parser.error(f"--keep: there is no {args.out / 'cpu.csv'} to add to")
    if args.short and args.readme:
        parser.error("--readme is for the whole table, not for a --short one")
    for kind in ("vanilla", "patched"):
        if (prefix := getattr(args, kind)) and not stamp(prefix):
            parser.error(f"--{kind} {prefix}: no Caffe is installed there (rootgen caffe build --prefix {prefix})")
    if args.short:
        args.nets, args.whole_batch, args.rounds = list(whole.SHORT), [1], 1
    with suppress(RootgenError):  # none: said where it is needed
        args.patched = args.patched or find_prefix().path
    try:
        args.out.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    except OSError as error:
        sys.exit(f"run.py: --out {args.out}: {error.strerror}")
    try:
        with tempfile.TemporaryDirectory() as name:
            run(args, Path(name))
    except RootgenError as error:
        sys.exit(f"run.py: {error}")
    (args.out / "unfinished.jsonl").unlink(missing_ok=True)


def run(args: argparse.Namespace, files: Path) -> None:
    """Measure, and write what was found."""
    asked = [table for table in args.tables if table != "layers"]
    if asked:
        whole.prepare_all(files, args.nets, asked)
        limits = whole.limits(files, args.nets, asked, args.whole_batch, args.threads)
    rows = measure_all(args, files)
    if asked:
        found = [row for row in rows if whole.name_of(row)] + limits
        write_text(args.out / "whole.csv", csv_text(found, WHOLE_FIELDS))
        write_text(args.out / "whole.md", whole_report.page(found))
        if args.readme:
            whole_report.write_readme(ROOT / "README.md", found)
    layers = [row for row in rows if not whole.name_of(row)]
    if "layers" in args.tables:
        if args.keep:
            layers = kept(args.out / "cpu.csv", layers)
        write_text(args.out / "cpu.csv", csv_text(layers))
        write_text(args.out / "cpu.md", report.markdown(layers, LAYERS))
        report.plot(layers, LAYERS, args.out / "cpu.png")


if __name__ == "__main__":
    main()
