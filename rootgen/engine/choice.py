"""Which engine trains a net faster on this CPU: both run a few passes of it, once, and what they took is kept.

They run in a process of their own, so that nothing that happens there, an engine's end included, reaches the run.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rootgen import scratch
from rootgen.engine import machine, open_network, solver, state
from rootgen.engine.api import PRECISIONS, images_per_batch
from rootgen.engine.feed import open_feeds
from rootgen.engine.kept_times import KeptTimes
from rootgen.engine.open import usable
from rootgen.engine.processes import place
from rootgen.engine.timing import fed_text
from rootgen.engine.trainer import snapshots
from rootgen.errors import RootgenError
from rootgen.files import write_text
from rootgen.net.cost import count
from rootgen.net.graph import Net
from rootgen.net.layers.registry import of
from rootgen.net.shapes import infer

WORTH_SECONDS = 120.0  # a run that is thought to be shorter is not timed for
MACS_PER_SECOND = 5e10  # for that thought: forward and backward are three times the multiply-adds of a net
PASS_MACS = 1e10  # of a pass that is timed, as far as LEAST_IMAGES and the batch allow
LEAST_IMAGES = 4
TURNS, TURNS_SECONDS = 3, 3.0  # passes of each engine after the first, which is not timed; no new one after so long
LIMIT_SECONDS = 90.0  # for all of it

NAMES = {"caffe": "pycaffe", "torch": "PyTorch"}

log = logging.getLogger("rootgen")

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from rootgen.engine import choice; choice.main()"


def for_training(
    solver_path: str,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = PRECISIONS[0],
    snapshot: str | None = None,
    max_iter: int | None = None,
    lenient: bool = False,
) -> str:
    """The engine for a run of a solver: `engine`, or where that is "auto" what is told or timed; else still "auto".

    What goes on from a `snapshot` stays with the engine that wrote it, so that it goes on to the bit. Where both
    engines run here on the CPU, and the run is long enough, the one that is faster on this net. Nothing fails here:
    what is wrong with the solver is left to who opens it.
    """
    if engine != "auto" or precision != PRECISIONS[0]:
        return engine
    try:
        if place() is not None:
            return engine
        settled = solver.read(solver_path, seed=0, lenient=lenient)
        resumed = _snapshot(settled, snapshot)
        if len(usable()) < len(NAMES):
            return engine
        if resumed is not None:
            return _that_wrote(resumed) or engine
        if not _on_cpu(settled, device):
            return engine
        net = _shaped(solver.train_net(settled, solver_path, lenient=lenient), Path(solver_path).parent)
        end = settled.max_iter if max_iter is None else max_iter
        return _faster(net, end * settled.iter_size) or engine
    except RootgenError:
        return engine


def _snapshot(settled: Any, named: str | None) -> Path | None:
    """The .solverstate that a run goes on from."""
    if named != "auto":
        return None if named is None else Path(named)
    return next((path for _, path in snapshots(settled.snapshot_prefix)), None)


def _that_wrote(path: Path) -> str | None:
    wrote = state.read(path).engine
    if wrote not in NAMES:
        return None
    log.info("engine: %s, which wrote %s", NAMES[wrote], path, extra={"once": True})
    return wrote


def _on_cpu(settled: Any, device: str) -> bool:
    """Whether no engine would take a GPU."""
    if device == "auto" and settled.solver_mode == 1:
        return not any(Path("/dev").glob("nvidia[0-9]*"))
    return device in ("auto", "cpu")


def _shaped(net: Net, beside: Path) -> Net:
    """The net with its shapes, as its databases have them."""
    feeds = open_feeds(net, "TRAIN", 0, beside)
    try:
        return infer(net, given={top: shape for feed in feeds.values() for top, shape in feed.shapes.items()})
    finally:
        for feed in feeds.values():
            feed.close()


def _faster(net: Net, batches: int) -> str | None:
    """The engine that takes less time for `net`; None where so many batches are not worth the question."""
    batch = images_per_batch([layer for layer in net.layers if of(layer).fed], net.blobs, net.layers)
    macs = max(3 * count(net).macs, 1)
    if macs * batch * batches < WORTH_SECONDS * MACS_PER_SECOND:
        return None
    images = min(batch, max(LEAST_IMAGES, int(PASS_MACS / macs)))
    text = fed_text(net)
    facts = {f"{name}: {key}": value for name in NAMES for key, value in machine.facts(name, "cpu").items()}
    key = {"training": text, "images": str(images), **facts}
    kept = KeptTimes()
    found = kept.find(key, NAMES)
    if found is None:
        log.info("timing pycaffe and PyTorch on this net, once, some seconds (--engine torch or caffe: no need)")
        found = _in_own_process(text, images)
        if found is None:
            return None
        kept.keep(key, found)
    first, second = sorted(NAMES, key=lambda name: found[name])
    told = (NAMES[first], images, found[first], NAMES[second], found[second])
    log.info("engine: %s (forward and backward, %d images: %.0f ms; %s: %.0f ms)", *told, extra={"once": True})
    return first


def _in_own_process(text: str, images: int) -> dict[str, float] | None:
    """Milliseconds of each engine; None, which is told, where not both could be timed."""
    with scratch.folder("rootgen-choice-") as folder:
        path = folder / "net.prototxt"
        write_text(path, text, durable=False)
        where = json.dumps([str(Path(part).absolute()) for part in sys.path])
        words = [sys.executable, "-I", "-c", _CHILD, where, str(path), str(images)]
        try:
            done = subprocess.run(
                words, check=True, capture_output=True, text=True, errors="replace", timeout=LIMIT_SECONDS
            )
            found = json.loads(done.stdout.splitlines()[-1])
            times = {name: float(found[name]) for name in NAMES}
        except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError, IndexError) as error:
            log.debug("no times of both engines: %s", error)
            times = {}
    if not all(times.get(name, 0.0) > 0.0 for name in NAMES):
        log.info("not both engines could be timed on this net")
        return None
    return times


def main() -> None:
    """Print the milliseconds of each engine, as JSON: of the net in argv[2], on batches of argv[3] images."""
    log.setLevel(logging.ERROR)
    print(json.dumps(_timed(Path(sys.argv[2]), int(sys.argv[3]))))


def _timed(path: Path, images: int) -> dict[str, float]:
    """The least milliseconds of a pass forward and backward in each engine, which take turns."""
    networks = {
        name: open_network(path, phase="TRAIN", engine=name, device="cpu", batch=images, read_data=False, lenient=True)
        for name in NAMES
    }
    least = dict.fromkeys(NAMES, float("inf"))
    for network in networks.values():
        network.time(1, warmup=0, layers=False)
    begun = time.perf_counter()
    for _ in range(TURNS):
        for name, network in networks.items():
            passed = network.time(1, warmup=0, layers=False)
            least[name] = min(least[name], sum(passed.forward) + sum(passed.backward))
        if time.perf_counter() - begun > TURNS_SECONDS:
            break
    return least
