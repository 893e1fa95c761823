"""CPU time (user + system) of `rootgen emit` in a fresh process, and what it is spent on: median of several runs.

python benchmarks/emit.py > benchmarks/emit.md
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import describe

RUNS = 15
ROOT = Path(__file__).resolve().parent.parent
EMIT = ("nin --root 8", "resnet50 --root 32", "resnet200 --root 64")
STEPS = {  # each does what the one above does, and one thing more
    "start Python": "pass",
    "import the command line (argparse, logging, ...)": "import rootgen.cli.commands.emit",
    "import jinja2": "import jinja2",
    "load the templates, render": (
        "from rootgen.generator import architectures, render; from rootgen.grouping import Plan; "
        "text = render.net(architectures.architecture('resnet50'), Plan('root', 32))"
    ),
    "import protobuf, make Caffe's messages": "from rootgen.proto import prototxt, schema; schema.NetParameter",
    "parse": "param = prototxt.parse(text, schema.NetParameter)",
    "import net and shapes": "from rootgen.net import read as net, shapes; from rootgen.net.graph import PHASES",
    "shapes of both phases": (
        "[shapes.infer(net.from_param(param, phase), input_shape=(3, 224, 224)) for phase in PHASES]"
    ),
}


def cpu_ms(*args: str, cache: str) -> float:
    """Median CPU time of `python ARGS`, in ms."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ROOTGEN_CACHE": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as in any installation
    times = []
    for _ in range(RUNS + 1):  # the first fills the caches
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *args], env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return 1000 * statistics.median(times[1:])


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        print(f"CPU time of `rootgen emit`: user + system of a fresh process, median of {RUNS} runs\n")
        print(f"{describe('jinja2', 'protobuf')}\n")
        print("| command | ms | compiling the templates anew, ms |\n| --- | --: | --: |")
        for words in EMIT:
            command = ("-m", "rootgen", "emit", *words.split())
            kept, anew = cpu_ms(*command, cache=cache), cpu_ms(*command, cache="/dev/null")
            print(f"| rootgen emit {words} | {kept:.0f} | {anew:.0f} |")
        print("\n| step of resnet50 --root 32 | ms |\n| --- | --: |")
        before, program = 0.0, ""
        for step, line in STEPS.items():
            program += line + "\n"
            total = cpu_ms("-c", program, cache=cache)
            print(f"| {step} | {total - before:.0f} |")
            before = total


if __name__ == "__main__":
    main()
