"""CPU time and peak memory of reading a train_val net, inferring its shapes and counting: median of fresh processes.

python benchmarks/cost.py > benchmarks/cost.md
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from machine import describe

RUNS = 9
ROOT = Path(__file__).resolve().parent.parent
NETS = ("nin/orig", "resnet50/orig", "googlenet/orig", "resnet200/orig")
STEPS = ("imports", "read (parse, upgrade, wire)", "shapes", "count", "memory")
PROBE = """
import json, resource, sys, time

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

times = [time.process_time()]
from rootgen.net import cost, memory, shapes
from rootgen.net.read import read
from rootgen.proto import schema
schema.NetParameter
times.append(time.process_time())
imported = peak()
graph = read(sys.argv[1])
times.append(time.process_time())
found = shapes.infer(graph)
times.append(time.process_time())
total = cost.count(found)
times.append(time.process_time())
memory.activations(found, total.batch)
times.append(time.process_time())
steps = [b - a for a, b in zip(times, times[1:])]
print(json.dumps({"steps": steps, "layers": len(graph.layers), "imported": imported, "peak": peak()}))
"""


def measure(path: Path) -> dict:
    """Medians over the runs: seconds per step, MiB after the imports and at the peak; and the number of layers."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROBE, str(path)]
    runs = [
        json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        for _ in range(RUNS)
    ]
    return {
        "steps": [statistics.median(step) for step in zip(*(run["steps"] for run in runs), strict=True)],
        "layers": runs[0]["layers"],
        "imported": statistics.median(run["imported"] for run in runs),
        "peak": statistics.median(run["peak"] for run in runs),
    }


def main() -> None:
    print(f"What `rootgen cost` does, step by step: CPU time in a fresh process, median of {RUNS} runs\n")
    print(f"{describe('protobuf')}\n")
    steps = ", ms | ".join(STEPS)
    print(f"| net | layers | {steps}, ms | sum, ms | peak memory, MiB | of that before the net, MiB |")
    print("| --- |" + " --: |" * (len(STEPS) + 4))
    for name in NETS:
        found = measure(ROOT / "prototxt" / name / "train_val.prototxt")
        cells = [1000 * step for step in [*found["steps"], sum(found["steps"])]]
        times = " | ".join(f"{cell:.0f}" for cell in cells)
        print(f"| {name} | {found['layers']} | {times} | {found['peak']:.0f} | {found['imported']:.0f} |")


if __name__ == "__main__":
    main()
