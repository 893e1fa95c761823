"""The face: names that come late and stay functions, and arguments that are told by name where they do not do."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rootgen
from rootgen.cli import main
from rootgen.errors import RootgenError

ROOT = Path(rootgen.__file__).parents[1]
CONV = """
# a comment that stays
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 4 dim: 8 dim: 8 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param { num_output: 8 kernel_size: 1 } }
"""
USE = (
    f"assert [c.after for c in rootgen.transform(rootgen.parse({CONV!r}), root=4).changes] == [1, 4];"
    "from rootgen.transform import stages; assert stages.spatial_convolutions"
)
EVERY = """
import importlib, pkgutil, rootgen
for module in pkgutil.walk_packages(rootgen.__path__, 'rootgen.'):
    if module.name.rpartition('.')[2] != '__main__':
        try:
            importlib.import_module(module.name)
        except ImportError as error:  # what needs a module that is not installed
            assert not (error.name or '').startswith('rootgen'), error
"""


def fresh(program: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_is_there_and_has_words_of_its_own() -> None:
    assert {*rootgen.__all__, "__version__"} == set(dir(rootgen))
    for name in rootgen.__all__:
        thing = getattr(rootgen, name)
        assert callable(thing), name
        assert thing.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'emitt'"):
        rootgen.emitt  # noqa: B018


def test_a_type_checker_finds_each_name_where_it_comes_from() -> None:
    """The imports for types and the table that serves at run time say the same."""
    tree = ast.parse(Path(rootgen.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    found = {
        alias.name: (node.module or "").removeprefix("rootgen.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert found == {**rootgen._MODULES, "transform": "transform.open"}
    assert sorted(found) == rootgen.__all__


def test_every_name_stays_what_it_is_whatever_was_imported() -> None:
    """A submodule of the same name takes a name's place in its package when it is imported."""
    told = "print({name: getattr(rootgen, name).__module__ for name in rootgen._MODULES})"
    expected = str({name: f"rootgen.{module}" for name, module in rootgen._MODULES.items()})
    assert fresh(f"{EVERY}{told}\n{USE}").strip() == expected
    assert fresh(f"import rootgen; {told}; {USE}\n{EVERY}{told}\n{USE}").split("\n")[:2] == [expected, expected]


@pytest.mark.parametrize(
    "before",
    [
        "import rootgen",
        "import rootgen; rootgen.transform",
        "from rootgen.transform import stages; import rootgen",
        "import rootgen.transform.transform, rootgen",
        "from rootgen import transform; import rootgen; assert transform is rootgen.transform",
    ],
)
def test_transform_is_a_function_and_a_room(before: str) -> None:
    fresh(f"{before}; {USE}")


def test_help_shows_the_arguments_of_transform() -> None:
    names = list(inspect.signature(rootgen.transform).parameters)
    assert names[:4] == ["net", "root", "column", "tree"]
    assert "rootgen.transform(net, root=8)" in (inspect.getdoc(rootgen.transform) or "")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--root", "8"], {"root": 8}),
        (["--tree", "2", "--group", "conv3a=16"], {"tree": 2, "group": {"conv3a": 16}}),
        (["--column", "4", "--phase", "deploy", "--batch-size", "7"],
         {"plan": rootgen.Plan("column", 4), "phase": "deploy", "batch_size": 7}),
        (["--classes", "5", "--crop", "64", "--data", "d", "--mean", "1,2,3", "--name", "n", "--test-batch-size", "3"],
         {"classes": 5, "crop": 64, "data": Path("d"), "mean": "1,2,3", "name": "n", "test_batch_size": np.int64(3)}),
    ],
)  # fmt: skip
def test_emit_is_the_command(words: list[str], options: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emit", "nin", *words]) == 0
    assert rootgen.emit("nin", **options) == capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--root", "4"], {"root": 4}),
        (["--base-lr", "0.05", "--max-iter", "90", "--seed", "3", "--solver-mode", "CPU", "--net", "n/net.prototxt"],
         {"base_lr": np.float64(0.05), "max_iter": 90, "seed": 3, "solver_mode": "CPU", "net": Path("n/net.prototxt")}),
        (["--train-images", "500", "--test-images", "90", "--batch-size", "50", "--test-batch-size", "9"],
         {"train_images": 500, "test_images": 90, "batch_size": 50, "test_batch_size": 9}),
    ],
)  # fmt: skip
def test_solver_is_the_command(words: list[str], options: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solver", "nin", *words]) == 0
    assert rootgen.solver("nin", **options) == capsys.readouterr().out


def test_transform_is_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(CONV)
    assert main(["transform", str(path), "--root", "4"]) == 0
    text = capsys.readouterr().out
    assert main(["transform", str(path), "--root", "4", "--dry-run"]) == 0
    table = capsys.readouterr().out
    found = rootgen.transform(path, root=4)
    assert (found.text, f"{found}\n") == (text, table)
    assert rootgen.transform(rootgen.read(path), plan=rootgen.Plan("root", 4)).text == text
    assert [(row["name"], row["after"]) for row in found.rows] == [("a", 1), ("b", 4)]
    assert found.net.cost() == found.after
    assert "group: 4" in found.text.partition("# a comment that stays")[2]
    assert "<table>" in found._repr_html_()


def test_transform_reads_a_path_as_it_is_told_and_a_net_as_it_was_read(tmp_path: Path) -> None:
    text = CONV.replace("dim: 8 dim: 8", "dim: 9 dim: 9")
    (tmp_path / "net.prototxt").write_text(text)
    wide = rootgen.transform(tmp_path / "net.prototxt", root=2, input=(4, 20, 20), phase="TRAIN")
    assert (wide.before.input, wide.before.phase) == ((4, 20, 20), "TRAIN")
    again = rootgen.transform(rootgen.parse(text, input=(4, 20, 20), phase="TRAIN"), root=2)
    assert (again.text, again.before.input) == (wide.text, wide.before.input)
    with pytest.raises(RootgenError, match="net is a net that was read already, without input"):
        rootgen.transform(rootgen.parse(text), root=2, input=(4, 20, 20))


NET = rootgen.parse(CONV)
OR_PATH = "a net (rootgen.parse and rootgen.read give one) or the path of one"
WRONG = [
    (lambda: rootgen.emit(5), "arch is an int, not an architecture's name, one of those that `rootgen list` shows"),
    (lambda: rootgen.emit("nin", root="8"), "root is a str, not a whole number"),
    (lambda: rootgen.emit("nin", root=8.0), "root is a float, not a whole number"),
    (lambda: rootgen.emit("nin", tree=True), "tree is a bool, not a whole number"),
    (
        lambda: rootgen.emit("nin", group=[("conv2a", 2)]),
        "group is a list, not a dict of layer name to number of groups",
    ),
    (lambda: rootgen.emit("nin", group={"conv2a": "2"}), "group['conv2a'] is a str, not a whole number"),
    (lambda: rootgen.emit("nin", group={3: 2}), "a layer of group is an int, not text"),
    (lambda: rootgen.emit("nin", plan="root-8"), "plan is a str, not a rootgen.Plan"),
    (lambda: rootgen.emit("nin", batch_size=2.5), "batch_size is a float, not a whole number"),
    (lambda: rootgen.emit("nin", name=b"x"), "name is a bytes, not text"),
    (lambda: rootgen.emit("nin", data=b"x"), "data is a bytes, not a path"),
    (lambda: rootgen.solver("nin", base_lr="0.1"), "base_lr is a str, not a number"),
    (lambda: rootgen.solver("nin", seed="1"), "seed is a str, not a whole number"),
    (lambda: rootgen.parse(Path("x")), "text is a PosixPath, not the text of a prototxt (rootgen.read takes a path)"),
    (lambda: rootgen.parse(CONV, input="3x8x8"), "input is a str, not a tuple of sizes, as (3, 224, 224)"),
    (lambda: rootgen.parse(CONV, input=(3, 8, 8.0)), "input[2] is a float, not a whole number"),
    (lambda: rootgen.parse(CONV, stages="x"), "stages is a str, not a list of names"),
    (lambda: rootgen.parse(CONV, shapes=[]), "shapes is a list, not a dict of blob name to shape"),
    (lambda: rootgen.parse(CONV, lenient=1), "lenient is an int, not True or False"),
    (lambda: rootgen.read(3), "path is an int, not a path"),
    (lambda: rootgen.read(None), "path is a NoneType, not a path"),
    (lambda: rootgen.diff(NET, 3), f"b is an int, not {OR_PATH}"),
    (lambda: NET.diff("x"), "other is a str, not a net (rootgen.parse and rootgen.read give one)"),
    (lambda: NET.cost(3), "convention is an int, not text"),
    (lambda: rootgen.transform(3, root=2), f"net is an int, not {OR_PATH}"),
    (lambda: rootgen.transform(NET, root=2, insert_1x1="yes"), "insert_1x1 is a str, not True or False"),
    (lambda: rootgen.transform(NET, rot=2), "transform has no argument 'rot' (did you mean 'root'?)"),
    (lambda: rootgen.draw("net.prototxt", inputs=(3, 8, 8)), "draw has no argument 'inputs' (did you mean 'input'?)"),
    (lambda: rootgen.draw(3), f"net is an int, not {OR_PATH}"),
    (lambda: rootgen.draw(NET, 3), "out is an int, not a path or an open file"),
    (lambda: rootgen.train(3), "solver is an int, not a path"),
    (lambda: rootgen.train("s", weights=[3]), "an element of weights is an int, not a path"),
    (
        lambda: rootgen.train("s", watcher=print),
        "watcher is a builtin_function_or_method, not a rootgen.engine.train.Watcher",
    ),
    (lambda: rootgen.train("s", max_iter="9"), "max_iter is a str, not a whole number"),
    (lambda: rootgen.measure(NET), "net is a LoadedNet, not a path"),
    (lambda: rootgen.measure("n", iterations="3"), "iterations is a str, not a whole number"),
    (lambda: rootgen.open_network(3), "net_path is an int, not a path"),
    (lambda: rootgen.open_trainer(["x"]), "solver_path is a list, not a path"),
    (lambda: rootgen.correlate(3), "model is an int, not a path"),
    (lambda: rootgen.correlate("m", pairs="a-b"), "pairs is a str, not a list of names"),
    (lambda: rootgen.correlate("m", data=3), "data is an int, not a path or several"),
    (lambda: rootgen.correlate("m", report=3), "report is an int, not a function of (what, done, total)"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_wrong_type_is_a_type_error_that_names_the_argument(call, message) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == message


REFUSED = [
    (lambda: rootgen.emit("nim"), "did you mean 'nin'?"),
    (lambda: rootgen.emit("nin", root=0), "root 0: the number of groups is a whole number from 1 to 65536"),
    (lambda: rootgen.emit("nin", root=2, tree=2), "root=2 and tree=2: only one rule at a time"),
    (lambda: rootgen.emit("nin", root=2, plan=rootgen.Plan("tree", 2)), "plan is tree-2, and root-2 is asked for too"),
    (lambda: rootgen.emit("nin", root=7), "group 7 does not divide"),
    (lambda: rootgen.emit("nin", group={"conv9": 2}), "no convolution 'conv9' to give groups to"),
    (lambda: rootgen.emit("nin", batch_size=0), "batch_size is 0, but has to be from 1 to 2147483647"),
    (lambda: rootgen.emit("nin", phase="deplyo"), "no phase 'deplyo' (did you mean 'deploy'?)"),
    (lambda: rootgen.emit("nin", phase="deploy", data="x"), "data is for a train_val net"),
    (lambda: rootgen.solver("nin", base_lr=float("nan")), "base_lr is nan, but has to be a number above 0"),
    (lambda: rootgen.solver("nin", solver_mode="cpu"), "no solver_mode 'cpu'"),
    (lambda: rootgen.parse("net.prototxt"), "'net.prototxt' is a path and no prototxt (rootgen.read takes a path)"),
    (lambda: rootgen.parse(CONV, input=(3, 8)), "the input 3x8 is not channels x height x width"),
    (lambda: rootgen.parse(CONV, input=(3, 8, 0)), "input[2] is 0, but has to be from 1"),
    (lambda: rootgen.parse(CONV, phase="test"), "no phase 'test'"),
    (lambda: rootgen.parse(CONV, batch_size=-1), "batch_size is -1, but has to be from 1"),
    (lambda: rootgen.read(CONV), "path is text and no path (rootgen.parse takes the text of a net)"),
    (lambda: rootgen.read("nowhere.prototxt"), "nowhere.prototxt: cannot read: No such file or directory"),
    (lambda: NET.cost("mac"), "no convention 'mac' (did you mean 'macs'?)"),
    (lambda: rootgen.transform(NET), "no groups asked for"),
    (lambda: rootgen.transform(NET, root=2, stage_by="blok"), "no stage_by 'blok' (did you mean 'block'?)"),
    (lambda: rootgen.draw(NET, "net.gif"), "net.gif: cannot draw '.gif' (use .svg, .png or .pdf)"),
    (lambda: rootgen.draw(NET, format="gif"), "no format 'gif'"),
    (lambda: rootgen.train("s", weights="w", snapshot="auto"), "weights and a snapshot to go on from"),
    (lambda: rootgen.train("s", engine="tensorflow"), "no engine 'tensorflow'"),
    (lambda: rootgen.measure("n", iterations=0), "iterations is 0, but has to be from 1"),
    (lambda: rootgen.correlate("m", draw=["whitend"]), "no draw 'whitend' (did you mean 'whitened'?)"),
    (lambda: rootgen.correlate("m", images=0), "images is 0, but has to be from 1"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_a_value_out_of_range_is_a_rootgen_error(call, message) -> None:
    with pytest.raises(RootgenError) as caught:
        call()
    assert message in str(caught.value)
    assert caught.value.what


def test_an_error_has_its_parts() -> None:
    with pytest.raises(RootgenError) as caught:
        rootgen.parse(CONV.replace("num_output: 8 kernel_size: 1", "num_output: 8 kernel_size: 1 group: 3"))
    error = caught.value
    assert (error.what[:21], error.where, error.hint) == ("group 3 does not divi", "<text>:6: layer 'c'", None)
    assert str(error) == f"{error.where}: {error.what}"
    with pytest.raises(RootgenError) as caught:
        rootgen.emit("nim")
    assert caught.value.hint == "did you mean 'nin'?"


def test_a_net_that_was_diffed_by_path_is_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name for name in ("a.prototxt", "b.prototxt")]
    for path, text in zip(paths, (CONV, CONV.replace("8 kernel_size: 1", "6 kernel_size: 1")), strict=True):
        path.write_text(text)
    assert rootgen.diff(*paths, input=(4, 16, 16)).before.input == (4, 16, 16)
    found = rootgen.diff(*paths)
    assert main(["diff", *map(str, paths)]) == 0
    assert capsys.readouterr().out.partition("\n\n")[2] == f"{found}\n"
    assert main(["diff", *map(str, paths), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["layers"]
    assert [row["macs_after"] for row in found.rows] == [row["after"]["macs"] for row in told]
