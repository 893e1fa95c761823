"""The parts of benchmarks/cpu that measure nothing: jobs, medians, what was done already, limits, tables."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install rootgen[torch]")
pytest.importorskip("cv2", reason="OpenCV is not installed")

from rootgen.net.load import load_text

FOLDER = Path(__file__).parents[2] / "benchmarks/cpu"
MODULES = ("run", "whole", "whole_report", "report", "machine", "folded", "worker")

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {
  num_output: 4 kernel_size: 3 pad: 1 group: 2 } }
layer { name: "s" type: "Eltwise" bottom: "a" bottom: "b" top: "s" }
layer { name: "p" type: "Pooling" bottom: "s" top: "p" pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark's modules; benchmarks/gpu has some of the same names."""
    if not FOLDER.is_dir():
        pytest.skip("no benchmarks folder beside the tests")
    for folder in (FOLDER.parent, FOLDER):
        monkeypatch.syspath_prepend(str(folder))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = SimpleNamespace(**{name: import_module(name) for name in ("run", "whole", "whole_report")})
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return found


def test_each_engine_runs_what_it_can(cpu):
    names, kinds = ["NiN root-8", "GoogLeNet Orig."], ["folded", "training"]
    folded = [{"folded": name, "batch": batch} for name in names for batch in (1, 16)]
    trained = [{"training": "NiN root-8", "batch": 64}]
    assert (
        cpu.whole.jobs("torch", names, kinds, [1, 16])
        == cpu.whole.jobs("patched", names, kinds, [1, 16])
        == folded + trained
    )
    assert cpu.whole.jobs("openvino", names, kinds, [1, 16]) == folded
    assert cpu.whole.jobs("copy", names, kinds, [1, 16]) == cpu.whole.jobs("torch", names, ["layers"], [1]) == []


def test_medians_and_the_best_of_rounds(cpu):
    job = {"folded": "NiN Orig.", "batch": 1, "engine": "torch", "threads": 1, "pass": "forward"}
    rows = [{**job, "ms": ms, "best": ms - 1} for ms in (3.0, 9.0, 4.0)]
    assert cpu.run.medians([*rows, {**job, "threads": 2, "ms": 5.0}]) == [
        {**job, "ms": 4.0, "best": 2.0},
        {**job, "threads": 2, "ms": 5.0, "best": 5.0},
    ]


def test_an_interrupted_run_goes_on(cpu, tmp_path):
    key, rows = [1, 0, "torch", [{"folded": "NiN Orig."}], ""], [{"ms": 1.5}]
    done = cpu.run.Done(tmp_path / "unfinished.jsonl")
    assert done.find(key) is None
    done.add(key, rows)
    again = cpu.run.Done(tmp_path / "unfinished.jsonl")
    assert again.find(key) == rows
    assert again.find([2, *key[1:]]) is None


def test_limits_count_each_product_and_each_blob_once(cpu):
    net = load_text(NET)
    first, second = 64 * 3 * 4, 64 * 4 * 2 * 9
    assert cpu.whole.training_macs(net) == 2 * first + 3 * second
    blob, weights = 4 * 64, 3 * 4 + 4 + 4 * 2 * 9 + 4
    moved = (3 * 64 + blob) + (blob + blob) + blob + (blob + 4)  # two convolutions, the sum, the pooling
    assert cpu.whole.least_bytes(net, 5) == 4 * (5 * moved + weights)


def table_rows(cpu) -> list[dict]:
    rows: list[dict] = []
    for threads, ms in ((1, 8.0), (2, 4.0)):
        at = {"threads": threads, "pass": "forward"}
        rows.append({"engine": "machine", "threads": threads, "pass": "GMAC/s", "ms": 50.0})
        rows.append({"engine": "machine", "threads": threads, "pass": "GB/s", "ms": 20.0})
        for engine in (*cpu.whole.RUNTIMES, *cpu.whole.LIMITS):
            rows.append({"folded": "NiN Orig.", "batch": 1, "engine": engine, "ms": ms, "best": ms / 2, **at})
        for engine in cpu.whole.TRAINERS:
            rows.append({"training": "NiN Orig.", "batch": 64, "engine": engine, "ms": 10 * ms, "best": 9 * ms, **at})
    return rows


def test_tables(cpu):
    page = cpu.whole_report.page(table_rows(cpu))
    assert "| NiN Orig. | 1 | 8.00 (4.00) |" in page
    assert "| NiN Orig., batch 64 | 2 | 1600.0 (1777.8) | 1600.0 (1777.8) |" in page
    assert "2 threads: 50e9 multiply-adds and 20e9 bytes" in page
    assert "| NiN Orig. | 8.00, 4.00 | 8.00, 4.00 |" in cpu.whole_report.readme_table(table_rows(cpu))
    csv = cpu.run.csv_text(table_rows(cpu), cpu.run.WHOLE_FIELDS).splitlines()
    assert csv[0] == "folded,training,batch,threads,engine,pass,ms,best"
    assert "NiN Orig.,,1,1,openvino,forward,8.000,4.000" in csv


def test_readme_has_a_place_for_the_table(cpu, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text((FOLDER.parents[1] / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    before = readme.read_text(encoding="utf-8")
    for _ in range(2):
        cpu.whole_report.write_readme(readme, table_rows(cpu))
    written = readme.read_text(encoding="utf-8")
    assert written.count("| NiN Orig. | 8.00, 4.00 |") == 1
    start, end = before.index(cpu.whole_report.BEGIN), before.index(cpu.whole_report.END)
    assert written.startswith(before[:start])
    assert written.endswith(before[end:])


@pytest.mark.parametrize("kind", ["vanilla", "patched"])
def test_a_prefix_without_a_caffe_is_refused(cpu, monkeypatch, capsys, tmp_path, kind):
    """Else another Caffe that Python finds would be timed in its name."""
    monkeypatch.setattr(sys, "argv", ["run.py", f"--{kind}", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        cpu.run.main()
    assert ended.value.code == 2
    assert f"--{kind} {tmp_path}: no Caffe is installed there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_was_not_timed_is_a_dash(cpu):
    rows = [{"folded": "NiN Orig.", "batch": 1, "threads": 1, "engine": "torch", "pass": "forward", "ms": 2.0}]
    assert cpu.whole_report.readme_table(rows).splitlines()[-1].endswith("| - | - |")
