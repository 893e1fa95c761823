"""The Python on README and in docs/python.md runs, in the page's order, and prints what the page shows.

A ```python block is followed by a ```text block with what it prints, if it prints anything; `...` as in README's
commands. The blocks of a page share their names and a folder of their own.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from test_readme import ROOT, as_pattern

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
PAGES = ("README.md", "docs/python.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """(program, expected output) of every block."""
    return BLOCK.findall((ROOT / page).read_text("utf-8"))


@pytest.mark.torch
@pytest.mark.parametrize("page", PAGES)
def test_programs_print_what_the_page_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert blocks(page)
    for program, expected in blocks(page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(program, page, "exec"), names)
        assert re.fullmatch(as_pattern(expected), out.getvalue()), f"{program}\nprints\n{out.getvalue()}"


def test_every_block_of_output_belongs_to_a_program() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        assert text.count("```text\n") == sum(bool(expected) for _, expected in blocks(page))
        assert text.count("```python\n") == len(blocks(page))


def test_the_page_names_the_whole_face() -> None:
    import rootgen

    text = (ROOT / "docs/python.md").read_text("utf-8")
    assert [name for name in rootgen.__all__ if not re.search(rf"\b{name}\b", text)] == []
