"""Which engine `--engine auto` trains with: what wrote the snapshot, or is faster on the net; and nothing fails."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
from training import SOLVER, make

from rootgen.cli import main
from rootgen.engine import choice, open_trainer, state, train

pytestmark = pytest.mark.torch
here = pytest.mark.caffe  # where both engines are


@pytest.fixture
def folder(tmp_path, monkeypatch, caplog):
    """The current folder, with a small training in it, whose 12 iterations are worth timing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "WORTH_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "rootgen")
    make(tmp_path)
    return tmp_path


@pytest.fixture
def untimed(monkeypatch):
    """No engine may be timed."""
    monkeypatch.setattr(choice, "_in_own_process", lambda *_: pytest.fail("timed"))


def chosen(**how) -> str:
    return choice.for_training("solver.prototxt", **how)


def kept(folder: Path) -> Path:
    (found,) = (folder / "cache/times").iterdir()
    return found


@here
def test_the_faster_engine_is_timed_once(folder, caplog, monkeypatch):
    name = chosen()
    found = json.loads(kept(folder).read_text())
    times = found["milliseconds"]
    assert times.keys() == choice.NAMES.keys()
    assert times[name] == min(times.values())
    assert "batch_size" not in found["of"]["training"]  # of inputs in memory, in the sizes that the database has
    assert "dim: 7\n      dim: 3\n      dim: 8" in found["of"]["training"]
    assert all(choice.NAMES[engine] in caplog.messages[-1] for engine in times)
    assert all(f": {ms:.0f} ms" in caplog.messages[-1] for ms in times.values())
    monkeypatch.setattr(choice, "_in_own_process", lambda *_: pytest.fail("timed again"))
    for faster, slower in (("caffe", "torch"), ("torch", "caffe")):
        found["milliseconds"] = {faster: 10.0, slower: 20.0}
        kept(folder).write_text(json.dumps(found))
        assert chosen() == faster


@here
@pytest.mark.parametrize("change", [None, ("batch_size: 7", "batch_size: 9"), ("num_output: 8", "num_output: 9")])
def test_other_threads_and_nets_are_other_times(folder, monkeypatch, change):
    asked: list[int] = []

    def timed(text: str, images: int) -> dict[str, float]:
        asked.append(images)
        return {"caffe": 2.0, "torch": 1.0}

    monkeypatch.setattr(choice, "_in_own_process", timed)
    assert chosen() == chosen() == "torch"
    assert asked == [7]
    if change is None:
        monkeypatch.setenv("OMP_NUM_THREADS", "77")
    else:
        net = Path("net.prototxt")
        net.write_text(net.read_text().replace(*change))
    chosen()
    assert len(asked) == 2


@here
def test_a_short_run_is_not_timed(folder, monkeypatch, untimed):
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(choice, "_in_own_process", lambda *_: pytest.fail("timed"))
    assert chosen() == "auto"
    assert chosen(max_iter=0) == "auto"
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("how", [{"engine": "torch"}, {"engine": "caffe"}, {"precision": "bf16"}, {"device": "gpu"}])
def test_what_is_said_is_not_asked_for(folder, untimed, how):
    assert chosen(**how) == how.get("engine", "auto")


def test_several_processes_are_not_asked(folder, untimed, monkeypatch):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert chosen() == "auto"


@here
@pytest.mark.parametrize("engine", ["torch", "caffe"])
@pytest.mark.parametrize("form", ["", "snapshot_format: HDF5"])
def test_a_run_goes_on_in_the_engine_that_wrote_its_snapshot(folder, untimed, engine, form):
    Path("solver.prototxt").write_text(SOLVER + form)
    begun = train.train("solver.prototxt", engine=engine, max_iter=2)
    assert state.read(begun.solver_state).engine == engine
    assert chosen(snapshot="auto") == chosen(snapshot=str(begun.solver_state)) == engine
    assert main(["train", "solver.prototxt", "--snapshot", "auto", "--max-iter", "4"]) == 0
    ended = train.train("solver.prototxt", snapshot="auto", max_iter=5)
    assert state.read(ended.solver_state).engine == engine


@here
def test_a_snapshot_of_caffes_own_tool_is_not_timed_for(folder, untimed):
    trainer = open_trainer("solver.prototxt", engine="torch")
    trainer.step()
    _, path = trainer.snapshot()
    found = state.read(path)
    for name in ("", "somebody's"):
        state.write(
            path, state.State(found.iteration, found.learned_net, found.current_step, found.history, None, name)
        )
        assert chosen(snapshot=str(path)) == "auto"
    path.write_bytes(b"\xff" * 9)
    assert chosen(snapshot=str(path)) == chosen(snapshot="none.solverstate") == "auto"


@here
def test_a_run_without_a_snapshot_to_go_on_from_is_timed(folder, monkeypatch):
    monkeypatch.setattr(choice, "_in_own_process", lambda *_: {"caffe": 2.0, "torch": 1.0})
    assert chosen(snapshot="auto") == "torch"


@here
@pytest.mark.parametrize("program", ["/bin/false", "/bin/true", "/bin/cat", "no such program"])
def test_timing_that_fails_leaves_the_run_alone(folder, monkeypatch, caplog, program):
    monkeypatch.setattr(sys, "executable", program)
    assert chosen() == "auto"
    assert "could be timed" in caplog.messages[-1]
    assert not list((folder / "cache/times").iterdir())


@here
def test_an_engine_that_cannot_run_the_net_leaves_it_to_the_other(folder, caplog):
    """No Caffe has such a layer: the run itself says what is wrong."""
    net = Path("net.prototxt")
    net.write_text(net.read_text() + 'layer { name: "own" type: "Own" bottom: "ip" top: "own" }')
    assert chosen() == "auto"


@pytest.mark.parametrize("damage", ["net: 3", 'net: "no.prototxt"', "", "max_iter: -1"])
def test_a_bad_solver_is_left_to_the_run(folder, damage):
    Path("solver.prototxt").write_text(damage)
    assert chosen() == "auto"
    Path("solver.prototxt").unlink()
    assert chosen() == "auto"


def test_an_engine_alone_is_not_timed(folder, monkeypatch, untimed):
    monkeypatch.setattr(choice, "usable", lambda: ["torch"])
    assert chosen() == "auto"


def test_a_gpu_that_is_there_is_left_to_the_engines(folder, monkeypatch, untimed):
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia0")]))
    Path("solver.prototxt").write_text(SOLVER.replace("solver_mode: CPU", "solver_mode: GPU"))
    assert chosen() == "auto"
