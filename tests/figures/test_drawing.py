"""Drawings from Python: what the command writes, in notebooks, at paths and in open files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import rootgen
from rootgen.cli import main
from rootgen.errors import RootgenError


@pytest.fixture
def nin(tmp_path: Path) -> Path:
    path = tmp_path / "nin.prototxt"
    path.write_text(rootgen.emit("nin", root=4, phase="deploy"))
    return path


def test_a_drawing_is_what_the_command_writes(nin: Path, tmp_path: Path) -> None:
    assert main(["draw", str(nin), "-o", str(tmp_path / "a.svg")]) == 0
    expected = (tmp_path / "a.svg").read_bytes()
    made = rootgen.draw(rootgen.read(nin))
    assert made._repr_svg_().encode() == expected
    assert rootgen.draw(nin, tmp_path / "b.svg").svg().encode() == (tmp_path / "b.svg").read_bytes() == expected


def test_a_drawing_goes_to_open_files(nin: Path, tmp_path: Path) -> None:
    text, binary = io.StringIO(), io.BytesIO()
    made = rootgen.draw(nin, text)
    made.save(binary)
    assert text.getvalue().encode() == binary.getvalue() == made.svg().encode()
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        binary = io.BytesIO()
        made.save(binary, format=kind)
        assert binary.getvalue().startswith(start)
        made.save(tmp_path / "no_suffix", format=kind)
        assert (tmp_path / "no_suffix").read_bytes() == binary.getvalue()
        with (tmp_path / f"file.{kind}").open("wb") as file:  # the name says the format
            made.save(file)
        assert (tmp_path / f"file.{kind}").read_bytes() == binary.getvalue()
    with pytest.raises(TypeError, match="out is open for text, but a png is bytes"):
        made.save(io.StringIO(), format="png")
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(RootgenError, match="/dev/full: cannot write"):  # noqa: PTH123
        made.save(full, "svg")


def test_keywords_of_reading_go_with_a_path(nin: Path) -> None:
    assert "3 × 64 × 64" in rootgen.draw(nin, input=(3, 64, 64)).svg()
    with pytest.raises(RootgenError, match="read already, without input"):
        rootgen.draw(rootgen.read(nin), input=(3, 64, 64))
