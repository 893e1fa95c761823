"""One convention for all verbs: formats, JSON's layout, stdin and stdout, --batch-size, guesses, exit codes."""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootgen import paths
from rootgen.cli import COMMANDS, main, output
from rootgen.cli.commands.completion import everything
from rootgen.generator.architectures import architectures
from rootgen.net.layers.registry import TYPES

NIN = paths.resource("prototxt") / "nin"
ORIG, ROOT = str(NIN / "orig" / "deploy.prototxt"), str(NIN / "root-4" / "deploy.prototxt")
TIME = ["time", ROOT, "--engine", "torch", "--device", "cpu", "--iterations", "1", "--warmup", "1", "--forward-only"]
ANSWERS = {  # verbs that print a table, and run in no time
    "list": ["list"],
    "list one": ["list", "resnet50"],
    "list --layers": ["list", "--layers"],
    "tables": ["tables", "nin"],
    "cost": ["cost", ROOT],
    "cost two": ["cost", ORIG, ROOT],
    "diff": ["diff", ORIG, ROOT],
    "time": TIME,
    "time --total": [*TIME, "--total"],
}
OBJECTS = ("cost", "cost two", "diff")  # these print objects, and no list of them


def parsers(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """Verb, or verb and action -> its parser."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                found |= {f"{name} {word}".strip(): below} | parsers(below, f"{name} {word}".strip())
    return found


PARSERS = parsers(everything())


def option(verb: str, name: str) -> argparse.Action | None:
    return next((action for action in PARSERS[verb]._actions if name in action.option_strings), None)


def ran(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


@pytest.fixture(params=ANSWERS)
def answering(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("time"):
        pytest.importorskip("torch")
    return str(request.param)


def test_json_has_an_object_per_line(answering: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = ran([*ANSWERS[answering], "--format", "json"], capsys)
    assert text.endswith("\n")
    lines = text.splitlines()
    if answering in OBJECTS:
        records = [json.loads(line) for line in lines]
        assert len(records) == len(answering.split())
    else:
        assert (lines[0], lines[-1]) == ("[", "]")
        assert all(line.endswith(",") for line in lines[1:-2]) and not lines[-2].endswith(",")
        records = [json.loads(line.removesuffix(",")) for line in lines[1:-1]]
        assert records == json.loads(text)
    assert records and all(isinstance(record, dict) for record in records)


def test_csv_has_a_header_and_rows(answering: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(ran([*ANSWERS[answering], "--format", "csv"], capsys))))
    assert len(rows) >= (1 if "total" in answering else 5)
    assert not any(None in row or None in row.values() or "None" in row.values() for row in rows)


def test_markdown_is_the_table_in_pipes(answering: str, capsys: pytest.CaptureFixture[str]) -> None:
    def cells(text: str) -> list[list[str]]:
        return [
            [cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:2] == "| "
        ]

    text = ran([*ANSWERS[answering], "--format", "markdown"], capsys)
    plain = ran(ANSWERS[answering], capsys)
    rules = [line for line in text.splitlines() if line.startswith("|---")]
    assert len(rules) == sum(set(line) == {"-", " "} or set(line) == {"-"} for line in plain.splitlines()) > 0
    if not answering.startswith("time"):  # its figures are other ones each time
        for row in cells(text):
            assert all(cell.replace("\\", "") in plain for cell in row)


def test_out_is_a_file_or_stdout(answering: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if answering.startswith("time"):
        assert ran([*ANSWERS[answering], "-o", str(tmp_path / "answer")], capsys) == ""
        assert "ms" in (tmp_path / "answer").read_text()
        return
    said = ran(ANSWERS[answering], capsys)
    assert ran([*ANSWERS[answering], "-o", str(tmp_path / "answer")], capsys) == ""
    assert (tmp_path / "answer").read_text() == said == ran([*ANSWERS[answering], "--out", "-"], capsys)


@pytest.mark.parametrize("verb", ["list", "cost", "diff", "tables", "time", "correlation", "reproduce", "caffe check"])
def test_verbs_that_print_a_table_take_every_format(verb: str) -> None:
    action = option(verb, "--format")
    assert action is not None and action.choices is not None
    assert tuple(action.choices)[:4] == output.FORMATS


def test_diff_takes_text_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(["diff", ORIG, ROOT, "--format", "text"], capsys) == ran(["diff", ORIG, ROOT], capsys)
    with pytest.raises(SystemExit):
        main(["diff", "--help"])
    assert "text" not in capsys.readouterr().out.partition("--format")[2].partition("-o")[0]


def test_out_has_one_spelling_everywhere() -> None:
    with_out = {verb for verb in PARSERS if option(verb, "--out")}
    assert {verb for verb in PARSERS if option(verb, "-o")} == with_out
    assert {"emit", "solver", "transform", "cost", "diff", "list", "tables", "time", "draw", "data"} <= with_out


def test_batch_size_has_one_spelling_and_the_old_one_goes_on_working(capsys: pytest.CaptureFixture[str]) -> None:
    taking = {verb for verb in PARSERS if option(verb, "--batch-size")}
    assert {"emit", "solver", "cost", "diff", "draw", "time", "correlation", "reproduce"} <= taking
    for verb in PARSERS:
        old = option(verb, "--batch")
        assert (old is not None) == (verb in taking)
        assert old is None or (old.dest, old.help) == ("batch_size", argparse.SUPPRESS)
    new = ran(["cost", ROOT, "--batch-size", "8"], capsys)
    assert "batch 8" in new
    assert new == ran(["cost", ROOT, "--batch", "8"], capsys) == ran(["cost", ROOT, "--batch=8"], capsys)
    assert "batch 1 " not in new + ran(["cost", ROOT, "--batch", "3", "--batch-size", "8"], capsys)


def piped(words: str, *, stdin: str) -> subprocess.CompletedProcess[bytes]:
    with Path(stdin).open("rb") as file:
        command = [sys.executable, "-m", "rootgen", *words.split()]
        return subprocess.run(command, stdin=file, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("cost - --format csv", b",-,TEST,conv2a,Convolution,4,"),
        (f"diff {ORIG} -", b"-> - (TEST)"),
        (f"diff - {ORIG}", b"- -> "),
        ("transform - --root 8", b"    group: 8\n"),
        ("draw - -o -", b"</svg>"),
        pytest.param(
            "time - --engine torch --iterations 1 --warmup 1 --forward-only", b"-: batch 1", marks=pytest.mark.torch
        ),
    ],
)
def test_a_net_is_read_from_stdin(words: str, wanted: bytes) -> None:
    done = piped(words, stdin=ROOT)
    assert done.returncode == 0, done.stderr
    assert wanted in done.stdout


@pytest.mark.parametrize("words", ["cost -", "diff - x", "transform - --root 2", "draw - -o -", "time -"])
def test_what_is_wrong_with_a_net_on_stdin_says_so(words: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("layer { nam: 'x' }")
    done = piped(words, stdin=str(tmp_path / "x"))
    assert done.returncode == 1
    verb, last = words.partition(" ")[0], done.stderr.decode().splitlines()[-1]
    assert last.startswith(f"rootgen {verb}: <stdin>:1:9: LayerParameter has no field 'nam' in Caffe 1.0 (did you mean")
    (tmp_path / "x").write_bytes(b"layer { name: '\xff' }")
    done = piped(words, stdin=str(tmp_path / "x"))
    assert done.returncode == 1
    assert b": <stdin>: invalid start byte at byte 15: no UTF-8 text" in done.stderr


@pytest.mark.parametrize("verb", ["cost", "diff", "time"])
def test_stdin_is_one_net(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "-", "-"]) == 2
    assert capsys.readouterr().err == f"rootgen {verb}: - stands for one net: stdin can be read once\n"


@pytest.mark.parametrize("format", output.FORMATS)
def test_rows_are_spelled_as_in_the_paper(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["list", "nin"], ["tables", "nin"]):
        text = ran([*words, "--format", format], capsys)
        assert "Orig." in text and "root-8" in text
        assert "orig" not in text


def test_list_shows_costs_and_the_paper_s_accuracies(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ran(["list", "resnet50"], capsys).splitlines()
    assert shown[1].split()[-4:] == ["params", "macs", "top-1", "top-5"]
    assert shown[-1].split() == ["root-64", "64", "32", "16", "8", "15,365,928", "2,114,859,008", ".732", ".915"]
    (found,) = json.loads(ran(["list", "nin", "--format", "json"], capsys))
    assert found["costs"]["Orig."] == {"params": 966986, "macs": 222486528}
    assert found["paper"]["Orig."] == {"accuracy": ".9211"}
    assert found["paper"]["tree-4"] == {"accuracy": None}
    total: dict[str, Any] = json.loads(ran(["cost", ROOT, "--format", "json"], capsys))
    assert found["costs"]["root-4"] == {name: total[name] for name in ("params", "macs")}


def test_tables_show_accuracies_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ran(["tables", "nin"], capsys).splitlines()
    assert shown[1].split("  ")[-3:] == ["accuracy", "CPU ms", "GPU ms"]
    assert shown[3].split()[-3:] == [".9211", "39.0", "0.623"]
    rows = {row["table"]: row for row in json.loads(ran(["tables", "--format", "json"], capsys))}
    assert [rows["Table 5"][name] for name in ("accuracy", "top1", "top5", "cpu_ms", "gpu_ms")] == [
        None, ".7790", ".9396", None, None,
    ]  # fmt: skip
    assert [rows["Table 6"][name] for name in ("top1", "cpu_ms", "gpu_ms")] == [".683", "207", "3.59"]


def test_list_layers_has_every_type_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(ran(["list", "--layers", "--format", "json"], capsys))
    assert sorted(entry["type"] for entry in found) == sorted(TYPES)
    chapters = [entry["chapter"] for entry in found]
    assert list(dict.fromkeys(chapters))[:3] == ["data", "vision", "recurrent"]
    assert {entry["type"]: entry["chapter"] for entry in found}["ReLU"] == "activation"
    assert main(["list", "nin", "--layers"]) == 2


@pytest.mark.torch
def test_list_layers_says_what_the_torch_engine_runs(capsys: pytest.CaptureFixture[str]) -> None:
    from rootgen.engine.torch.layers import BUILDERS

    said = {
        entry["type"]: entry["torch"] for entry in json.loads(ran(["list", "--layers", "--format", "json"], capsys))
    }
    assert {name for name, word in said.items() if word == "yes"} == {*BUILDERS, "Data"}
    assert {name for name, word in said.items() if word == "fed"} == {n for n in TYPES if TYPES[n].fed} - {"Data"}
    assert {name: word for name, word in said.items() if word.startswith("no")} == {
        name: f"no: {entry.not_in_torch}" for name, entry in TYPES.items() if entry.not_in_torch
    }


@pytest.mark.caffe
def test_list_layers_says_what_caffe_runs(capsys: pytest.CaptureFixture[str]) -> None:
    from rootgen.engine.caffe.runtime import pycaffe

    known = set(pycaffe().layer_type_list())
    said = {
        entry["type"]: entry["caffe"] for entry in json.loads(ran(["list", "--layers", "--format", "json"], capsys))
    }
    assert {name for name, word in said.items() if word == "yes"} <= known <= set(said)
    assert {name for name, word in said.items() if word == "with --opencv"} == {"ImageData", "WindowData"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["emit", "nin", "--roots", "8"], "rootgen emit: no option '--roots', did you mean '--root'?"),
        (["solver", "--roots=8"], "rootgen solver: no option '--roots', did you mean '--root'?"),
        (["draw", "x", "--outt", "y.svg"], "rootgen draw: no option '--outt', did you mean '--out'?"),
        (["cost", "x", "--zebra"], "rootgen cost: no option '--zebra' (see rootgen cost --help)"),
        (["cost", "x", "-z"], "rootgen cost: no option '-z' (see"),
        (["list", "nin", "resnet50"], "rootgen list: 'resnet50' is too much"),
        (["caffe", "build", "--jbos", "2"], "rootgen caffe: no option '--jbos', did you mean '--jobs'?"),
        (["caffe", "biuld"], "rootgen caffe: argument build|check|env: no choice 'biuld', did you mean 'build'?"),
        (["cost", "x", "--format", "jsn"], "rootgen cost: argument --format: no choice 'jsn', did you mean 'json'?"),
        (["cost", "x", "--phase", "xyz"], "rootgen cost: argument --phase: no choice 'xyz', choose from TRAIN, TEST"),
    ],
)
def test_wrong_options_and_choices_get_the_nearest(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_an_option_s_value_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'name: "--roots"' in ran(["emit", "nin", "--name=--roots"], capsys)
    assert main(["cost", "--", "--roots"]) == 1  # the file of that name is not there


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"], ["help", "--help"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = ran(words, capsys)
    assert all(f"\n  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("words", [["cost"], ["caffe", "build"]])
def test_help_of_a_verb_is_its_own(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for call in (["help", *words], [*words, "--help"]):
        with pytest.raises(SystemExit) as stopped:
            main(call)
        assert stopped.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and f"usage: rootgen {' '.join(words)} " in texts[0]


def test_help_of_what_is_no_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "csot"]) == 2
    assert capsys.readouterr().err == "rootgen: no command 'csot' (did you mean 'cost'?)\n"


@pytest.mark.parametrize(
    "words",
    [
        ["emit", "resnet-50"],
        ["solver", "resnet-50"],
        ["list", "resnet-50"],
        ["tables", "resnet-50"],
        ["tables", "nin", "resnet-50"],
        ["reproduce", "resnet-50"],
        ["plot", "resnet-50"],
        ["data", "resnet-50", "--out", "x"],
    ],
)
def test_a_wrong_name_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "'resnet-50'" in said.err
    assert ("did you mean 'resnet50'?" in said.err) == (words[0] != "data")


def test_list_loads_nothing_heavy() -> None:
    script = "import sys; from rootgen.cli import main; main(['list']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "rootgen.cli.commands.list" in loaded
    assert not {"google.protobuf", "jinja2", "numpy", "rich", "matplotlib", "torch", "rootgen.net.cost"} & loaded


def test_json_has_no_number_that_is_none() -> None:
    text = output.json_list([{"a": float("nan"), "b": [float("inf"), 1], "c": {"d": float("-inf")}}])
    assert text == '[\n{"a": null, "b": [null, 1], "c": {"d": null}}\n]\n'
    assert output.json_list([]) == "[\n]\n"
    assert output.csv_table([{"a": float("nan"), "b": None, "c": 0}]) == "a,b,c\n,,0\n"


def test_unknown_costs_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "n.prototxt"
    data = "layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 1 } } }"
    net.write_text(f"{data} layer {{ name: 'u' type: 'Python' bottom: 'd' top: 'u' }}")
    found = json.loads(ran(["cost", str(net), "--format", "json"], capsys))
    assert found["unknown"] == ["u"]
    unknown = next(layer for layer in found["layers"] if layer["name"] == "u")
    assert (unknown["output"], unknown["params"], unknown["macs"]) == (None, None, None)
    assert ",u,Python,1,,,\n" in ran(["cost", str(net), "--format", "csv"], capsys)


def test_architectures_are_all_in_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert [entry["arch"] for entry in json.loads(ran(["list", "--format", "json"], capsys))] == list(architectures())
