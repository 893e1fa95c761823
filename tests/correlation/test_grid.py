"""Correlations of several nets beside one another, from their folders; and folders that hold something else."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rootgen.cli import main
from rootgen.correlation import block_score, grid, saved
from rootgen.correlation.report import CorrelatedPair, Score, save_arrays, save_scores
from rootgen.correlation.whitening import Correlation
from rootgen.errors import RootgenError

EARLIER = "images,pair,group,score,rows,columns,samples,dead_rows,dead_columns"  # what earlier releases wrote


def matrices(rows: int, columns: int, group: int, seed: int) -> np.ndarray:
    """Random, and twice as large inside the blocks of `group` groups."""
    matrix = np.random.default_rng(seed).random((rows, columns))
    blocks = np.kron(np.eye(group), np.ones((rows // group, columns // group)))
    return matrix * (1 + blocks * (group > 1))


def folder(
    path: Path, group: int, *, control: bool = True, pairs: tuple[str, ...] = ("a-b",), columns: int = 16
) -> Path:
    """What a correlation leaves, of a pair of 32 x 16 filters."""
    sides: list[list[CorrelatedPair]] = [[], []]
    scores = []
    for number, name in enumerate(pairs):
        for side, seed in zip(sides, (number, 100 + number), strict=True):
            matrix = matrices(32, columns, group, seed)
            result = Correlation(matrix, matrix, np.eye(32), np.eye(columns), (0, 0), 99, ((4, 4), (4, 4)))
            row = Score("test", name, group, block_score(matrix, group), 32, columns, 99, 0, 0)
            side.append(CorrelatedPair(("a", "b"), result, row, group))
        scores.append(sides[0][-1].row)
    path.mkdir(parents=True, exist_ok=True)
    save_arrays(path / "test.npz", sides[0])
    if control:
        (path / "untrained").mkdir(exist_ok=True)
        save_arrays(path / "untrained/test.npz", sides[1])
    save_scores(path / "scores.csv", scores)
    return path


def words_of(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_nets_stand_beside_one_another_on_one_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "orig/seed-1/correlation", 1)
    folder(tmp_path / "root-8/seed-1/correlation", 8)
    out = tmp_path / "out.svg"
    assert main(["grid", *map(str, sorted(tmp_path.glob("*/seed-1/correlation"))), "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n{tmp_path}/out.csv\n"
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(row["net"], row["group"], row["blocks"]) for row in rows] == [("orig", "1", "8"), ("root-8", "8", "8")]
    assert float(rows[0]["score"]) == pytest.approx(block_score(matrices(32, 16, 1, 0), 8), abs=1e-3)
    assert float(rows[1]["untrained_score"]) == pytest.approx(block_score(matrices(32, 16, 8, 100), 8), abs=1e-3)
    nets = grid.read({row["net"]: tmp_path / row["net"] / "seed-1/correlation" for row in rows})
    figure = grid.draw(nets)
    maps = [axes for axes in figure.axes if axes.images and axes.images[0].get_array().shape == (32, 16)]
    assert len(maps) == 4  # two nets, trained and not
    assert len({axes.images[0].get_clim() for axes in maps}) == 1
    assert [len(axes.lines) for axes in maps] == [0, 14, 0, 14]  # borders between 8 groups, along both axes
    assert [int(tick) for tick in maps[1].get_yticks()] == list(range(0, 33, 4))
    means = [axes for axes in figure.axes if axes.images and axes.images[0].get_array().shape == (8, 8)]
    assert len(means) == 4
    said = words_of(figure)
    assert "orig\nno groups" in said and "root-8\n8 groups" in said
    assert f"block score by 8 blocks: {float(rows[0]['score']):.2f}" in said
    assert f"block score {float(rows[1]['score']):.2f}" in said


def test_more_nets_than_fit_are_below_and_controls_may_be_wanting(tmp_path: Path) -> None:
    nets = {str(number): folder(tmp_path / str(number), 2, control=number > 0) for number in range(grid.WIDEST + 2)}
    figure = grid.draw(grid.read(nets))
    assert len([axes for axes in figure.axes if axes.images]) == 2 * (2 * len(nets) - 1)
    none = grid.draw(grid.read({name: folder(tmp_path / f"n{name}", 2, control=False) for name in "ab"}))
    assert "untrained" not in words_of(none)


def test_folders_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    names = grid.names_of(["x/orig/seed-1/correlation", "x/root-8/seed-2/correlation"])
    assert list(names) == ["orig/seed-1", "root-8/seed-2"]
    assert list(grid.names_of(["a_correlation", "b_correlation"])) == ["a", "b"]
    assert list(grid.names_of(["NiN=a/b", "c"])) == ["NiN", "c"]
    assert grid.names_of(["NiN=a/b"]) == {"NiN": Path("a/b")}
    assert list(grid.names_of(["x/model_correlation"])) == ["model"]
    with pytest.raises(RootgenError, match="two are called 'a'"):
        grid.names_of(["a=x", "a=y"])


def test_what_cannot_stand_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = folder(tmp_path / "one", 2, pairs=("a-b", "b-c")), folder(tmp_path / "two", 2, pairs=("a-b", "b-c"))
    other = folder(tmp_path / "other", 2, pairs=("x-y",))
    out = ["-o", str(tmp_path / "grid.png")]
    for words, message, code in (
        ([one, two], "several pairs: name one of them (known: a-b, b-c)", 2),
        ([one, other], "one: has no pair that the others have too", 1),
        ([one, other, "--pair", "x-y"], "one: no score of x-y on test images (known: a-b on test, b-c on test)", 1),
        ([one, "--images", "train"], "no score of b-c on train images", 1),
        ([tmp_path / "none"], "none/scores.csv: cannot read", 1),
        ([one, one], "two are called 'one'", 1),
    ):
        pair = ["--pair", "b-c"] if "--images" in words else []
        assert main(["grid", *map(str, words), *pair, *out]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main(["grid", str(one), "--pair", "a-b", "-o", str(tmp_path / "grid.txt")]) == 1
    assert "cannot draw '.txt'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "two"]


def test_scores_of_earlier_releases_are_read(tmp_path: Path) -> None:
    held = folder(tmp_path / "x", 2, control=False)
    score = saved.read_scores(held)[0]
    (held / "scores.csv").write_text(f"{EARLIER}\ntest,a-b,2,{score.score:.4f},32,16,99,0,0\n")
    (net,) = grid.read({"x": held})
    assert np.isnan(net.score.untrained_score)
    assert net.score.blocks.score(net.whitened) == pytest.approx(score.score, abs=1e-3)


@pytest.mark.parametrize(
    "content",
    [
        "",
        EARLIER + "\n",
        "a,b\n1,2\n",
        EARLIER + "\ntest,a-b,2,1,32\n",
        EARLIER + "\ntest,a-b,2,x,32,16,9,0,0\n",
        EARLIER + "\ntest,a-b,0,1,32,16,9,0,0\n",
        EARLIER + "\ntest,a-b,3,1,32,16,9,0,0\n",
        EARLIER + "\ntest,a-b,2,1,9999999,16,9,0,0\n",
        EARLIER + "\ntest,a-b,2,1,-4,16,9,0,0\n",
        "\0\0\0",
    ],
)
def test_damaged_scores_are_one_line(tmp_path: Path, content: str) -> None:
    held = folder(tmp_path / "x", 2)
    (held / "scores.csv").write_text(content)
    with pytest.raises(RootgenError, match=r"scores\.csv: (no scores of a correlation|damaged|holds no scores)"):
        saved.read_scores(held)


def bomb() -> bytes:
    """A .npz whose array says that it has 32 x 16 values and goes on for 64 MiB."""
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w", zipfile.ZIP_DEFLATED) as archive:
        array = io.BytesIO()
        np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (32, 16)})
        archive.writestr("a-b.whitened.npy", array.getvalue() + bytes(2**26))
    return text.getvalue()


def arrays(**held: np.ndarray) -> bytes:
    text = io.BytesIO()
    np.savez(text, **{name.replace("__", "-").replace("_", "."): value for name, value in held.items()})
    return text.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no correlation of a-b, or damaged"),
        (bytes(500), "no correlation of a-b, or damaged"),
        (arrays(x=np.zeros(3)), "no correlation of a-b, or damaged"),
        (arrays(a__b_whitened=np.zeros((3, 3), np.float32)), r"float32 of \(3, 3\) where float32 of \(32, 16\)"),
        (arrays(a__b_whitened=np.zeros((32, 16))), r"float64 of \(32, 16\) where float32"),
        (arrays(a__b_whitened=np.full((32, 16), np.nan, np.float32)), "values that are not finite"),
        (arrays(a__b_whitened=np.array([{}])), "object of"),
    ],
)
def test_damaged_arrays_are_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    held = folder(tmp_path / "x", 2)
    (held / "test.npz").write_bytes(content)
    with pytest.raises(RootgenError, match=rf"test\.npz: .*{message}"):
        grid.read({"x": held})


def test_no_more_of_an_array_is_unpacked_than_its_size_says(tmp_path: Path) -> None:
    import tracemalloc

    held = folder(tmp_path / "x", 2)
    (held / "test.npz").write_bytes(bomb())
    tracemalloc.start()
    (net,) = grid.read({"x": held})
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert not net.whitened.any()
    grid.draw([net])  # all zeros: a scale there is all the same
