"""The parts of benchmarks/gpu that need no GPU: cases, parsing, report. (`make_bundle.py` and `run.py` need CUDA.)"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from rootgen.net import cost, shapes
from rootgen.net import read as net

FOLDER = Path(__file__).parents[2] / "benchmarks/gpu"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("cases", "report", "run", "make_bundle"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_counted_like_any_net() -> None:
    import cases

    for shape in cases.convolutions():
        one_layer = net.parse(shape.net_parameter(32, "CAFFE"))
        inferred = shapes.infer(one_layer)
        counted = cost.count(inferred)
        assert shape.macs(1) == counted.macs, shape.name
        assert inferred.blobs["conv"] == (32, shape.num_output, shape.size, shape.size)


@pytest.mark.parametrize("name", ["nin/root-8", "resnet50/root-64", "googlenet/orig"])
def test_whole_nets_are_fed_by_the_program(name: str) -> None:
    import cases

    text = cases.whole_net(cases.train_val(name), 32, "CUDNN")
    train = net.parse(text, "TRAIN")
    assert train.layers[0].type == "Input"
    assert shapes.infer(train).blobs[train.layers[0].tops[0]][0] == 32
    assert {layer.param.convolution_param.engine for layer in train.layers if layer.type == "Convolution"} == {2}


def test_report(tmp_path: Path) -> None:
    import report
    from report import Machine, Row

    machine = Machine("a GPU", copy_gb_s=1000, fp32_tflop_s=10)
    case = "resnet50_256x14_k3_g1"  # 15.2 MB and 2 x 3.70 Gmac at batch 32
    rows = [Row("layer", case, 32, "batched CAFFE", 1.0, 2.0), Row("net", "nin/orig", 32, "batched CAFFE", 5.0, 9.0)]
    assert report.percents(rows[0], machine) == pytest.approx((1.5204352, 73.98752512))
    report.write(tmp_path, rows, machine, ["a note"])
    written = list(csv.reader((tmp_path / "times.csv").read_text().splitlines()))
    assert written[1][-2:] == ["1.5", "74.0"]
    assert written[2][-2:] == ["", ""]
    assert "a note" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_layers_of_nets_by_type() -> None:
    import cases
    import report
    from report import Row

    net = "googlenet/root-16"
    assert cases.layer_types(net)["conv2/3x3"] == "Convolution 3x3, grouped"
    times = {"conv2/3x3": (1.0, 2.0), "inception_3a/3x3": (0.5, 1.0), "conv2/bn_3x3": (4.0, 4.0), "split": (0.25, 0.5)}
    rows = [Row("net layer", f"{net} {layer}", 32, "CAFFE", *ms) for layer, ms in times.items()]
    rows.append(Row("net layer", "googlenet/orig conv2/3x3", 32, "CAFFE", 9, 9))
    text = report._by_type(rows, net)
    lines = [line.split("  ") for line in text.splitlines() if " / " in line]
    assert [(line[0], line[-1].strip()) for line in lines] == [
        ("all", "5.75 / 7.50"), ("BatchNorm", "4.00 / 4.00"), ("Convolution 3x3, grouped", "1.50 / 3.00"),
        ("Split", "0.25 / 0.50"),
    ]  # fmt: skip
    assert report._by_type(rows, "resnet50/root-64") == ""


def test_report_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import report

    monkeypatch.setattr(report.importlib.util, "find_spec", lambda _: None)
    report.write(tmp_path, [report.Row("net", "nin/orig", 32, "x", 1, 2)], report.Machine("a GPU", 1000, 10), [])
    assert "no plot.png" in (tmp_path / "table.md").read_text()
    assert not (tmp_path / "plot.png").exists()


def test_says_what_is_not_installed() -> None:
    command = [sys.executable, "-S", str(FOLDER / "run.py")]  # -S: without installed packages
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "run.py: not installed here: protobuf, numpy, torch\n")


@pytest.mark.torch
@pytest.mark.parametrize("left_out", [0, 1])
def test_suites_and_sanitizers_that_did_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: int) -> None:
    import run

    program = tmp_path / "bundle/batched/conv_tests"
    program.parent.mkdir(parents=True)
    said = "".join(f"[       OK ] {suite}.TestThis (1 ms)\n" for suite in run.SUITES[left_out:])
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    program.chmod(0o755)
    monkeypatch.setattr(run.shutil, "which", lambda *_, **__: None)
    bench = run.Bench(tmp_path / "bundle", tmp_path, minutes=1)
    assert run.check(bench) == (left_out == 0)
    assert (f"no test passed of {run.SUITES[0]}" in bench.notes) == (left_out == 1)
    assert "memcheck: NOT RUN: no compute-sanitizer here" in bench.notes
    assert "racecheck: NOT RUN" in (tmp_path / "tests.log").read_text()


@pytest.mark.torch
def test_steps_and_variants_are_chosen_by_name() -> None:
    import run

    names = [variant.name for variant in run.VARIANTS]
    assert run.chosen(None, ";", names) == names
    assert run.chosen("batched CUDNN;batched CAFFE", ";", names) == ["batched CAFFE", "batched CUDNN"]
    with pytest.raises(SystemExit, match="nets,none: each must be one of tests; layers"):
        run.chosen("nets,none", ",", ["tests", *run.STEPS])


@pytest.mark.torch
@pytest.mark.parametrize("step", ["layers", "buffers", "net-layers"])
def test_a_step_alone_makes_the_nets_that_it_times(tmp_path: Path, step: str) -> None:
    import run

    program = tmp_path / "bundle/batched/time_nets"
    program.parent.mkdir(parents=True)
    # What time_nets says of the nets that are there.
    program.write_text('#!/bin/sh\nshift 2\nfor net; do [ -s "$net" ] && echo "$net 1 2 3"; done\n')
    program.chmod(0o755)
    variants = [variant for variant in run.VARIANTS if variant.name == "batched CAFFE"]
    bench = run.Bench(tmp_path / "bundle", tmp_path, minutes=1, variants=variants)
    run.STEPS[step](bench)
    assert len(bench.rows) == {"layers": 2 * 18, "buffers": 5 * 11, "net-layers": 3}[step]


@pytest.mark.torch
def test_only_result_lines_are_parsed() -> None:
    import run

    said = "W1122 net.cpp] one two three four\n/tmp/nets/nin_192x8_k3_g4 0.5 1.25 20\nF1122 out of memory\n"
    said += "/tmp/nets/googlenet_orig_CAFFE_32:inception_3a/1x1 0.5 1.25 20\n"
    layer = ("layer", "googlenet_orig_CAFFE_32:inception_3a/1x1", 32, "x", 0.5, 1.25)
    assert run.parse(said, "layer", 32, "x") == [("layer", "nin_192x8_k3_g4", 32, "x", 0.5, 1.25), layer]


@pytest.mark.parametrize(
    ("name", "left_out"),
    [("libc.so.6", True), ("libcudnn.so.9", True), ("libcublas.so.13", True), ("libcurand.so.10", True),
     ("libcudart.so.13", True), ("libcaffe.so.1.0.0", True), ("libcurl.so.4", False), ("libopenblas.so.0", False),
     ("libstdc++.so.6", True), ("libcrypto.so.3", False), ("libmd.so.0", False)],
)  # fmt: skip
def test_bundle_has_what_a_machine_lacks(name: str, left_out: bool) -> None:
    import make_bundle

    assert bool(make_bundle.LEFT_OUT.match(name)) == left_out
