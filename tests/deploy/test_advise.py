"""Advice: the plan is the best there is within the budget, by trying all; bad budgets; files, table and picture."""

import csv
import io
import json
from contextlib import suppress
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_regroup import CHAIN, INPUT, blobs_of, conv, layer, saved

from rootgen.cli import main
from rootgen.deploy.advice import Bearing
from rootgen.deploy.advise import STEPS, advise, best
from rootgen.errors import RootgenError
from rootgen.grouping import Plan
from rootgen.net.load import load, load_text
from rootgen.transform.regroup import Kept
from rootgen.transform.transform import TransformOptions

pytestmark = pytest.mark.torch
NET = (
    INPUT + conv("a", "data") + conv("b", "a", 16) + layer("ReLU", "r", "b", "b") + conv("c", "b", 32, 1)
    + conv("d", "c", 16, 5) + conv("e", "d", 8, 1)
)  # fmt: skip


def bearing(name, shares, saved):
    kept = tuple(Kept(name, 1, 2**i, 0.0, share, 0.0) for i, share in enumerate(shares))
    return Bearing(name, kept, tuple(saved))


@settings(max_examples=60)
@given(seed=st.integers(0, 999), layers=st.integers(1, 4), part=st.floats(0.05, 1.0))
def test_no_other_plan_keeps_more(seed, layers, part):
    random = np.random.default_rng(seed)
    made = []
    for i in range(layers):
        shares = np.sort(random.random(4))[::-1]
        made.append(bearing(f"l{i}", [1.0, *shares], [0, *np.sort(random.integers(1, 10**6, 4)).tolist()]))
    needed = max(1, int(part * sum(one.saved[-1] for one in made)))
    found = best(made, needed)

    def value(groups, wanted):
        at = [one.kept.index(next(k for k in one.kept if k.group == g)) for one, g in zip(made, groups, strict=True)]
        if sum(one.saved[i] for one, i in zip(made, at, strict=True)) < wanted:
            return 0.0
        return prod(one.kept[i].permuted for one, i in zip(made, at, strict=True))

    mine = value(found.values(), needed)
    assert mine > 0
    everything = list(product(*[[kept.group for kept in one.kept] for one in made]))
    if part < 0.99:  # with what the rounding asks for at most besides, nothing is better
        assert mine >= max(value(one, needed * (1 + layers / STEPS) + layers) for one in everything) - 1e-12
    assert mine <= max(value(one, needed) for one in everything) + 1e-12


@pytest.mark.parametrize(("budget", "share"), [("macs", 0.6), ("params", 0.5), ("params", 0.33)])
def test_a_nets_plan_is_within_its_budget_and_beats_the_rules(tmp_path, budget, share):
    prototxt, model = saved(tmp_path, NET)
    found = advise(NET, str(model), prototxt, TransformOptions(), budget=budget, share=share)
    before, after = load_text(NET).cost(), load_text(found.text).cost()
    assert getattr(after, budget) <= share * getattr(before, budget)
    assert {plan.name.partition("-")[0] for plan in found.plans} == {"advised", "root", "column", "tree"}
    for plan in found.plans:
        assert getattr(plan.made.after, budget) <= share * getattr(before, budget)
    for one in found.bearings:
        assert [kept.group for kept in one.kept] == [1, 2, 4, 8, 16]
        assert one.kept[0].permuted == 1.0
        assert all(later.permuted < now.permuted for now, later in zip(one.kept, one.kept[1:], strict=False))
        for kept, saves in zip(one.kept, one.saved, strict=True):
            changed = load_text(_with(one.layer, kept.group)).cost()
            assert getattr(before, budget) - getattr(changed, budget) == saves
    assert found.plans[0].kept >= max(plan.kept for plan in found.plans) * 0.98  # in whole plans orders may clash


def _with(name, group):
    from rootgen.transform.transform import transform

    return transform(NET, Plan.of(group={name: group})).text


def test_structured_layers_get_the_groups(tmp_path):
    """Of two equal layers, the one that is made of blocks is grouped."""
    text = INPUT + conv("a", "data", 8) + conv("x", "a", 8) + conv("m", "x", 8, 1) + conv("y", "m", 8)
    text += conv("e", "y", 8, 1)
    net = load_text(text)
    blobs = blobs_of(net)
    order = np.random.default_rng(0).permutation(8)
    whole = np.kron(np.eye(4), np.ones((2, 2)))[order]
    blobs["y"][0] = blobs["y"][0] * whole[:, :, None, None]
    prototxt, model = saved(tmp_path, text, blobs)
    share = 1 - 1.1 * 0.5 * 576 / net.cost().params
    found = advise(text, str(model), prototxt, TransformOptions(), budget="params", share=share)
    assert found.groups == {"y": 4}
    assert found.plans[0].shares["y"] == pytest.approx(1.0)


def test_the_command_without_a_prototxt(tmp_path, capsys):
    prototxt, model = saved(tmp_path, NET)
    out, plot = tmp_path / "plan.prototxt", tmp_path / "plan.svg"
    assert main(["advise", str(model), "--macs", "0.6", "-o", str(out), "--plot", str(plot)]) == 0
    said = capsys.readouterr()
    options = said.out.splitlines()[-1]
    assert options.startswith("--group ")
    assert main(["transform", str(prototxt), *options.split()]) == 0
    by_hand = load_text(capsys.readouterr().out)
    assert [one.shapes for one in load(out).layers] == [one.shapes for one in by_hand.layers]
    picture = plot.read_text()
    assert all(f">{name}<" in picture for name in ("b", "d", "groups", "1/groups"))
    assert main(["advise", str(model), "--net", str(prototxt), "--macs", "0.6", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    chosen = [
        f"--group {row['layer']}={row['group']}" for row in rows if row["chosen"] == "True" and row["group"] != "1"
    ]
    assert " ".join(chosen) == options


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["net.caffemodel", "--params", "0.01"], 1, "groups cannot bring it to 0.01 of its params: 0."),
        (["net.caffemodel", "--macs", "1.5"], 2, "--macs 1.5 is no saving"),
        (["net.caffemodel", "--time", "1"], 2, "--time 1 is no saving"),
        (["net.caffemodel", "--engine", "torch"], 2, "--engine goes with --time"),
        (["net.caffemodel", "--params", "0.5", "--batch-size", "4"], 2, "--batch-size goes with --time"),
        (["net.caffemodel", "--remeasure"], 2, "--remeasure goes with --time"),
        (["net.caffemodel", "--net", "other.prototxt"], 1, "a model of another net"),
        (["other.prototxt"], 1, "other.prototxt"),
        (["net.caffemodel", "--plot", "x.bmp"], 1, "cannot draw"),
        (["net.caffemodel", "-o", "other.prototxt/x"], 1, "other.prototxt"),
        (["one.caffemodel"], 1, "has no spatial convolution that groups could divide"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, words, code, message):  # noqa: PLR0917
    from rootgen.engine import weights

    monkeypatch.chdir(tmp_path)
    saved(tmp_path, NET)
    (tmp_path / "other.prototxt").write_text(CHAIN)
    one = load_text(INPUT + conv("a", "data"))
    weights.write("one.caffemodel", "x", "TEST", one.layers, blobs_of(one))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["advise", *words]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_least_that_is_said_can_be_had(tmp_path, capsys):
    _, model = saved(tmp_path, NET)
    assert main(["advise", str(model), "--params", "0.01"]) == 1
    hint = capsys.readouterr().err.rpartition("(--params ")[2].split()[0]
    assert main(["advise", str(model), "--params", hint]) == 0


def test_options_that_take_longer_are_not_taken():
    shares = [bearing("a", [1.0, 0.9, 0.5], [0, -100, 100]), bearing("b", [1.0, 0.8], [0, 50])]
    assert best(shares, 50) == {"a": 1, "b": 2}
    assert best(shares, 120) == {"a": 4, "b": 2}
    slow = [bearing("a", [1.0, 0.9, 0.8], [0, 100, 30])]
    assert best(slow, 100) == {"a": 2}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROOTGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "times"


def slow_groups(monkeypatch, scale=1.0):
    """Have the engine's clock tell times that are known: what a layer computes, in ns; 5x5 is slow in 2 groups.

    Whole nets take a tenth more than their layers, and all takes `scale` as long.
    """
    from rootgen.engine.api import LayerTime, NetTime
    from rootgen.engine.torch.network import TorchNetwork

    asked = []

    def time(self, iterations, *, warmup=1, backward=True):
        assert not backward
        asked.append(self.net.name)
        cost, layers = _costs(self.net), []
        for one in self.net.layers:
            if one.type != "Input":
                ms = scale * cost[one.name] * self.batch_size / 1e6
                param = one.param.convolution_param
                slow = one.type == "Convolution" and param.group == 2 and one.shapes.params[0][2] == 5
                layers.append(LayerTime(one.name, one.type, [ms * (4 if slow else 1)] * iterations, []))
        whole = 1.1 * sum(layer.forward[0] for layer in layers)
        return NetTime(self.batch_size, layers, [whole] * iterations, [])

    monkeypatch.setattr(TorchNetwork, "time", time)
    return asked


def _costs(net):
    from rootgen.net.cost import count

    return {row.name: 1000 + row.macs for row in count(net).layers}


def timed(tmp_path, share, **how):
    from rootgen.deploy.layer_times import Stopwatch

    prototxt, model = saved(tmp_path, NET)
    watch = Stopwatch("torch", "cpu", **how)
    return advise(NET, str(model), prototxt, TransformOptions(), budget="time", share=share, watch=watch)


def test_a_plan_within_a_budget_of_time(tmp_path, cache, monkeypatch):
    asked = slow_groups(monkeypatch)
    found = timed(tmp_path, 0.7)
    whole = sum(_costs(load_text(NET)).values()) - 1000  # the Input's
    checked = found.times
    assert checked.told["original"] == pytest.approx(2 * 1.1 * whole / 1e6, rel=1e-3)  # batch 2
    told, measured = checked.share("advised")
    assert told <= 0.7
    after = sum(_costs(load_text(found.text)).values()) - 1000
    assert measured == pytest.approx(after / whole, rel=1e-3)
    assert checked.off("advised") == pytest.approx(measured / told - 1)
    assert {plan.name.partition("-")[0] for plan in found.plans} == {"advised", "root", "column", "tree"}
    by_layer = {
        one.layer: {kept.group: saved for kept, saved in zip(one.kept, one.saved, strict=True)}
        for one in found.bearings
    }
    assert by_layer["d"][2] < 0 < by_layer["d"][4]  # 5x5, four times as slow
    assert found.groups["d"] != 2
    assert by_layer["b"][4] == pytest.approx(2 * 0.75 * (_costs(load_text(NET))["b"] - 1000), rel=1e-3)
    header = found.tables()[-1].header
    assert list(header[-4:]) == ["time by layers", "time measured", "off", "ms"]
    assert found.rows[0]["milliseconds"] > 0
    assert "alone" in asked


def test_the_engine_that_times_is_told_once(tmp_path, cache, caplog):
    caplog.set_level("INFO", "rootgen")
    prototxt, model = saved(tmp_path, NET)
    with suppress(RootgenError):  # groups may be no faster here
        advise(NET, str(model), prototxt, TransformOptions(), budget="time", share=0.99)
    assert caplog.text.count("engine: ") == 1


def test_layers_are_timed_once_and_kept(tmp_path, cache, monkeypatch):
    asked = slow_groups(monkeypatch)
    first = timed(tmp_path, 0.7)
    kept = sorted(cache.iterdir())
    assert len(kept) == 3  # the net, and two geometries
    assert all(json.loads(path.read_text())["of"]["engine"] == "torch" for path in kept)
    # the machine is slower now: shares of the time are what they were
    asked = slow_groups(monkeypatch, scale=3.0)
    again = timed(tmp_path, 0.7)
    assert "alone" not in asked
    assert again.groups == first.groups
    assert again.times.told == first.times.told
    assert again.times.measured["original"] == pytest.approx(3 * first.times.measured["original"])
    assert again.times.off("advised") == pytest.approx(first.times.off("advised"))
    asked.clear()
    assert timed(tmp_path, 0.7, remeasure=True).times.told["original"] > 2 * first.times.told["original"]
    assert "alone" in asked
    asked.clear()
    timed(tmp_path, 0.7, batch=7)  # other times
    assert "alone" in asked
    assert len(sorted(cache.iterdir())) == 6


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"of": 1, "milliseconds": {"": -1}}', b"\xff" * 9])
def test_a_damaged_cache_is_measured_again(tmp_path, cache, monkeypatch, damage):
    asked = slow_groups(monkeypatch)
    first = timed(tmp_path, 0.7)
    for path in cache.iterdir():
        path.write_bytes(damage)
    asked.clear()
    assert timed(tmp_path, 0.7).groups == first.groups
    assert "alone" in asked
    assert all(path.read_bytes() != damage for path in cache.iterdir())


@pytest.mark.parametrize("ms", ["0", "-1", "NaN", "1e999", "1" + "0" * 400, "[]", '"x"'])
def test_no_time_that_is_none_is_taken_from_the_cache(tmp_path, cache, monkeypatch, ms):
    asked = slow_groups(monkeypatch)
    first = timed(tmp_path, 0.7)
    for path in cache.iterdir():
        key = json.loads(path.read_text())
        times = ", ".join(f'"{name}": {ms}' for name in key["milliseconds"])
        path.write_text(f'{{"of": {json.dumps(key["of"])}, "milliseconds": {{{times}}}}}')
    asked.clear()
    assert timed(tmp_path, 0.7).groups == first.groups
    assert "alone" in asked


def test_what_else_an_entry_has_does_no_harm(tmp_path, cache, monkeypatch):
    asked = slow_groups(monkeypatch)
    first = timed(tmp_path, 0.7)
    for path in cache.iterdir():
        found = json.loads(path.read_text())
        found["milliseconds"] |= {"more": 1.0, "3": 0.0}
        path.write_text(json.dumps(found))
    asked.clear()
    assert timed(tmp_path, 0.7).groups == first.groups
    assert "alone" not in asked


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_another_thread_or_version_is_another_time(monkeypatch, variable):
    from rootgen.deploy.layer_times import Environment, Stopwatch

    watch = Stopwatch("torch", "cpu")
    one = Environment.found(watch)
    assert one.facts == Environment.found(watch).facts
    monkeypatch.setenv(variable, "77")
    assert Environment.found(watch).facts != one.facts
    monkeypatch.undo()
    monkeypatch.setattr("rootgen.engine.machine.versions", lambda engine: "other")
    assert Environment.found(watch).facts != one.facts


def test_an_engine_that_cannot_run_the_net_says_so_of_the_net(tmp_path, cache, capsys):
    text = NET + 'layer { name: "own" type: "Own" bottom: "b" top: "o" }\n'
    prototxt, model = saved(tmp_path, NET)
    prototxt.write_text(text)
    words = ["--net", str(prototxt), "--time", "0.5", "--engine", "torch", "--device", "cpu"]
    assert main(["advise", str(model), *words]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert str(prototxt) in said
    assert "rootgen-times-" not in said


def test_what_time_cannot_be_met_says_the_least(tmp_path, cache, monkeypatch, capsys):
    slow_groups(monkeypatch)
    _, model = saved(tmp_path, NET)
    words = ["advise", str(model), "--engine", "torch", "--device", "cpu", "--time"]
    assert main([*words, "0.01"]) == 1
    said = capsys.readouterr().err
    assert "groups cannot bring it to 0.01 of its time: 0." in said
    assert " ms of " in said
    assert main([*words, said.rpartition("(--time ")[2].split()[0]]) == 0
    said = capsys.readouterr()
    assert "the advised plan takes " in said.err
    assert "ms by groups" in said.out


@pytest.mark.parametrize("engine", ["torch", pytest.param("caffe", marks=pytest.mark.caffe), "onnx"])
def test_real_times_on_every_engine(tmp_path, cache, engine, capsys):
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    _, model = saved(tmp_path, NET.replace("dim: 9 dim: 9", "dim: 24 dim: 24"))
    words = ["advise", str(model), "--time", "0.999", "--engine", engine, "--device", "cpu", "--batch-size", "1"]
    code = main([*words, "--format", "json"])
    said = capsys.readouterr()
    if code:  # groups are no faster on this machine, which is told
        assert "groups cannot bring it to 0.999 of its time" in said.err
        return
    rows = json.loads(said.out)
    assert all(row["milliseconds"] > 0 for row in rows)
    assert f"{engine}, cpu (" in said.err


def test_without_a_cache_times_are_taken_all_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ROOTGEN_CACHE", "relative")
    slow_groups(monkeypatch)
    assert timed(tmp_path, 0.7).groups
    assert caplog.text.count("times are not kept: ROOTGEN_CACHE is 'relative'") == 1


def test_times_that_cannot_be_written_are_taken_all_the_same(tmp_path, cache, monkeypatch, caplog):
    asked = slow_groups(monkeypatch)
    first = timed(tmp_path, 0.7)
    for path in list(cache.iterdir()):
        path.unlink()
        (path / "in the way").mkdir(parents=True)
    asked.clear()
    assert timed(tmp_path, 0.7).groups == first.groups
    assert "alone" in asked
    assert caplog.text.count("times are not kept: ") == 1
    assert "cannot write" in caplog.text
