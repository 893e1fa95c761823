"""Several processes that train one solver learn what one with as many passes does, whoever fails, whoever goes on."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from engine_nets import write_database, write_mean
from processes import ROOT, Processes, free_port, trained
from training import NET, SOLVER, make

from rootgen import emit
from rootgen.engine import open_trainer, state, train, weights
from rootgen.net.read import read

pytestmark = pytest.mark.torch

PLAIN = re.sub(r'layer \{ name: "bn".*\n', "", NET).replace("crop_size: 8 mirror: true", "crop_size: 8")
PLAIN = PLAIN.replace("batch_size: 7", "batch_size: 3")
WITH_BN = NET.replace("batch_size: 7", "batch_size: 3").replace("kernel_size: 3", "kernel_size: 3 bias_term: false")
STILL = re.sub(r'layer \{ name: "drop".*\n', "", WITH_BN).replace(" mirror: true", "").replace("size: 8", "size: 10")
EACH = SOLVER.replace("snapshot: 5", "snapshot: 1").replace("max_iter: 12", "max_iter: 6")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a small training in it."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    return tmp_path


def set_up(net: str, solver: str, **fields: object) -> None:
    """Write the net, and the solver with other values of `fields`, or new ones."""
    for name, value in fields.items():
        line = f"{name}: {value}"
        solver, count = re.subn(rf"\b{name}: \S+", line, solver)
        solver += "" if count else f" {line}"
    Path("net.prototxt").write_text(net)
    Path("solver.prototxt").write_text(solver)


def rows(prefix: str, phase: str = "train") -> list[dict[str, str]]:
    with Path(f"{prefix}_log.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["phase"] == phase]


def learned(prefix: str, iteration: int) -> dict[str, list[np.ndarray]]:
    """Layer -> blobs of a snapshot, and the history under ""; without statistics, which are each process's own."""
    found = weights.read(f"{prefix}_iter_{iteration}.caffemodel", read("net.prototxt", "TRAIN").layers)
    history = state.read(f"{prefix}_iter_{iteration}.solverstate").history
    return {**{name: blobs for name, blobs in found.items() if "bn" not in name}, "": history}


def assert_same(one: str, other: str, iterations: range, *, within: float = 2e-4) -> None:
    """Losses, weights and histories of two runs are alike after each iteration."""
    for iteration in iterations:
        first, second = (rows(prefix)[iteration - 1] for prefix in (one, other))
        assert first["iteration"] == second["iteration"] == str(iteration - 1)
        assert float(first["total_loss"]) == pytest.approx(float(second["total_loss"]), rel=within)
        a, b = learned(one, iteration), learned(other, iteration)
        assert a.keys() == b.keys() and len(a) > 1
        for name, blobs in a.items():
            for x, y in zip(blobs, b[name], strict=True):
                np.testing.assert_allclose(x.ravel(), y.ravel(), rtol=within, atol=within * max(abs(x).max(), 1e-3))


@pytest.mark.parametrize("net", [PLAIN, WITH_BN], ids=["plain", "BatchNorm"])
@pytest.mark.parametrize("solver", ['"SGD"', '"Adam"'])
@pytest.mark.parametrize(("processes", "iter_size"), [(2, 2), (4, 1)])
def test_processes_learn_what_one_learns_by_iter_size(folder, net, solver, processes, iter_size):
    rate = 0.002 if "Adam" in solver else 0.05
    set_up(net, EACH, iter_size=processes * iter_size, type=solver, base_lr=rate, snapshot_prefix='"one/net"')
    trained(1, "solver.prototxt")
    set_up(net, EACH, iter_size=iter_size, type=solver, base_lr=rate, snapshot_prefix='"all/net"')
    said = trained(processes, "solver.prototxt")
    assert said.out == "all/net_iter_6.caffemodel\n"
    assert f"an update is of {3 * iter_size * processes} images" in said.err
    assert_same("one/net", "all/net", range(1, 7))
    tests = [rows(prefix, "test") for prefix in ("one/net", "all/net")]
    assert [row["iteration"] for row in tests[1]] == ["0", "4"]
    if net is PLAIN:
        for one, other in zip(*tests, strict=True):
            assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("solver_type", "rate"), [('"SGD"', 0.01), ('"Adam"', 0.01)])
@pytest.mark.parametrize("processes", [2, 4])
def test_nin_learns_the_same_in_processes(folder, processes, solver_type, rate):
    """The paper's net, of which only BatchNorm's statistics are each process's own."""
    images = np.random.default_rng(0).integers(0, 256, (16, 3, 40, 40), np.uint8)
    Path("data").mkdir()
    for phase in ("train", "test"):
        write_database(Path(f"data/{phase}_lmdb"), list(images), [i % 10 for i in range(16)])
    write_mean(Path("data/mean.binaryproto"), images.mean(0, dtype=np.float32))
    net = emit("nin", root=8, data="data", batch_size=2, test_batch_size=8)
    solver = SOLVER.replace("stepsize: 5", "stepsize: 50").replace("snapshot: 5", "snapshot: 1")
    for prefix, count in (("one", 1), ("all", processes)):
        fields = {"iter_size": processes // count, "max_iter": 3, "base_lr": rate, "type": solver_type}
        if (
            "Adam" in solver_type
        ):  # biases before a BatchNorm have gradients of rounding alone, which it would divide by
            fields["delta"] = 1.0
        set_up(net, solver, snapshot_prefix=f'"{prefix}/net"', **fields)
        trained(count, "solver.prototxt")
    assert_same("one/net", "all/net", range(1, 4), within=2e-3)


def test_statistics_of_all_batches_are_those_of_one_large_batch(folder):
    set_up(STILL.replace("batch_size: 3", "batch_size: 6"), EACH, snapshot_prefix='"one/net"')
    trained(1, "solver.prototxt")
    set_up(STILL, EACH, snapshot_prefix='"all/net"')
    said = trained(2, "solver.prototxt", "--sync-bn")
    assert "BatchNorm's statistics are of all batches together" in said.err
    assert_same("one/net", "all/net", range(1, 7))
    found = [weights.read(f"{p}/net_iter_6.caffemodel", read("net.prototxt", "TRAIN").layers) for p in ("one", "all")]
    for one, other in zip(*(layers["bn"] for layers in found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)
    tests = [rows(prefix, "test")[-1]["loss"] for prefix in ("one/net", "all/net")]
    assert float(tests[0]) == pytest.approx(float(tests[1]), rel=1e-3)


def test_a_pspnet_bn_over_all_batches_is_that_of_one_large_batch(folder):
    net = STILL.replace('type: "BatchNorm"', 'type: "BN" bn_param { slope_filler { type: "constant" value: 1 } }')
    for prefix, size in (("one", 6), ("all", 3)):
        text = net.replace("batch_size: 3", f"batch_size: {size}")
        set_up(text, EACH, snapshot_prefix=f'"{prefix}/net"')
        trained(6 // size, "solver.prototxt", "--sync-bn", "--lenient")
    losses = [[float(row["total_loss"]) for row in rows(f"{prefix}/net")] for prefix in ("one", "all")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_another_number_of_processes_reads_what_follows(folder):
    """2, then 4, then 1: updates of 2, 2 and 4 and of 1 batches, one after the other, none twice and none left out."""
    set_up(PLAIN, SOLVER, snapshot=2, max_iter=2, iter_size=1, snapshot_prefix='"snaps/net"')
    trained(2, "solver.prototxt")  # batches 0 to 3
    trained(4, "solver.prototxt", "--snapshot", "auto", "--max-iter", "4")  # 4 to 11
    trained(1, "solver.prototxt", "--snapshot", "auto", "--max-iter", "6")  # 12 and 13
    assert [state.read(f"snaps/net_iter_{i}.solverstate").batches for i in (2, 4, 6)] == [4, 12, 14]
    wanted = open_trainer("solver.prototxt", engine="torch")
    first, count = 0, {0: 2, 1: 2, 2: 4, 3: 4, 4: 1, 5: 1}
    for iteration, passes in count.items():
        wanted.solver.iter_size = passes
        wanted._first_batch = first - iteration * passes
        loss = wanted.step().loss
        assert float(rows("snaps/net")[iteration]["total_loss"]) == pytest.approx(loss, rel=2e-4)
        first += passes
    assert first == 14


@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_either_engine_goes_on_with_the_batches_that_follow(folder, kind):
    set_up(PLAIN, SOLVER, snapshot=2, max_iter=2, snapshot_format=kind)
    trained(2, "solver.prototxt")
    (path,) = Path("snaps").glob("*.solverstate*")
    assert state.read(path).batches == 4
    alone = open_trainer("solver.prototxt", engine="torch")
    alone.restore(path)
    read: list[int] = []
    run = alone.train.run
    alone.train.run = lambda batch: (read.append(batch), run(batch))[1]
    alone.step()
    assert read == [4]
    other, _ = alone.snapshot()
    assert state.read(str(other).replace("caffemodel", "solverstate")).batches == 5


@pytest.mark.caffe
def test_pycaffe_goes_on_with_the_batches_that_follow(folder):
    set_up(PLAIN, SOLVER, snapshot=2, max_iter=2)
    trained(2, "solver.prototxt")
    alone = open_trainer("solver.prototxt", engine="caffe")
    alone.restore("snaps/net_iter_2.solverstate")
    read: list[int] = []
    forward = alone.train.pass_forward
    alone.train.pass_forward = lambda batch: (read.append(batch), forward(batch))[1]
    alone.step()
    assert read == [4]
    _, written = alone.snapshot()
    assert state.read(written).batches == 5


def test_one_process_writes_the_state_that_it_wrote_before(folder):
    train.run(open_trainer("solver.prototxt", engine="torch"), max_iter=5)
    found = state.read("snaps/net_iter_5.solverstate")
    assert found.batches is None
    state.write("again", found)
    assert Path("again").read_bytes() == Path("snaps/net_iter_5.solverstate").read_bytes()


def test_a_test_is_of_every_batch_once(folder):
    """5 batches of 2 among 3 processes: the very number that one process finds."""
    net = PLAIN.replace("batch_size: 4", "batch_size: 2")
    set_up(net, SOLVER, test_iter=5, max_iter=5, test_interval=1, snapshot_prefix='"all/net"')
    said = trained(3, "solver.prototxt")
    assert "takes all" not in said.err
    alone = open_trainer("solver.prototxt", engine="torch")
    for iteration in (0, 5):
        if iteration:
            alone.restore("all/net_iter_5.solverstate")
        (wanted,) = alone.test()
        found = rows("all/net", "test")[iteration]
        assert found["iteration"] == str(iteration)
        assert {name: np.float32(found[name]) for name in wanted} == {k: np.float32(v) for k, v in wanted.items()}


def test_a_learning_rate_times_the_processes(folder):
    set_up(PLAIN, SOLVER, max_iter=1)
    said = trained(2, "solver.prototxt", "--scale-lr")
    assert "the learning rate is 2 times the solver's" in said.err
    assert rows("snaps/net")[0]["learning_rate"] == "0.1"


def test_a_random_seed_that_nobody_gives_is_one_for_all(folder):
    set_up(PLAIN, SOLVER.replace("random_seed: 3", ""), max_iter=3, snapshot_prefix='"all/net"')
    (seed,) = re.findall(r"random_seed: (\d+)", trained(2, "solver.prototxt").err)
    set_up(PLAIN, SOLVER, max_iter=3, iter_size=2, snapshot_prefix='"one/net"')
    trained(1, "solver.prototxt", "--seed", seed)
    assert_same("one/net", "all/net", range(3, 4))


# Faults


def refused(processes: Processes, *, code: int = 1) -> list[str]:
    """The lines of process 0, where all end with `code` and it alone says anything."""
    first, *others = processes.end()
    assert first.code == code, first.err
    assert "Traceback" not in first.err
    for other in others:
        assert (other.code, other.out, other.err) == (code, "", "")
    return first.err.strip().splitlines()


@pytest.mark.parametrize(
    ("words", "change", "match"),
    [
        ((), ("net.prototxt", "train_lmdb", "nowhere_lmdb"), "layer 'data': no database 'nowhere_lmdb'"),
        (
            (),
            ("net.prototxt", "batch_size: 3", "batch_size: 16"),
            "batch_size 16 x 2 processes is more than the 30 rec",
        ),
        ((), ("solver.prototxt", "momentum", "momentumm"), "has no field 'momentumm'"),
        (("--device", "gpu"), None, "no CUDA device for 'gpu'"),
        (("--device", "gpu:1"), None, "device 'gpu:1' for 2 processes"),
        (("--precision", "tf32"), None, "TF32 is an arithmetic of GPUs"),
        (("--snapshot", "gone.solverstate"), None, "gone.solverstate: cannot read"),
        (("--weights", "mean.binaryproto"), None, "mean.binaryproto"),
        (("--log", "net.prototxt"), None, "net.prototxt: is there already and is no log"),
    ],
)
def test_bad_input_is_one_line_of_process_0(folder, words, change, match):
    set_up(PLAIN, SOLVER)
    if change:
        path, old, new = change
        Path(path).write_text(Path(path).read_text().replace(old, new))
    *_, last = refused(Processes(2, "train", "solver.prototxt", *words))
    assert last.startswith("rootgen train: ")
    assert match in last


def test_an_engine_for_one_process(folder):
    (last,) = refused(Processes(2, "train", "solver.prototxt", "--engine", "caffe"))
    assert last == "rootgen train: engine 'caffe' trains in one process, not in 2 processes (--engine torch)"


def test_a_port_in_use_is_said(folder, monkeypatch, capsys):
    import socket

    from rootgen import cli

    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        port = str(server.getsockname()[1])
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        assert cli.main(["train", "solver.prototxt"]) == 1
    said = capsys.readouterr().err
    assert said == f"rootgen train: 127.0.0.1:{port}: this port is in use (set another MASTER_PORT)\n"


def elsewhere(change) -> Processes:
    """Two processes, the second in a folder of its own in which `change` has been made."""
    here, other = Path.cwd(), Path("elsewhere")
    other.mkdir()
    make(other)
    for name in ("net.prototxt", "solver.prototxt"):
        (other / name).write_text(Path(name).read_text())
    os.chdir(other)
    change()
    os.chdir(here)
    return Processes(2, "train", "solver.prototxt", folders=[here, here / other])


def more_data() -> None:
    write_database(Path("train_lmdb"), [np.zeros((3, 10, 10), np.uint8)] * 31, [0] * 31)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda: Path("solver.prototxt").write_text(SOLVER.replace("gamma: 0.5", "gamma: 0.4")),
            "the solver differs: ",
        ),
        (
            lambda: Path("net.prototxt").write_text(PLAIN.replace("scale: 0.02", "scale: 0.03")),
            "the train net differs: ",
        ),
        (more_data, "the data of the train net's layer 'data' differs: 31 records, "),
        (lambda: Path("train_lmdb/data.mdb").unlink(), "not an LMDB"),
        (lambda: [p.unlink() for p in Path("train_lmdb").iterdir()] and Path("train_lmdb").rmdir(), "no database"),
    ],
    ids=["solver", "net", "data", "damaged", "gone"],
)
def test_two_machines_with_different_files(folder, change, match):
    set_up(PLAIN, SOLVER)
    last = refused(elsewhere(change))[-1]
    assert last.startswith(f"rootgen train: process 1 on {os.uname().nodename}: ")
    assert match in last


def test_what_process_0_starts_from_is_all_that_is_needed(folder):
    """Snapshots on one machine's disk will do."""
    set_up(PLAIN, SOLVER, max_iter=4, snapshot=2)
    trained(2, "solver.prototxt")
    whole = learned("snaps/net", 4)
    for path in Path("snaps").glob("*_iter_4.*"):
        path.unlink()
    processes = elsewhere(lambda: None)
    processes.end()
    again = Processes(2, "train", "solver.prototxt", "--snapshot", "auto", folders=[Path(), Path("elsewhere")])
    first, other = again.end()
    assert (first.code, other.code) == (0, 0), first.err
    assert not list(Path("elsewhere").glob("snaps/*"))
    for name, blobs in learned("snaps/net", 4).items():
        for one, two in zip(blobs, whole[name], strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("words", [(), ("--sync-bn",)], ids=["", "sync-bn"])
@pytest.mark.parametrize("record", [23, 20], ids=["process 1", "process 0"])
def test_a_damaged_record_ends_all_with_what_was_learned(folder, record, words):
    import lmdb

    set_up(WITH_BN, SOLVER, test_initialization="false")
    with lmdb.open("train_lmdb") as env, env.begin(write=True) as txn:
        txn.put(f"{record:08d}".encode(), b"damaged")
    processes = Processes(2, "train", "solver.prototxt", *words)
    *_, rescued, last = refused(processes)
    assert rescued == "rootgen: rescued: iteration 3 is in snaps/net_iter_3.solverstate"
    assert f"train_lmdb: record '{record:08d}': not a binary Datum" in last
    assert ("process 1 on " in last) == (record == 23)


def test_a_loss_that_is_not_finite_in_one_leaves_no_snapshot(folder):
    set_up(PLAIN, SOLVER, base_lr=1e30, max_iter=12, snapshot=0)
    last = refused(Processes(2, "train", "solver.prototxt"))[-1]
    assert re.search(r"iteration \d+: loss is (nan|inf)", last)
    assert not list(Path("snaps").glob("*iter*"))


def running(count: int, *words: str, rows_wanted: int = 20, **fields: object) -> Processes:
    """Processes in the midst of an endless training."""
    set_up(WITH_BN, SOLVER.replace("snapshot: 5", ""), max_iter=1000000, test_interval=1000000, **fields)
    processes = Processes(count, "train", "solver.prototxt", *words)
    wait_for(lambda: logged() > rows_wanted, processes)
    return processes


def logged() -> int:
    log = Path("snaps/net_log.csv")
    return log.read_text().count("\n") if log.exists() else 0


def wait_for(condition, processes: Processes) -> None:
    for _ in range(1200):
        if condition():
            return
        assert all(process.is_alive() for process in processes.all), processes.end()
        time.sleep(0.05)
    raise AssertionError("the run got nowhere in a minute")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_of_one_is_a_stop_of_all(folder, rank, number):
    processes = running(2, "--scale-lr", "--precision", "bf16", "--log", "snaps/net_log.csv")
    os.kill(processes.all[rank].pid, number)
    last = refused(processes, code=128 + number)[-1]
    (path,) = Path("snaps").glob("*.solverstate")
    assert path.name == f"net_iter_{int(rows('snaps/net')[-1]['iteration']) + 1}.solverstate"
    assert last == (
        f"to go on: torchrun --nproc-per-node 2 -m -- rootgen train solver.prototxt --snapshot {path} "
        "--log snaps/net_log.csv --precision bf16 --scale-lr"
    )


@pytest.mark.parametrize("later", [0, 0.3], ids=["at once", "in the test"])
def test_a_stop_during_a_test_ends_it(folder, later):
    set_up(PLAIN, SOLVER, test_iter=100000)
    processes = Processes(2, "train", "solver.prototxt")
    wait_for(lambda: list(Path("said").glob("*.err")) and "from iteration 0" in processes.said(0), processes)
    time.sleep(later)
    os.kill(processes.all[1].pid, signal.SIGTERM)
    assert refused(processes, code=128 + signal.SIGTERM)[-1] == "nothing to go on from: no snapshot was written"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_that_only_one_knows_of_yet_parts_nobody(folder, monkeypatch, rank):
    """It comes between what the processes tell each other and what they make of it."""
    from rootgen import cli
    from rootgen.engine.torch import distributed

    def stopped(group, values):
        found = gather(group, values)
        if not group.stopped:
            group.stopped = True
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    gather = distributed.Group.gather
    monkeypatch.setattr(distributed.Group, "gather", stopped)
    monkeypatch.setattr(distributed.Group, "stopped", False, raising=False)
    monkeypatch.setattr(distributed, "ANSWERED_IN", timedelta(seconds=10))
    set_up(PLAIN, SOLVER, test_iter=100000)
    processes = Processes(2, "train", "solver.prototxt", own=rank)
    for name, value in processes.env(rank, 2).items():
        monkeypatch.setenv(name, value)
    code = cli.main(["train", "solver.prototxt"])
    (other,) = processes.end(30)
    assert (code, other.code) == (143, 143), other.err


@pytest.mark.parametrize(("times", "codes"), [(1, (143, 143)), (2, (130, 1))], ids=["once", "twice"])
def test_a_stop_while_process_0_opens_is_a_stop_of_all(folder, monkeypatch, capsys, times, codes):
    """A stop of one is kept for the start; a second one ends this process, and the others who wait for it."""
    from rootgen import cli
    from rootgen.engine.torch import join

    def stopped(*args, **options):
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGTERM)
        return opened(*args, **options)

    opened = join.open_nets
    monkeypatch.setattr(join, "open_nets", stopped)
    processes = Processes(2, "train", "solver.prototxt", own=0)
    for name, value in processes.env(0, 2).items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    code = cli.main(["train", "solver.prototxt"])
    (other,) = processes.end()
    assert (code, other.code, other.out, other.err) == (*codes, "", "")
    assert time.monotonic() - begun < 60  # far from the two minutes that who does not come is waited for
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ("nothing to go on from: no snapshot was written" if times == 1 else "rootgen train: interrupted")
    assert not list(Path("snaps").glob("*iter*"))


@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_process_costs_nothing_but_itself(folder, rank):
    """Whoever is left writes what was learned; going on from there ends in the bytes of an unbroken run."""
    processes = running(3)
    os.kill(processes.all[rank].pid, signal.SIGKILL)
    begun = time.monotonic()
    ended = processes.end()
    assert time.monotonic() - begun < 30
    assert ended[rank].code == -signal.SIGKILL
    speaks = 1 if rank == 0 else 0
    for number, process in enumerate(ended):
        if number == speaks:
            *_, rescued, last = process.err.splitlines()
        elif number != rank:
            assert (process.code, process.err) == (1, "")
    (path,) = Path("snaps").glob("*.solverstate")
    iteration = state.read(path).iteration
    assert rescued == f"rootgen: rescued: iteration {iteration} is in {path}"
    gone = f"process {rank} on {os.uname().nodename} is gone, or no longer to be reached"
    assert last.startswith(f"rootgen train: {gone} (torchrun --max-restarts")
    last_row = int(rows("snaps/net")[-1]["iteration"])
    assert iteration - last_row in ((0, 1, 2) if rank == 0 else (1,))  # its row of the log, or its update, alone
    end = str(iteration + 5)
    trained(3, "solver.prototxt", "--snapshot", "auto", "--max-iter", end)
    set_up(WITH_BN, Path("solver.prototxt").read_text(), snapshot_prefix='"unbroken/net"')
    trained(3, "solver.prototxt", "--max-iter", end)
    found, wanted = (Path(f"{folder}/net_iter_{end}.caffemodel").read_bytes() for folder in ("snaps", "unbroken"))
    assert found == wanted or rank == 0  # the statistics are another process's then


def torchrun(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", *words, "-m", "rootgen", "train", "solver.prototxt"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--snapshot", "auto"], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.slow
def test_torchrun_goes_on_by_itself(folder):
    set_up(WITH_BN, SOLVER, max_iter=600, test_interval=1000, snapshot=1000)
    local = ("--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    process = torchrun(*local, "--max-restarts", "3")
    for number, wanted in enumerate((50, 300)):
        while logged() < wanted and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()
        workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        os.kill(workers[-1 - number], signal.SIGKILL)
        time.sleep(3)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out == "snaps/net_iter_600.caffemodel\n"
    assert err.count("rescued: iteration") == 2
    told = [int(row["iteration"]) for row in rows("snaps/net")]
    assert told == list(range(600))
    set_up(WITH_BN, SOLVER, max_iter=600, test_interval=1000, snapshot=1000, snapshot_prefix='"unbroken/net"')
    trained(2, "solver.prototxt")
    assert [row["total_loss"] for row in rows("unbroken/net")] == [row["total_loss"] for row in rows("snaps/net")]


# Precision


def test_bf16_is_said_and_learns_about_the_same(folder):
    rates = {}
    for name in ("fp32", "bf16"):
        set_up(STILL, SOLVER, max_iter=6, snapshot_prefix=f'"{name}/net"')
        assert train.train("solver.prototxt", engine="torch", precision=name).device.endswith(
            "BF16 convolutions)" if name == "bf16" else "threads)"
        )
        rates[name] = [float(row["total_loss"]) for row in rows(f"{name}/net")]
    assert rates["fp32"] != rates["bf16"]
    assert rates["fp32"] == pytest.approx(rates["bf16"], rel=0.05)


def test_bf16_keeps_normalization_and_loss_in_float32(folder):
    import torch

    set_up(STILL, SOLVER)
    trainer = open_trainer("solver.prototxt", engine="torch", precision="bf16")
    values, loss = trainer.train.run(0)
    assert values["ip"].dtype == torch.bfloat16
    assert loss.dtype == values["conv"].dtype == torch.float32
    trainer.step()
    assert all(learnable.blob.dtype == torch.float32 for learnable in trainer.train.learnable)
