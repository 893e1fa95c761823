"""Advice: the plan is the best there is within the budget, by trying all; bad budgets; files, table and picture."""

import csv
import io
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
